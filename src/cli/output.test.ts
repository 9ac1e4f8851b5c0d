import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { StatusError } from '../core/error.ts'
import { rfc3339 } from '../core/rfc3339.ts'
import { rpcErrorText } from '../rpc/status-text.ts'
import { codeName } from './failure.ts'
import { joinPath } from './files.ts'
import { counted, goJson, messagesJson } from './output.ts'
import { AGENT_SOCKET, absoluteTarget, plainTarget, SERVER_SOCKET, socketPath } from './socket.ts'
import { elapsedText, localTimeText, utcTimeText, zoneNameIn } from './time.ts'
import { VERSION } from './version.ts'

test('messagesJson sorts and renames members, writes 64 bits as strings and bytes as base64', () => {
  const message = {
    x509SvidTtl: 300,
    expiresAt: 2000000000,
    x509svidExpiresAt: 1,
    asn1: Uint8Array.of(1, 2, 255),
    dnsNames: [],
    hint: '<a> & "b"',
    additionalAttributes: undefined,
    spiffeId: { trustDomain: 'example.org', path: '/w' },
  }
  expect(messagesJson(message)).toBe(
    '{"asn1":"AQL/","dns_names":[],"expires_at":"2000000000","hint":"\\u003ca\\u003e \\u0026 \\"b\\"",' +
      '"spiffe_id":{"path":"/w","trust_domain":"example.org"},"x509_svid_ttl":300,"x509svid_expires_at":"1"}\n',
  )
})

test('messagesJson keeps the keys of maps and renames those of messages in lists', () => {
  expect(messagesJson({ federatedBundles: { 'spiffe://aB': Uint8Array.of(1) } })).toBe(
    '{"federated_bundles":{"spiffe://aB":"AQ=="}}\n',
  )
  expect(messagesJson({ bundles: [{ sequenceNumber: 3 }] })).toBe('{"bundles":[{"sequence_number":"3"}]}\n')
  expect(messagesJson({ claims: { zB: 1, aC: [{ dE: null, f: 2 }], n: null } })).toBe(
    '{"claims":{"aC":[{"f":2}],"zB":1}}\n',
  )
})

test('messagesJson puts several messages into an array', () => {
  expect(messagesJson({ a: 1 }, { b: 2 })).toBe('[{"a":1},{"b":2}]\n')
})

test('goJson keeps the order of members', () => {
  expect(goJson({ b: '\u2028', a: 1 })).toBe('{"b":"\\u2028","a":1}')
})

test('counted uses the singular for one alone', () => {
  expect([0, 1, 2].map((count) => counted(count, 'entry', 'entries'))).toEqual(['0 entries', '1 entry', '2 entries'])
})

test('status codes are called as in grpc-go', () => {
  expect([0, 1, 5, 6, 7, 99].map(codeName)).toEqual([
    'OK',
    'Canceled',
    'NotFound',
    'AlreadyExists',
    'PermissionDenied',
    'Code(99)',
  ])
  expect(rpcErrorText(new StatusError('NOT_FOUND', 'entry not found'))).toBe(
    'rpc error: code = NotFound desc = entry not found',
  )
})

test('moments are written as by Go', () => {
  expect(rfc3339(2000000000)).toBe('2033-05-18T03:33:20Z')
  expect(utcTimeText(2000000000)).toBe('2033-05-18 03:33:20 +0000 UTC')
  expect(localTimeText(2000000000, { TZ: process.env.TZ })).toMatch(/^2033-05-1[78] \d\d:\d\d:\d\d [+-]\d{4} \S+$/)
})

test('zoneNameIn finds the abbreviation of an offset, also for a file that is none', () => {
  const file = zoneFile([
    [0, 0, 'LMT'],
    [3600, 0, 'CET'],
    [7200, 1, 'CEST'],
  ])
  expect(zoneNameIn(file, 3600)).toBe('CET')
  expect(zoneNameIn(file, 7200)).toBe('CEST')
  expect(zoneNameIn(file, 1800)).toBeUndefined()
  expect(zoneNameIn(Buffer.from('no zone'), 0)).toBeUndefined()
})

/** A TZif file of version 1 without transitions. */
function zoneFile(types: readonly (readonly [number, number, string])[]): Buffer {
  const names = types.map(([, , name]) => `${name}\0`)
  const head = Buffer.alloc(44)
  head.write('TZif')
  head.writeUInt32BE(types.length, 36)
  head.writeUInt32BE(names.join('').length, 40)
  const records = types.map(([offset, dst], i) => {
    const record = Buffer.alloc(6)
    record.writeInt32BE(offset)
    record[4] = dst
    record[5] = names.slice(0, i).join('').length
    return record
  })
  return Buffer.concat([head, ...records, Buffer.from(names.join(''))])
}

test.each([
  [0.0004, '400ns'],
  [0.87, '870µs'],
  [3.328955, '3.328955ms'],
  [1500, '1.5s'],
  [62500, '1m2.5s'],
  [3600000, '1h0m0s'],
])('elapsedText of %d ms', (milliseconds, text) => {
  expect(elapsedText(milliseconds)).toBe(text)
})

const TEMPLATE = { SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE: '/run/%i/%i.sock', SPIRE_SERVER_PRIVATE_SOCKET: '/run/e.sock' }

test.each([
  ['the default', '', '', {}, '/tmp/spire-server/private/api.sock'],
  ['the variable', '', '', TEMPLATE, '/run/e.sock'],
  ['the instance before the variable', '', 'a', TEMPLATE, '/run/a/a.sock'],
  ['the flag before all', '/x.sock', 'a', TEMPLATE, '/x.sock'],
])('the socket is taken from %s', (_title, flag, instance, env, path) => {
  expect(socketPath(SERVER_SOCKET, { socketPath: flag || SERVER_SOCKET.fallback, instance }, env)).toBe(path)
})

test('an instance needs a template, even beside a path', () => {
  const flags = { socketPath: '/x.sock', instance: 'a' }
  expect(() => socketPath(SERVER_SOCKET, flags, {})).toThrow(
    'you must define SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE to use the instance flag',
  )
  expect(() => socketPath(SERVER_SOCKET, flags, { SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE: '/x' })).toThrow(
    'failed to find %i in SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE',
  )
  expect(() => socketPath(AGENT_SOCKET, flags, {})).toThrow(
    ' SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE environment variable must be defined when using the instance flag',
  )
})

test('targets have the slashes that show in messages', () => {
  expect([absoluteTarget('/a'), absoluteTarget('a'), plainTarget('/a')]).toEqual(['unix:///a', 'unix:a', 'unix:/a'])
})

test.each([
  [['out', 'svid.pem'], 'out/svid.pem'],
  [['./out//', 'x'], 'out/x'],
  [['a/../b/'], 'b'],
  [[''], ''],
  [['/'], '/'],
])('joinPath of %j', (parts, path) => {
  expect(joinPath(...parts)).toBe(path)
})

test('the version is that of the package', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  expect(VERSION).toBe(version)
})
