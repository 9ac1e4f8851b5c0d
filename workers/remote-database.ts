import type { Log } from '../src/core/log.ts'
import type { Store } from '../src/core/store.ts'

/** Where a database is, as variables. */
export interface DatabaseEnvironment {
  /** `libsql:`, `https:` or `http:` of a libsql server, or `postgres:`. */
  readonly DATABASE_URL?: string
  /** Secret, of a libsql server. */
  readonly DATABASE_AUTH_TOKEN?: string
}

/** Opens a database on another machine. @throws Error that does not say the password */
export async function openRemoteDatabase(env: DatabaseEnvironment, log: Log): Promise<Store> {
  const { DATABASE_URL: url = '', DATABASE_AUTH_TOKEN: authToken } = env
  if (/^postgres(ql)?:/.test(url)) {
    const { openPostgresStore } = await import('../src/store/postgres.ts')
    return openPostgresStore({ connection: url, log })
  }
  const { openLibsqlHttpStore } = await import('../src/store/libsql-http.ts')
  return openLibsqlHttpStore({ url, authToken, log })
}
