import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import type { PlainObject } from '../../config/plain.ts'
import { readDataStore } from './sql.ts'

const POSTGRES = { type: 'postgres', connection: 'host=db', maxConnections: 10, connectionLifetimeSeconds: 0 } as const

test.each<[string, PlainObject, object]>([
  [
    'a file',
    { database_type: 'sqlite3', connection_string: 'data.sqlite3' },
    { type: 'sqlite3', path: resolve('data.sqlite3') },
  ],
  [
    "a URI of SPIRE's driver",
    { database_type: 'sqlite3', connection_string: 'file:///tmp/d?_journal=x' },
    { type: 'sqlite3', path: '/tmp/d' },
  ],
  ['memory', { database_type: 'sqlite3', connection_string: ':memory:' }, { type: 'sqlite3', path: ':memory:' }],
  [
    'a libsql server',
    { database_type: 'libsql', connection_string: 'libsql://d.example.org' },
    { type: 'libsql', url: 'libsql://d.example.org', authTokenEnv: 'LIBSQL_AUTH_TOKEN' },
  ],
  [
    'a libsql server with its own variable',
    { database_type: 'libsql', connection_string: 'http://127.0.0.1:1', auth_token_env: 'T' },
    { type: 'libsql', url: 'http://127.0.0.1:1', authTokenEnv: 'T' },
  ],
  ['PostgreSQL', { database_type: 'postgres', connection_string: 'host=db' }, POSTGRES],
  [
    'PostgreSQL with limits',
    { database_type: 'postgres', connection_string: 'host=db', max_open_conns: 5, conn_max_lifetime: '1m' },
    { ...POSTGRES, maxConnections: 5, connectionLifetimeSeconds: 60 },
  ],
])('reads %s', (_, data, expected) => {
  expect(readDataStore(data)).toEqual(expected)
})

test.each<[string, PlainObject, string]>([
  ['nothing', {}, 'database_type must be set'],
  ['no connection', { database_type: 'postgres' }, 'connection_string must be set'],
  ['another kind', { database_type: 'mysql', connection_string: 'secret' }, 'unsupported database_type: mysql'],
  [
    'a block',
    { database_type: [{ aws_postgres: {} }], connection_string: 'secret' },
    'unsupported database_type: a block',
  ],
  [
    'a token in the URL',
    { database_type: 'libsql', connection_string: 'https://d?authToken=secret' },
    'belongs into the environment',
  ],
  ['no URL', { database_type: 'libsql', connection_string: 'secret' }, 'must be a URL'],
  ['a URL of something else', { database_type: 'libsql', connection_string: 'ftp://secret' }, 'must be a URL'],
  ['no number', { database_type: 'postgres', connection_string: 'secret', max_open_conns: 'x' }, 'max_open_conns must'],
])('refuses %s, and shows nothing of it', (_, data, problem) => {
  expect(() => readDataStore(data)).toThrow(problem)
  expect(() => readDataStore(data)).not.toThrow('secret')
})
