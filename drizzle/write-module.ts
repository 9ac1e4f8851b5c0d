import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const DIALECTS = ['sqlite', 'postgres'] as const

/** The text of src/store/migrations-<dialect>.ts. */
export function migrationsModule(dialect: (typeof DIALECTS)[number]): string {
  const folder = join(import.meta.dirname, dialect)
  const names = readdirSync(folder)
    .filter((name) => name.endsWith('.sql'))
    .sort()
  const pairs = names.map(
    (name) => `  [\n    '${name}',\n    \`${escaped(readFileSync(join(folder, name), 'utf8'))}\`,\n  ],\n`,
  )
  return `// Generated from drizzle/${dialect} by drizzle/generate.\n\nexport const MIGRATIONS: readonly (readonly [name: string, sql: string])[] = [\n${pairs.join('')}]\n`
}

function escaped(sql: string): string {
  return sql.replace(/[\\`]|\$\{/g, '\\$&')
}

if (import.meta.main) {
  for (const dialect of DIALECTS) {
    writeFileSync(join(import.meta.dirname, `../src/store/migrations-${dialect}.ts`), migrationsModule(dialect))
  }
}
