import pg, { type ClientConfig } from 'pg'
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

const CONNECT_TIMEOUT_MS = 10_000
const DEFAULT_CONNECTIONS = 10

/**
 * Opens a PostgreSQL database and brings its schema up to date. Statements are not kept prepared, so that a pooler may stand in between.
 * @throws Error `failed to open database "postgres": ...`, which never has the password in it
 */
export async function openPostgresStore(options: PostgresOptions): Promise<Store> {
  let driver: SqlDriver | undefined
  try {
    const settings: ClientConfig = {
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      ...parsePostgresConnection(options.connection, options.readFile),
      types: { getTypeParser },
    }
    driver = options.perCall ? perCallDriver(settings) : poolDriver(settings, options)
    await applyMigrations(driver, POSTGRES_MIGRATIONS, options.log)
    const [row] = await driver.run({ sql: 'SHOW server_version', args: [] })
    options.log.info('Connected to SQL database', {
      type: 'postgres',
      version: String(row!.server_version),
      read_only: false,
    })
    return createStore(driver, options.clock ?? systemClock, options.log)
  } catch (error) {
    await driver?.close()
    throw new Error(`failed to open database "postgres": ${errorMessage(error)}`, { cause: error })
  }
}

/** Numbers of 64 bits are moments, counters and row numbers: less than 2^53. */
const getTypeParser = ((oid: number, format?: 'text') =>
  oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser

/** What a driver needs of a client of node-postgres. */
type Queries = Pick<pg.ClientBase, 'query'>

async function query(on: Queries, { sql, args }: Statement): Promise<readonly Row[]> {
  return (await on.query<Row>(postgresSql(sql), args as SqlValue[])).rows
}

/** All or nothing. The server forgets what was begun if the connection ends. */
export async function transaction(on: Queries, statements: readonly Statement[]): Promise<(readonly Row[])[]> {
  if (statements.length === 1) return [await query(on, statements[0]!)]
  await on.query('BEGIN')
  try {
    const results: (readonly Row[])[] = []
    for (const statement of statements) results.push(await query(on, statement))
    await on.query('COMMIT')
    return results
  } catch (error) {
    await on.query('ROLLBACK').catch(() => undefined)
    throw error
  }
}

function poolDriver(
  settings: ClientConfig,
  { maxConnections, connectionLifetimeSeconds = 0 }: PostgresOptions,
): SqlDriver {
  const pool = new pg.Pool({
    ...settings,
    // Whoever waits for its turn holds one and works with another.
    max: Math.max(2, maxConnections ?? DEFAULT_CONNECTIONS),
    ...(connectionLifetimeSeconds > 0 ? { maxLifetimeSeconds: connectionLifetimeSeconds } : {}),
  })
  // A connection that ends is noticed by who uses it next; without listeners it would end the process.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return {
    run: (statement) => query(pool, statement).catch(rethrow),
    async batch(statements) {
      const client = await pool.connect().catch(rethrow)
      let failure: unknown
      try {
        return await transaction(client, statements)
      } catch (error) {
        failure = error
        return rethrow(error)
      } finally {
        // What the server itself refused leaves the connection as good as it was.
        client.release(failure !== undefined && !(failure instanceof pg.DatabaseError))
      }
    },
    async inTurn(work) {
      const client = await pool.connect().catch(rethrow)
      try {
        await takeTurn(client).catch(rethrow)
        return await work()
      } finally {
        await client.query('ROLLBACK').catch(() => undefined)
        client.release()
      }
    },
    close: () => pool.end(),
  }
}

function perCallDriver(settings: ClientConfig): SqlDriver {
  const once = async <T>(use: (client: pg.Client) => Promise<T>): Promise<T> => {
    const client = new pg.Client(settings)
    client.on('error', () => {})
    try {
      await client.connect()
      return await use(client)
    } catch (error) {
      return rethrow(error)
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  return {
    run: (statement) => once((client) => query(client, statement)),
    batch: (statements) => once((client) => transaction(client, statements)),
    async inTurn(work) {
      const outcome = await once(async (client) => {
        await takeTurn(client)
        return (await Promise.allSettled([work()]))[0]
      })
      if (outcome.status === 'rejected') throw outcome.reason
      return outcome.value
    },
    close: async () => {},
  }
}

/** Waits for the others before us. The turn ends with the transaction, so any pooler may stand in between. "Turt" is its number. */
async function takeTurn(client: Queries): Promise<void> {
  await client.query('BEGIN')
  await client.query('SELECT pg_advisory_xact_lock(1416983156)')
}

function rethrow(error: unknown): never {
  throw postgresError(error)
}

interface ServerError {
  readonly code?: string
  readonly message?: string
  readonly detail?: string
  readonly table?: string
  readonly column?: string
  readonly constraint?: string
}

/**
 * The texts that SQLite has for the same complaint, so that callers see one kind. The cause keeps the code alone: details quote values of
 * rows, which may be secrets.
 */
function postgresError(thrown: unknown): StatusError {
  if (thrown instanceof StatusError) return thrown
  const error = thrown as ServerError
  const table = error.table ?? ''
  const cause = new Error(`PostgreSQL error ${error.code ?? 'without code'}`)
  const status = (code: 'ALREADY_EXISTS' | 'UNKNOWN', text: string) =>
    new StatusError(code, `datastore-sql: ${text}`, { cause })
  switch (error.code) {
    case '23505': {
      const columns = /\(([^()]*)\)=\(/.exec(error.detail ?? '')?.[1]?.split(', ')
      const names = columns?.map((column) => `${table}.${column}`).join(', ') ?? error.constraint
      return status('ALREADY_EXISTS', `UNIQUE constraint failed: ${names}`)
    }
    case '23503':
      return status('ALREADY_EXISTS', 'FOREIGN KEY constraint failed')
    case '23502':
      return status('UNKNOWN', `NOT NULL constraint failed: ${table}.${error.column}`)
    case '40001':
    case '40P01':
      return status('UNKNOWN', `CONFLICT of transactions: ${error.message}`)
    default:
      return status('UNKNOWN', errorMessage(thrown))
  }
}
