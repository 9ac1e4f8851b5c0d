import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The text of src/store/migrations-sqlite.ts. */
export function migrationsModule(): string {
  const folder = join(import.meta.dirname, 'sqlite')
  const names = readdirSync(folder)
    .filter((name) => name.endsWith('.sql'))
    .sort()
  const pairs = names.map(
    (name) => `  [\n    '${name}',\n    \`${escaped(readFileSync(join(folder, name), 'utf8'))}\`,\n  ],\n`,
  )
  return `// Generated from drizzle/sqlite by drizzle/generate.\n\nexport const MIGRATIONS: readonly (readonly [name: string, sql: string])[] = [\n${pairs.join('')}]\n`
}

function escaped(sql: string): string {
  return sql.replace(/[\\`]|\$\{/g, '\\$&')
}

if (import.meta.main) writeFileSync(join(import.meta.dirname, '../src/store/migrations-sqlite.ts'), migrationsModule())
