import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseDuration } from '../../config/duration.ts'
import type { PlainObject } from '../../config/plain.ts'
import type { Log } from '../../core/log.ts'
import type { Store } from '../../core/store.ts'
import { half, type PluginDeclaration, type ServerHost } from '../plugin.ts'
import { textOf } from '../plugin-data.ts'

/** How to reach the database of DataStore `sql`. */
export type DataStoreConfig =
  | { readonly type: 'sqlite3'; readonly path: string }
  | { readonly type: 'libsql'; readonly url: string; readonly authTokenEnv: string }
  | {
      readonly type: 'postgres'
      readonly connection: string
      readonly maxConnections: number
      readonly connectionLifetimeSeconds: number
    }

const SUPPORTED = 'this version supports sqlite3, libsql and postgres'
const AUTH_TOKEN_ENV = 'LIBSQL_AUTH_TOKEN'

/** Reads the data of DataStore `sql`. @throws Error that does not repeat the connection string, which may have a password in it */
export function readDataStore(data: PlainObject): DataStoreConfig {
  if (data.database_type !== undefined && typeof data.database_type !== 'string') {
    throw new Error(`unsupported database_type: a block; ${SUPPORTED}`)
  }
  const type = textOf(data, 'database_type')
  if (type === '') throw new Error('database_type must be set')
  if (type !== 'sqlite3' && type !== 'libsql' && type !== 'postgres') {
    throw new Error(`unsupported database_type: ${type}; ${SUPPORTED}`)
  }
  const connection = textOf(data, 'connection_string')
  if (connection === '') throw new Error('connection_string must be set')
  switch (type) {
    case 'sqlite3':
      return { type, path: sqlitePath(connection) }
    case 'libsql':
      return { type, url: libsqlUrl(connection), authTokenEnv: textOf(data, 'auth_token_env') || AUTH_TOKEN_ENV }
    case 'postgres':
      return {
        type,
        connection,
        maxConnections: countOf(data.max_open_conns, 'max_open_conns') || 10,
        connectionLifetimeSeconds: parseDuration(textOf(data, 'conn_max_lifetime') || '0'),
      }
  }
}

const declaration: PluginDeclaration<'DataStore'> = {
  server: half({
    keys: ['database_type', 'connection_string', 'auth_token_env', 'max_open_conns', 'conn_max_lifetime'],
    read: readDataStore,
    make: async (config, { env, log }) => ({
      store: await open(config, env, log.child({ subsystem_name: 'sql' })),
      shared: config.type !== 'sqlite3' || config.path !== ':memory:',
    }),
  }),
}
export default declaration

async function open(config: DataStoreConfig, env: ServerHost['env'], log: Log): Promise<Store> {
  log.info('Opening SQL database', { db_type: config.type })
  if (config.type === 'postgres') {
    const { openPostgresStore } = await import('../../store/postgres.ts')
    return openPostgresStore({ ...config, readFile: (path) => readFileSync(path, 'utf8'), log })
  }
  if (config.type === 'libsql') {
    const { openLibsqlHttpStore } = await import('../../store/libsql-http.ts')
    return openLibsqlHttpStore({ url: config.url, authToken: env[config.authTokenEnv], log })
  }
  const { openLibsqlStore } = await import('../../store/libsql.ts')
  return openLibsqlStore({ path: config.path, log })
}

/** SPIRE takes a path or a `file:` URI with parameters of its driver, which mean nothing here. */
function sqlitePath(connection: string): string {
  const path = connection.replace(/^file:(\/\/)?/, '').replace(/\?.*$/, '')
  return path === ':memory:' || connection.includes('mode=memory') ? ':memory:' : resolve(path)
}

function libsqlUrl(connection: string): string {
  const url = URL.parse(connection)
  if (!url || !['libsql:', 'https:', 'http:'].includes(url.protocol)) {
    throw new Error('connection_string must be a URL: libsql://, https:// or http://')
  }
  if (url.username !== '' || url.password !== '' || url.searchParams.has('authToken')) {
    throw new Error(
      `the token of the database belongs into the environment (${AUTH_TOKEN_ENV}), not into connection_string`,
    )
  }
  return connection
}

function countOf(value: unknown, name: string): number {
  if (value === undefined) return 0
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 1000) {
    throw new Error(`${name} must be a number up to 1000`)
  }
  return value
}
