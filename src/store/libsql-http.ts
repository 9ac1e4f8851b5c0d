import { createClient } from '@libsql/client/http'
import { type Clock, systemClock } from '../core/clock.ts'
import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { Store } from '../core/store.ts'
import { libsqlDriver } from './libsql-driver.ts'
import { applyMigrations, SQLITE_MIGRATIONS } from './migrations.ts'
import { createStore } from './sql-store.ts'

export interface LibsqlHttpOptions {
  /** `libsql:`, `https:` or `http:` */
  readonly url: string
  readonly authToken?: string | undefined
  readonly log: Log
  /** Dates the change log; the system's clock unless given. */
  readonly clock?: Clock
}

/**
 * Opens a database of Turso or another libsql server over HTTP, where there is nothing but fetch, and brings its schema up to date.
 * @throws Error `failed to open database "<url>": ...`
 */
export async function openLibsqlHttpStore({
  url,
  authToken,
  log,
  clock = systemClock,
}: LibsqlHttpOptions): Promise<Store> {
  try {
    const driver = libsqlDriver(createClient({ url, ...(authToken ? { authToken } : {}) }))
    await applyMigrations(driver, SQLITE_MIGRATIONS, log)
    return createStore(driver, clock, log)
  } catch (error) {
    // A URL may carry a token.
    throw new Error(`failed to open database "${url.replace(/\?.*$/, '')}": ${errorMessage(error)}`, { cause: error })
  }
}
