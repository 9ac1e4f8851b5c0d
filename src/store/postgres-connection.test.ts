import { expect, test } from 'vitest'
import { parsePostgresConnection } from './postgres-connection.ts'

const NO_TLS = { ssl: false, application_name: 'turret', options: '-c jit=off' } as const

test.each<[string, string, object]>([
  [
    'words',
    'dbname=spire user=u host=db port=5433 sslmode=disable',
    { database: 'spire', user: 'u', host: 'db', port: 5433, ...NO_TLS },
  ],
  [
    'quoted words',
    `password = 'a b\\'c\\\\' user='' host=db\nsslmode=disable`,
    { password: `a b'c\\`, user: '', host: 'db', ...NO_TLS },
  ],
  [
    'a URL',
    'postgres://u:p%40ss@db:5433/spire?sslmode=disable&connect_timeout=3',
    {
      user: 'u',
      password: 'p@ss',
      host: 'db',
      port: 5433,
      database: 'spire',
      connectionTimeoutMillis: 3000,
      ...NO_TLS,
    },
  ],
  ['an IPv6 address', 'postgresql://[::1]/d?sslmode=disable', { host: '::1', database: 'd', ...NO_TLS }],
  ['a socket', 'host=/run/pg dbname=d', { host: '/run/pg', database: 'd', ...NO_TLS }],
  [
    'parameters of the session',
    `host=db sslmode=disable search_path='a, b' application_name=a options='-c x=y'`,
    { host: 'db', ssl: false, application_name: 'a', options: '-c jit=off -c search_path=a,\\ b -c x=y' },
  ],
  [
    'none that a pooler refuses',
    'postgres://db?sslmode=disable&jit=',
    { host: 'db', ssl: false, application_name: 'turret' },
  ],
])('%s', (_, text, expected) => {
  expect(parsePostgresConnection(text)).toEqual(expected)
})

const FILES = { '/ca': 'CA', '/c': 'CERT', '/k': 'KEY' } as Record<string, string>
const ssl = (text: string) => parsePostgresConnection(text, (path) => FILES[path]!).ssl

test('TLS is asked for unless switched off, and checked as the mode says', () => {
  const anyName = { checkServerIdentity: expect.any(Function) }
  expect(ssl('host=db')).toEqual({ rejectUnauthorized: false, ...anyName })
  expect(ssl('host=db sslmode=require sslrootcert=/ca')).toEqual({ ca: 'CA', rejectUnauthorized: true, ...anyName })
  expect(ssl('host=db sslmode=verify-ca')).toEqual({ rejectUnauthorized: true, ...anyName })
  expect(ssl('postgres://db?sslmode=verify-full&sslrootcert=/ca&sslcert=/c&sslkey=/k')).toEqual({
    ca: 'CA',
    cert: 'CERT',
    key: 'KEY',
    rejectUnauthorized: true,
  })
})

test.each([
  ['a mode that falls back to plain text', 'host=db sslmode=prefer', 'unsupported sslmode "prefer"'],
  ['a port that is none', 'host=db port=99999', 'port in connection_string is not a number'],
  ['no words', 'secret', 'neither a URL nor words'],
  ['an open quote', `host=db password='secret`, 'neither a URL nor words'],
  ['a broken URL', 'postgres://u:secret@db:port/', 'not a valid URL'],
  ['a broken escape', 'postgres://u:%zzsecret@db/', 'not a valid URL'],
  ['files where there are none', 'host=db sslrootcert=/ca', 'sslrootcert cannot be read here'],
  ['too much', `host=${'a'.repeat(5000)}`, 'too long'],
])('refuses %s, without the password', (_, text, problem) => {
  expect(() => parsePostgresConnection(text)).toThrow(problem)
  expect(() => parsePostgresConnection(text)).not.toThrow('secret')
})
