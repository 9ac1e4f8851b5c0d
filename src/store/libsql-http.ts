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
 * @throws Error `failed to open database "<scheme>://<host>": ...`
 */
export async function openLibsqlHttpStore({
  url,
  authToken,
  log,
  clock = systemClock,
}: LibsqlHttpOptions): Promise<Store> {
  const origin = originOf(url)
  try {
    const driver = libsqlDriver(createClient({ url, ...(authToken ? { authToken } : {}) }))
    await applyMigrations(driver, SQLITE_MIGRATIONS, log)
    return createStore(driver, clock, log)
  } catch (error) {
    throw new Error(`failed to open database "${origin}": ${errorMessage(error)}`, { cause: error })
  }
}

/** The only part of a URL that may be shown: others may hold a password or a token. */
function originOf(url: string): string {
  if (/^(libsql|https?):/.test(url) && URL.canParse(url)) {
    const { protocol, host, username, password } = new URL(url)
    // fetch takes none, and its complaint would quote it.
    if (username !== '' || password !== '') {
      throw new Error('failed to open database: credentials do not belong into its URL; there is a token for them')
    }
    return `${protocol}//${host}`
  }
  throw new Error('failed to open database: its URL must start with libsql://, https:// or http://')
}
