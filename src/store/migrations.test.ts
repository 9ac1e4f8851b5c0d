import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { migrationsModule } from '../../drizzle/write-module.ts'

test('the module of migrations says what the files say', () => {
  expect(readFileSync(join(import.meta.dirname, 'migrations-sqlite.ts'), 'utf8')).toBe(migrationsModule())
})
