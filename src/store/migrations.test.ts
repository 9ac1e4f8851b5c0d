import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { DIALECTS, migrationsModule } from '../../drizzle/write-module.ts'

test.each(DIALECTS)('the module of migrations for %s says what the files say', (dialect) => {
  const module = join(import.meta.dirname, `migrations-${dialect}.ts`)
  expect(readFileSync(module, 'utf8')).toBe(migrationsModule(dialect))
})
