import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import { resolve } from 'node:path'
import Database from 'libsql'
import { type Clock, systemClock } from '../core/clock.ts'
import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { Store } from '../core/store.ts'
import { applyMigrations, SQLITE_MIGRATIONS } from './migrations.ts'
import { createStore } from './sql-store.ts'
import { sqliteDriver } from './sqlite-driver.ts'

/** Where the database is: a file, or `:memory:`. */
export interface LibsqlOptions {
  readonly path?: string
  readonly log: Log
  /** Dates the change log; the system's clock unless given. */
  readonly clock?: Clock
}

/** "Turt", in the header of each file of ours. */
const APPLICATION_ID = 0x54757274
const BUSY_TIMEOUT_MS = 5000
/** Larger files are not read from end to end at every start; SQLite still reports bad pages when it meets them. */
const CHECKED_SIZE_BYTES = 16 * 1024 * 1024

/**
 * Opens (creating if need be) a database and brings its schema up to date.
 *
 * A new file gets mode 0600. A file that is not ours, SPIRE's included, is left as it is.
 * @throws Error `failed to open database "<path>": ...`
 */
export async function openLibsqlStore(options: LibsqlOptions): Promise<Store> {
  const name = options.path ?? ':memory:'
  let database: Database.Database | undefined
  try {
    const file = name === ':memory:' ? undefined : resolve(name)
    const size = file === undefined ? 0 : prepareFile(file)
    // One connection: PRAGMAs belong to a connection, and a second writer would only meet SQLITE_BUSY.
    const opened = new Database(file ?? name, { timeout: BUSY_TIMEOUT_MS })
    database = opened
    configure(opened, file !== undefined, size)
    const driver = sqliteDriver(opened, () => {
      if (file !== undefined) foldIn(opened, options.log)
    })
    await applyMigrations(driver, SQLITE_MIGRATIONS, options.log)
    const [{ version }] = opened.prepare('SELECT sqlite_version() AS version').all() as [{ version: string }]
    options.log.info('Connected to SQL database', { type: 'sqlite3', version, read_only: false })
    return createStore(driver, options.clock ?? systemClock, options.log)
  } catch (error) {
    database?.close()
    throw new Error(`failed to open database "${name}": ${errorMessage(error)}`, { cause: error })
  }
}

/** One file is left, not three: easier to copy, and nothing to recover at the next start. */
function foldIn(database: Database.Database, log: Log): void {
  try {
    database.pragma('wal_checkpoint(TRUNCATE)')
  } catch (error) {
    log.warn('The write-ahead log of the database could not be folded in', { error: errorMessage(error) })
  }
}

/** Creates the file with its mode, or looks whether the one there is ours, before SQLite may write to it. */
function prepareFile(file: string): number {
  if (!existsSync(file)) {
    closeSync(openSync(file, 'wx', 0o600))
    return 0
  }
  const descriptor = openSync(file, 'r+')
  try {
    const { size } = fstatSync(descriptor)
    if (size === 0) return 0
    const header = Buffer.alloc(100)
    const read = readSync(descriptor, header, 0, 100, 0)
    if (read < 100 || header.toString('latin1', 0, 16) !== 'SQLite format 3\0')
      throw new Error('file is not a database')
    if (header.readUInt32BE(68) !== APPLICATION_ID) {
      throw new Error('the file is a SQLite database of another program, such as SPIRE; it was left as it is')
    }
    return size
  } finally {
    closeSync(descriptor)
  }
}

function configure(database: Database.Database, isFile: boolean, sizeBytes: number): void {
  if (isFile) {
    // Ours is said before the first table, so that a crash in between leaves a file that we open again.
    if (sizeBytes === 0) database.exec(`PRAGMA application_id = ${APPLICATION_ID}`)
    database.pragma('journal_mode = WAL')
    if (sizeBytes > 0 && sizeBytes <= CHECKED_SIZE_BYTES) {
      const [row] = database.pragma('quick_check(1)') as { readonly quick_check: string }[]
      if (row?.quick_check !== 'ok') throw new Error(`database is corrupt: ${String(row?.quick_check)}`)
    }
  }
  database.exec('PRAGMA foreign_keys = ON')
}
