import { expect, test } from 'vitest'
import { StatusError } from '../src/core/error.ts'
import { silentLog } from '../src/core/log.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import type { AgentEntry } from './entry.ts'
import { JwtCache, type JwtSvid } from './jwt-cache.ts'
import { OutdatedError } from './outdated.ts'

const START = 1_800_000_000

function entry(id: string, changes: Partial<AgentEntry> = {}): AgentEntry {
  return {
    id,
    spiffeId: parseSpiffeId('spiffe://example.org/w'),
    selectors: ['u:1'],
    federatesWith: [],
    dnsNames: [],
    admin: false,
    downstream: false,
    revisionNumber: 0,
    storeSvid: false,
    hint: '',
    createdAt: 0,
    disableX509SvidPrefetch: false,
    jwtSvidIncludeJti: false,
    ...changes,
  }
}

function setUp(maxSize = 10) {
  const time = { now: START }
  const calls: { audience: readonly string[]; timeoutMs: number }[] = []
  const server = { fail: undefined as Error | undefined, hold: undefined as Promise<void> | undefined, takes: 0 }
  const cache = new JwtCache({
    maxSize,
    hitTimeoutMs: 7_000,
    clock: { nowMs: () => time.now * 1000 },
    log: silentLog,
    random: () => 0.5,
    async sign(_, audience, timeoutMs): Promise<JwtSvid> {
      calls.push({ audience, timeoutMs })
      await server.hold
      time.now += server.takes
      if (server.fail) throw server.fail
      return { token: `token-${calls.length}`, issuedAt: time.now, expiresAt: time.now + 300, keyId: 'key' }
    },
  })
  const fetch = async (audience: readonly string[], one = entry('e')) => (await cache.fetch(one, audience)).token
  return { time, calls, server, cache, fetch }
}

test('a token serves everybody who asks for the same audiences, in whatever order', async () => {
  const { fetch, calls } = setUp()
  expect(await fetch(['a', 'b'])).toBe('token-1')
  expect(await fetch(['b', 'a'])).toBe('token-1')
  expect(await fetch(['a'])).toBe('token-2')
  expect(calls).toHaveLength(2)
})

test('audiences that read alike when joined are not the same', async () => {
  const { fetch } = setUp()
  expect(await fetch(['a\0b'])).toBe('token-1')
  expect(await fetch(['a', 'b'])).toBe('token-2')
})

test.each([
  ['another entry', entry('f')],
  ['a later state of the entry', entry('e', { revisionNumber: 1 })],
  ['an entry that has its id again', entry('e', { createdAt: 1 })],
  ['another SPIFFE ID', entry('e', { spiffeId: parseSpiffeId('spiffe://example.org/other') })],
])('a token is not for %s', async (_title, other) => {
  const { fetch } = setUp()
  expect(await fetch(['a'])).toBe('token-1')
  expect(await fetch(['a'], other)).toBe('token-2')
})

test('a token that was signed for another state of the entry is no reason to serve the old one', async () => {
  const { fetch, time, server } = setUp()
  await fetch(['a'])
  time.now += 200
  server.fail = new OutdatedError('the server signed for "spiffe://example.org/other"')
  await expect(fetch(['a'])).rejects.toThrow('the server signed for')
})

test('a token by a key that was tainted meanwhile is not kept', async () => {
  const { cache, fetch } = setUp()
  cache.retain((keyId) => keyId !== 'key')
  expect(await fetch(['a'])).toBe('token-1')
  expect(await fetch(['a'])).toBe('token-2')
})

test('it is renewed at half its life', async () => {
  const { fetch, time } = setUp()
  await fetch(['a'])
  time.now += 149
  expect(await fetch(['a'])).toBe('token-1')
  time.now += 2
  expect(await fetch(['a'])).toBe('token-2')
})

