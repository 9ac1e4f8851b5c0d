import type { Log } from '../core/log.ts'
import type { SqlDriver } from './database.ts'
import { MIGRATIONS as POSTGRES } from './migrations-postgres.ts'
import { MIGRATIONS as SQLITE } from './migrations-sqlite.ts'

/** A step of the schema. */
export interface Migration {
  readonly name: string
  readonly statements: readonly string[]
}

/** The steps of SQLite, libsql and D1, in order. */
// Pure, so that a bundle has only the steps that it uses.
export const SQLITE_MIGRATIONS: readonly Migration[] = /* @__PURE__ */ SQLITE.map(step)
/** The steps of PostgreSQL; which schema the tables lie in is a matter of the connection. */
export const POSTGRES_MIGRATIONS: readonly Migration[] = /* @__PURE__ */ POSTGRES.map(([name, sql]) =>
  step([name, sql.replaceAll('"public".', '')]),
)

function step([name, sql]: readonly [name: string, sql: string]): Migration {
  return { name, statements: sql.split('--> statement-breakpoint') }
}

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
  if (version === 0) log.info('Initializing new database')
  while (version < migrations.length) {
    const { name, statements } = migrations[version]!
    try {
      await driver.batch([
        { sql: VERSIONS, args: [] },
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

const VERSIONS = 'CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)'

/** 0 also where it cannot be read: the first step, which then fails as a whole, says why. */
async function versionOf(driver: SqlDriver): Promise<number> {
  try {
    const [row] = await driver.run({ sql: 'SELECT coalesce(max(version), 0) AS version FROM schema_version', args: [] })
    return Number(row!.version)
  } catch {
    return 0
  }
}
