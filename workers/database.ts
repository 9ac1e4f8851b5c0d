import type { Log } from '../src/core/log.ts'
import type { Store } from '../src/core/store.ts'

/**
 * Opens `DATABASE_URL`: a libsql server (`libsql:`, `https:`, `http:`, with `DATABASE_AUTH_TOKEN`), or a file (`file:turret.sqlite3`) where
 * there is a disk.
 */
export async function openDatabase(env: Readonly<Record<string, string | undefined>>, log: Log): Promise<Store> {
  const url = env.DATABASE_URL ?? ''
  if (url.startsWith('file:')) {
    const { openLibsqlStore } = await import('../src/store/libsql.ts')
    return openLibsqlStore({ path: url.slice('file:'.length), log })
  }
  const { openLibsqlHttpStore } = await import('../src/store/libsql-http.ts')
  return openLibsqlHttpStore({ url, authToken: env.DATABASE_AUTH_TOKEN, log })
}
