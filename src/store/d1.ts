import { type Clock, systemClock } from '../core/clock.ts'
import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { Store } from '../core/store.ts'
import { databaseError, type Row, type SqlDriver, type Statement } from './database.ts'
import { applyMigrations, SQLITE_MIGRATIONS } from './migrations.ts'
import { createStore } from './sql-store.ts'

/** What is used of Cloudflare's D1 binding. */
export interface D1Binding {
  prepare(sql: string): D1Statement
  batch(statements: readonly D1Statement[]): Promise<readonly { readonly results?: readonly Row[] }[]>
}

export interface D1Statement {
  bind(...values: readonly unknown[]): D1Statement
  all(): Promise<{ readonly results?: readonly Row[] }>
}

export interface D1Options {
  readonly binding: D1Binding
  readonly log: Log
  /** Dates the change log; the system's clock unless given. */
  readonly clock?: Clock
}

/**
 * Opens a D1 database and brings its schema up to date. Queries go to the primary: sessions, and so read replicas, are not used, since an
 * old answer about a ban or a key would be a wrong one.
 * @throws Error `failed to open database "D1": ...`
 */
export async function openD1Store({ binding, log, clock = systemClock }: D1Options): Promise<Store> {
  const driver = d1Driver(binding)
  try {
    await applyMigrations(driver, SQLITE_MIGRATIONS, log)
  } catch (error) {
    throw new Error(`failed to open database "D1": ${errorMessage(error)}`, { cause: error })
  }
  return createStore(driver, clock, log)
}

/** D1 as a driver: its batch is one transaction, and it has no other. */
function d1Driver(binding: D1Binding): SqlDriver {
  const prepared = ({ sql, args }: Statement) => {
    const statement = binding.prepare(sql)
    return args.length === 0 ? statement : statement.bind(...args)
  }
  return {
    async run(statement) {
      try {
        return (await prepared(statement).all()).results ?? []
      } catch (error) {
        throw databaseError(error)
      }
    },
    async batch(statements) {
      try {
        return (await binding.batch(statements.map(prepared))).map(({ results }) => results ?? [])
      } catch (error) {
        throw databaseError(error)
      }
    },
    close: async () => {},
  }
}
