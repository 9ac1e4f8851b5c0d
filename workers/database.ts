import type { Log } from '../src/core/log.ts'
import type { Store } from '../src/core/store.ts'
import { type DatabaseEnvironment, openRemoteDatabase } from './remote-database.ts'

/** The same where there is a disk: `DATABASE_URL` may be a file, too (`file:turret.sqlite3`). */
export async function openDatabase(env: DatabaseEnvironment, log: Log): Promise<Store> {
  const { DATABASE_URL: url = '' } = env
  if (!url.startsWith('file:')) return openRemoteDatabase(env, log)
  const { openLibsqlStore } = await import('../src/store/libsql.ts')
  return openLibsqlStore({ path: url.slice('file:'.length), log })
}