test('many who ask at once cause one request', async () => {
  const { fetch, calls, server } = setUp()
  let go = () => {}
  server.hold = new Promise((resolve) => {
    go = resolve
  })
  const all = Promise.all(Array.from({ length: 20 }, () => fetch(['a'])))
  go()
  expect(new Set(await all)).toEqual(new Set(['token-1']))
  expect(calls).toHaveLength(1)
})

test('while the server is away an unexpired token is good enough, an expired one is not', async () => {
  const { fetch, time, server, calls } = setUp()
  await fetch(['a'])
  server.fail = new StatusError('UNAVAILABLE', 'gone')
  time.now += 200
  expect(await fetch(['a'])).toBe('token-1')
  expect(calls[calls.length - 1]!.timeoutMs).toBeLessThanOrEqual(7_000)
  time.now += 99
  expect(await fetch(['a'])).toBe('token-1')
  // At the second in which it ends it is of no use any more, and there is all the time for another one.
  time.now += 1
  calls.length = 0
  await expect(fetch(['a'])).rejects.toThrow('unable to renew JWT for "spiffe://example.org/w" (err=gone)')
  expect(calls[0]!.timeoutMs).toBe(30_000)
  time.now += 1
  await expect(fetch(['a'])).rejects.toThrow('unable to renew JWT')
  expect(calls.map(({ timeoutMs }) => timeoutMs)).toEqual([30_000, 30_000, 30_000, 30_000])
})

test('a token that ends while another one is asked for is not served', async () => {
  const { fetch, time, server } = setUp()
  await fetch(['a'])
  time.now += 298
  server.fail = new StatusError('DEADLINE_EXCEEDED', 'late')
  server.takes = 2
  await expect(fetch(['a'])).rejects.toThrow('unable to renew JWT')
})

test.each([
  ['there is a second left', 29, 2],
  ['there is less', 29.001, 1],
])('the server is asked again only while %s', async (_, takes, times) => {
  const { fetch, server, calls } = setUp()
  server.fail = new StatusError('UNAVAILABLE', 'gone')
  server.takes = takes
  await expect(fetch(['a'])).rejects.toThrow('gone')
  expect(calls).toHaveLength(times)
})

test.each([
  ['a bug', new TypeError('a bug')],
  ['a token for another state of the entry', new OutdatedError('the server signed for "spiffe://example.org/other"')],
])('after %s the server is not asked again', async (_, error) => {
  const { fetch, server, calls } = setUp()
  server.fail = error
  await expect(fetch(['a'])).rejects.toBe(error)
  expect(calls).toHaveLength(1)
})

test.each([
  ['UNAVAILABLE', 2],
  ['INVALID_ARGUMENT', 1],
  ['UNIMPLEMENTED', 1],
] as const)('after %s the server is asked %i times', async (code, times) => {
  const { fetch, server, calls } = setUp()
  server.fail = new StatusError(code, 'no')
  await expect(fetch(['a'])).rejects.toThrow('no')
  expect(calls).toHaveLength(times)
})

test('the least used token goes when the cache is full', async () => {
  const { fetch, cache } = setUp(2)
  await fetch(['a'])
  await fetch(['b'])
  await fetch(['a'])
  await fetch(['c'])
  expect(cache.size).toBe(2)
  expect(await fetch(['a'])).toBe('token-1')
  expect(await fetch(['b'])).toBe('token-4')
})

test('tokens of a key that is trusted no more are forgotten', async () => {
  const { fetch, cache } = setUp()
  await fetch(['a'])
  expect(cache.retain((keyId) => keyId === 'key')).toBe(0)
  expect(cache.retain((keyId) => keyId === 'other')).toBe(1)
  expect(await fetch(['a'])).toBe('token-2')
})

test('a token that must be unique is never shared', async () => {
  const { fetch, calls } = setUp()
  const one = entry('e', { jwtSvidIncludeJti: true })
  expect(await fetch(['a'], one)).toBe('token-1')
  expect(await fetch(['a'], one)).toBe('token-2')
  // Nor by those who ask at once.
  await Promise.all([fetch(['a'], one), fetch(['a'], one)])
  expect(calls).toHaveLength(4)
})
