import postgres, { type Options, type PostgresType, type Sql } from 'postgres'
import { type Clock, systemClock } from '../core/clock.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { Store } from '../core/store.ts'
import type { Row, SqlDriver, SqlValue, Statement } from './database.ts'
import { applyMigrations, POSTGRES_MIGRATIONS } from './migrations.ts'
import { parsePostgresConnection } from './postgres-connection.ts'
import { postgresSql } from './postgres-sql.ts'
import { createStore } from './sql-store.ts'

export interface PostgresOptions {
  /** `postgres://...`, or words of the form `host=... dbname=...`. */
  readonly connection: string
  /** Reads the files of certificates and keys that the connection names; needed only if it names any. */
  readonly readFile?: (path: string) => string
  /** At once; one more waits. Default 10. */
  readonly maxConnections?: number
  /** 0 or less: for ever. */
  readonly connectionLifetimeSeconds?: number
  /** A connection for each statement or batch, for runtimes whose sockets belong to one request and poolers that are near. */
  readonly perCall?: boolean
  readonly log: Log
  /** Dates the change log; the system's clock unless given. */
  readonly clock?: Clock
}

const CONNECT_TIMEOUT_SECONDS = 10
const CLOSE_TIMEOUT_SECONDS = 2
const DEFAULT_CONNECTIONS = 10
/** Numbers of 64 bits are moments, counters and row numbers: less than 2^53. */
const INT8: PostgresType<number> = { to: 20, from: [20], serialize: String, parse: Number }

/**
 * Opens a PostgreSQL database and brings its schema up to date. Statements are not kept prepared, so that a pooler may stand in between.
 * @throws Error `failed to open database "postgres": ...`, which never has the password in it
 */
export async function openPostgresStore(options: PostgresOptions): Promise<Store> {
  let driver: SqlDriver | undefined
  try {
    const settings: Options<{ int8: PostgresType<number> }> = {
      connect_timeout: CONNECT_TIMEOUT_SECONDS,
      ...parsePostgresConnection(options.connection, options.readFile),
      max: options.perCall ? 1 : (options.maxConnections ?? DEFAULT_CONNECTIONS),
      max_lifetime: Math.max(0, options.connectionLifetimeSeconds ?? 0) || null,
      prepare: false,
      fetch_types: false,
      types: { int8: INT8 },
      onnotice: () => {},
    }
    const connect = () => postgres(settings) as unknown as Client
    driver = options.perCall ? perCallDriver(connect) : postgresDriver(connect())
    await applyMigrations(driver, POSTGRES_MIGRATIONS, options.log)
    return createStore(driver, options.clock ?? systemClock, options.log)
  } catch (error) {
    await driver?.close()
    throw new Error(`failed to open database "postgres": ${errorMessage(error)}`, { cause: error })
  }
}

type Client = Sql<{ int8: number }>

/** A driver on a client of postgres.js. */
export function postgresDriver(sql: Client): SqlDriver {
  const rows = (on: Pick<Sql, 'unsafe'>, { sql: text, args }: Statement) =>
    on.unsafe<Row[]>(postgresSql(text), args as SqlValue[] as never[])
  return {
    async run(statement) {
      try {
        return await rows(sql, statement)
      } catch (error) {
        throw postgresError(error)
      }
    },
    async batch(statements) {
      try {
        if (statements.length === 1) return [await rows(sql, statements[0]!)]
        return await sql.begin((tx) => Promise.all(statements.map((statement) => rows(tx, statement))))
      } catch (error) {
        throw postgresError(error)
      }
    },
    close: () => sql.end({ timeout: CLOSE_TIMEOUT_SECONDS }),
  }
}

function perCallDriver(connect: () => Client): SqlDriver {
  const once = async <T>(use: (driver: SqlDriver) => Promise<T>): Promise<T> => {
    const driver = postgresDriver(connect())
    try {
      return await use(driver)
    } finally {
      await driver.close()
    }
  }
  return {
    run: (statement) => once((driver) => driver.run(statement)),
    batch: (statements) => once((driver) => driver.batch(statements)),
    close: async () => {},
  }
}

interface ServerError {
  readonly code?: string
  readonly message?: string
  readonly detail?: string
  readonly table_name?: string
  readonly column_name?: string
  readonly constraint_name?: string
}

/**
 * The texts that SQLite has for the same complaint, so that callers see one kind. The cause keeps the code alone: details quote values of
 * rows, which may be secrets.
 */
function postgresError(thrown: unknown): StatusError {
  if (thrown instanceof StatusError) return thrown
  const error = thrown as ServerError
  const table = error.table_name ?? ''
  const cause = new Error(`PostgreSQL error ${error.code ?? 'without code'}`)
  const status = (code: 'ALREADY_EXISTS' | 'UNKNOWN', text: string) =>
    new StatusError(code, `datastore-sql: ${text}`, { cause })
  switch (error.code) {
    case '23505': {
      const columns = /\(([^()]*)\)=\(/.exec(error.detail ?? '')?.[1]?.split(', ')
      const names = columns?.map((column) => `${table}.${column}`).join(', ') ?? error.constraint_name
      return status('ALREADY_EXISTS', `UNIQUE constraint failed: ${names}`)
    }
    case '23503':
      return status('ALREADY_EXISTS', 'FOREIGN KEY constraint failed')
    case '23502':
      return status('UNKNOWN', `NOT NULL constraint failed: ${table}.${error.column_name}`)
    case '40001':
    case '40P01':
      return status('UNKNOWN', `CONFLICT of transactions: ${error.message}`)
    default:
      return status('UNKNOWN', errorMessage(thrown))
  }
}
