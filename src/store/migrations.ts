import type { Log } from '../core/log.ts'
import type { SqlDriver } from './database.ts'
import { MIGRATIONS } from './migrations-sqlite.ts'

/** A step of the schema. */
export interface Migration {
  readonly name: string
  readonly statements: readonly string[]
}

/** The steps of SQLite, libsql and D1, in order. */
export const SQLITE_MIGRATIONS: readonly Migration[] = MIGRATIONS.map(([name, sql]) => ({
  name,
  statements: sql.split('--> statement-breakpoint'),
}))

/**
 * Applies what is missing, one batch a migration. Two processes that start together do no harm: the batch of the later one is refused,
 * and it finds that there is nothing left to do.
 * @throws Error if the schema is newer than this program
 */
export async function applyMigrations(driver: SqlDriver, migrations: readonly Migration[], log: Log): Promise<void> {
  let version = await versionOf(driver)
  if (version > migrations.length) {
    throw new Error(`its schema version ${version} is newer than ${migrations.length}, the newest this program knows`)
  }
  while (version < migrations.length) {
    const { name, statements } = migrations[version]!
    try {
      await driver.batch([
        ...statements.map((sql) => ({ sql, args: [] })),
        { sql: 'INSERT INTO schema_version (version) VALUES (?1)', args: [version + 1] },
      ])
      log.debug('Applied database migration', { migration: name })
    } catch (error) {
      if ((await versionOf(driver)) <= version) throw error
    }
    version += 1
  }
}

async function versionOf(driver: SqlDriver): Promise<number> {
  await driver.run({ sql: 'CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)', args: [] })
  const [row] = await driver.run({ sql: 'SELECT coalesce(max(version), 0) AS version FROM schema_version', args: [] })
  return Number(row!.version)
}
