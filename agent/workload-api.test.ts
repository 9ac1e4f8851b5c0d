import { expect, test, vi } from 'vitest'
import type { JWTBundlesResponse, X509BundlesResponse, X509SVIDResponse } from '../proto/spiffe/workload.ts'
import * as wire from '../proto/spiffe/workload.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { countedLog } from '../src/core/counted-log.ts'
import { StatusError } from '../src/core/error.ts'
import { jwtSigner, signClaims } from '../src/core/jwt-svid.ts'
import { type Log, type LogFields, silentLog } from '../src/core/log.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName, type TrustDomain } from '../src/core/trust-domain.ts'
import { generateSigner, nodeVerifier } from '../src/plugins/signer.ts'
import type { Call, EncodedMessage } from '../src/rpc/method.ts'
import { rejection } from '../test/support/server.ts'
import {
  bundle,
  entry,
  NEXT_ROOT,
  OTHER,
  ROOT,
  START,
  settle,
  setUp as setUpCache,
  TD,
} from '../test/support/svid-cache.ts'
import type { AgentEntry } from './entry.ts'
import { OutdatedError } from './outdated.ts'
import { WORKLOAD_API, type WorkloadApi } from './workload-api.ts'

const THIRD = parseTrustDomainName('third.org')
const keys = {
  [TD]: await generateSigner('ec-p256'),
  [OTHER]: await generateSigner('ec-p256'),
  [THIRD]: await generateSigner('ec-p256'),
}
/** A bundle with a root and a key for tokens of its own. */
const withKeys = (trustDomain: TrustDomain, root = ROOT): Bundle => ({
  ...bundle(trustDomain),
  x509Authorities: [{ der: root, tainted: false }],
  jwtAuthorities: [{ keyId: 'k', publicKey: keys[trustDomain]!.publicKey, expiresAt: START + 3600, tainted: false }],
})
const BUNDLES = [withKeys(TD), withKeys(OTHER, NEXT_ROOT), withKeys(THIRD)]
const A = entry('a', ['unix:uid:1'], { federatesWith: [OTHER], hint: 'h' })
const B = entry('b', ['unix:uid:1', 'docker:label:x'])

/** An agent with some entries, all of them signed, and who calls it. */
function setUp(changes: Partial<WorkloadApi> = {}, entries: readonly AgentEntry[] = [A, B]) {
  const { cache, apply, svid } = setUpCache()
  const sign = (...signed: readonly AgentEntry[]) =>
    cache.store(
      new Map(
        signed.map((one) => [
          one.id,
          svid(one, { chain: [Uint8Array.of(1), Uint8Array.of(2)], privateKey: Uint8Array.of(one.id.charCodeAt(0)) }),
        ]),
      ),
    )
  apply(entries, BUNDLES)
  sign(...entries)
  const lines: string[] = []
  const write = (message: string, fields: LogFields = {}) => void lines.push(`${message} ${JSON.stringify(fields)}`)
  const log: Log = { ...silentLog, debug: write, warn: write, error: write, debugEnabled: true }
  const fetched: [id: string, audience: readonly string[]][] = []
  const api = {
    trustDomain: TD,
    cache,
    jwts: {
      async fetch(one: AgentEntry, audience: readonly string[]) {
        fetched.push([one.id, audience])
        return { token: `token of ${one.id}`, issuedAt: START, expiresAt: START + 300, keyId: 'k' }
      },
    },
    resync: () => Promise.reject(new Error('not asked for')),
    attest: async () => ['unix:uid:1'],
    allowUnauthenticatedVerifiers: false,
    allowedForeignJwtClaims: new Set(['email']),
    logSelectors: [],
    verify: nodeVerifier(),
    clock: { nowMs: () => START * 1000 },
    log,
    refusals: countedLog(log, { clock: { nowMs: () => 0 } }),
    ...changes,
  } as unknown as WorkloadApi
  return { api, apply, sign, lines, fetched }
}

const stop = new AbortController()
const CALL = {
  signal: stop.signal,
  peer: { via: 'local', process: { pid: process.pid + 1, uid: 7, gid: 8 } },
} as unknown as Call
const DENIED = 'PERMISSION_DENIED: no identity issued'

const handler = (name: string) =>
  (WORKLOAD_API.find(({ path }) => path === `/SpiffeWorkloadAPI/${name}`) as { handle: unknown })!.handle as (
    ...args: unknown[]
  ) => AsyncIterator<EncodedMessage> & Promise<never>

/** A stream, message by message. */
function stream<T>(name: string, api: WorkloadApi, call: Call = CALL) {
  const messages = handler(name)(api, {}, call)
  const response = (wire as never as Record<string, { decode(bytes: Uint8Array): T }>)[
    name.replace('Fetch', '').concat('Response')
  ]!
  return {
    messages,
    async next(): Promise<T> {
      const { value, done } = await messages.next()
      if (done) throw new Error('the stream ended')
      return response.decode(value.bytes)
    },
  }
}
const unary = (name: string, api: WorkloadApi, request: object, call: Call = CALL): Promise<never> =>
  handler(name)(api, request, call)
const jwt = (api: WorkloadApi, spiffeId = '', audience: readonly string[] = ['x'], call = CALL) =>
  unary('FetchJWTSVID', api, { audience, spiffeId }, call) as Promise<wire.JWTSVIDResponse>
const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes)

const STREAMS = ['FetchX509SVID', 'FetchX509Bundles', 'FetchJWTBundles']

test('a workload gets the identities of its own entries with their keys, and the bundles that they federate with', async () => {
  const { api, lines } = setUp()
  const { svids, federatedBundles } = await stream<X509SVIDResponse>('FetchX509SVID', api).next()
  expect(svids).toEqual([
    { spiffeId: A.spiffeId, x509Svid: Uint8Array.of(1, 2), x509SvidKey: Uint8Array.of(97), bundle: ROOT, hint: 'h' },
  ])
  expect(federatedBundles).toEqual({ 'spiffe://other.org': NEXT_ROOT })
  expect(lines).toEqual([expect.stringMatching(/^Fetched X.509 SVID .*"spiffe_id":"spiffe:\/\/example.org\/a"/)])
  const both = setUp({ attest: async () => ['docker:label:x', 'unix:uid:1'] })
  expect(
    (await stream<X509SVIDResponse>('FetchX509SVID', both.api).next()).svids.map(({ spiffeId }) => spiffeId),
  ).toEqual([A.spiffeId, B.spiffeId])
})

test('of two entries with one hint the older one is given, as X.509 and as JWT', async () => {
  const later = entry('0', ['unix:uid:1'], { hint: 'h', createdAt: START + 1 })
  const { api, fetched, lines } = setUp({}, [later, A])
  const { svids } = await stream<X509SVIDResponse>('FetchX509SVID', api).next()
  expect(svids.map(({ spiffeId }) => spiffeId)).toEqual([A.spiffeId])
  await jwt(api)
  expect(fetched).toEqual([['a', ['x']]])
  expect(lines.filter((line) => line.startsWith('Ignoring entry with duplicate hint'))).toHaveLength(2)
})

test.each(STREAMS)('%s gives nothing to who has no entry, or cannot be attested', async (name) => {
  for (const selectors of [[], ['unix:uid:2'], ['docker:label:x']]) {
    const { api } = setUp({ attest: async () => selectors })
    expect(await rejection(stream(name, api).next())).toBe(DENIED)
  }
  const attest = () => Promise.reject(new StatusError('UNAVAILABLE', 'workload attestation failed'))
  expect(await rejection(stream(name, setUp({ attest }).api).next())).toBe('UNAVAILABLE: workload attestation failed')
})

test.each(STREAMS)('%s ends when the last entry is taken away', async (name) => {
  const { api, apply } = setUp()
  const { next } = stream(name, api)
  await next()
  apply([B], BUNDLES)
  expect(await rejection(next())).toBe(DENIED)
})

test.each(STREAMS)('%s sends what is new, and nothing twice', async (name) => {
  const { api, apply, sign } = setUp()
  const { next, messages } = stream(name, api)
  await next()
  let sent = false
  const second = messages.next().then((step) => {
    sent = true
    return step
  })
  // The same again: of another object, or signed with the same bytes.
  apply([A, B], [...BUNDLES.slice(0, 1).map((one) => ({ ...one, sequenceNumber: 7 })), ...BUNDLES.slice(1)])
  sign(A)
  await settle()
  expect(sent).toBe(false)
  apply([A, B], [withKeys(TD, ROOT), { ...withKeys(OTHER, ROOT), jwtAuthorities: [] }, BUNDLES[2]!])
  await second
  expect(sent).toBe(true)
  await messages.return!()
})

test('one message is made for all who have the same selectors', async () => {
  const { api } = setUp()
  const [one, two] = [stream('FetchX509SVID', api), stream('FetchX509SVID', api)]
  const messages = await Promise.all([one.messages.next(), two.messages.next()])
  expect(messages[0]!.value).toBe(messages[1]!.value)
  await one.messages.return!()
  await two.messages.return!()
})

test('bundles of other trust domains are for those who federate with them', async () => {
  const { api } = setUp()
  const x509 = await stream<X509BundlesResponse>('FetchX509Bundles', api).next()
  expect(x509.bundles).toEqual({ 'spiffe://example.org': ROOT, 'spiffe://other.org': NEXT_ROOT })
  const { bundles } = await stream<JWTBundlesResponse>('FetchJWTBundles', api).next()
  expect(Object.keys(bundles)).toEqual(['spiffe://example.org', 'spiffe://other.org'])
  expect(JSON.parse(text(bundles['spiffe://example.org']))).toMatchObject({ keys: [{ kid: 'k', kty: 'EC' }] })
  expect(text(bundles['spiffe://example.org'])).not.toBe(text(bundles['spiffe://other.org']))
})

test('where verifiers need no entry they get the own bundle, and no other', async () => {
  const { api } = setUp({ allowUnauthenticatedVerifiers: true, attest: async () => ['unix:uid:2'] })
  for (const name of ['FetchX509Bundles', 'FetchJWTBundles']) {
    const { bundles } = await stream<X509BundlesResponse>(name, api).next()
    expect(Object.keys(bundles)).toEqual(['spiffe://example.org'])
  }
  expect(await rejection(stream('FetchX509SVID', api).next())).toBe(DENIED)
  expect(await rejection(jwt(api))).toBe(DENIED)
})

test('the log names selectors of who gets nothing only as it is told to, and nothing of the agent itself', async () => {
  const selectors = ['unix:uid:2', 'unix:gid:3', 'docker:label:secret', 'unixlike:x', 'k8s:ns']
  const logSelectors = ['unix', 'k8s:ns']
  const { api, lines } = setUp({ attest: async () => selectors, logSelectors })
  await rejection(jwt(api))
  expect(lines).toHaveLength(1)
  expect(lines[0]).toMatch(/^No identity issued /)
  expect(JSON.parse(lines[0]!.slice('No identity issued '.length))).toEqual({
    registered: false,
    pid: process.pid + 1,
    service: 'WorkloadAPI',
    method: 'FetchJWTSVID',
    selectors: 'k8s:ns,unix:gid:3,unix:uid:2',
  })
  lines.length = 0
  const own = { ...CALL, peer: { via: 'local', process: { pid: process.pid, uid: 7, gid: 8 } } } as unknown as Call
  expect(await rejection(jwt(api, '', ['x'], own))).toBe(DENIED)
  expect(lines).toEqual([])
  const silent = setUp({ attest: async () => selectors })
  await rejection(jwt(silent.api))
  expect(silent.lines[0]).not.toContain('selectors')
})

test('a JWT-SVID is given for each of the own entries, or for the one that is asked for', async () => {
  const { api, fetched } = setUp({ attest: async () => ['unix:uid:1', 'docker:label:x'] })
  expect(await jwt(api)).toEqual({
    svids: [
      { spiffeId: A.spiffeId, svid: 'token of a', hint: 'h' },
      { spiffeId: B.spiffeId, svid: 'token of b', hint: '' },
    ],
  })
  expect((await jwt(api, B.spiffeId, ['x', 'y'])).svids.map(({ spiffeId }) => spiffeId)).toEqual([B.spiffeId])
  expect(fetched).toEqual([
    ['a', ['x']],
    ['b', ['x']],
    ['b', ['x', 'y']],
  ])
})

test.each<[string, string, string[], string]>([
  ['no audience', '', [], 'INVALID_ARGUMENT: audience must be specified'],
  ['an ID that is none', 'https://example.org/a', ['x'], 'INVALID_ARGUMENT: invalid requested SPIFFE ID: '],
  ['the ID of others', B.spiffeId, ['x'], DENIED],
  ['an ID that nobody has', 'spiffe://example.org/none', ['x'], DENIED],
])('no JWT-SVID is given for %s', async (_, spiffeId, audience, message) => {
  const { api, fetched } = setUp()
  expect(await rejection(jwt(api, spiffeId, audience))).toContain(message)
  expect(fetched).toEqual([])
})

test('a JWT-SVID that cannot be had is an error, and no reason to sync', async () => {
  const fetch = () => Promise.reject(new StatusError('UNKNOWN', 'gone'))
  const { api } = setUp({ jwts: { fetch } as never })
  expect(await rejection(jwt(api))).toBe('UNAVAILABLE: could not fetch JWT-SVID: gone')
})

test('when the server knows another state of an entry, the answer is what the caller may have after a sync', async () => {
  const fetch = async (one: AgentEntry) => {
    if (one === A) throw new OutdatedError('the server signed for "spiffe://example.org/b"')
    return { token: `token of ${one.id}` }
  }
  const moved = entry('a', ['unix:uid:1'], { spiffeId: parseSpiffeId('spiffe://example.org/moved'), revisionNumber: 1 })
  const { api, apply } = setUp({ jwts: { fetch } as never, resync: async () => apply([moved], BUNDLES) })
  expect(await jwt(api)).toEqual({ svids: [{ spiffeId: moved.spiffeId, svid: 'token of a', hint: '' }] })
  const taken = setUp({ jwts: { fetch } as never, resync: async () => taken.apply([B], BUNDLES) })
  expect(await rejection(jwt(taken.api))).toBe(DENIED)
  // One sync for one call: a server that goes on disagreeing is not asked without end.
  let synced = 0
  const stubborn = setUp({
    jwts: { fetch } as never,
    resync: async () => {
      synced += 1
    },
  })
  expect(await rejection(jwt(stubborn.api))).toContain('UNAVAILABLE: could not fetch JWT-SVID: the server signed for')
  expect(synced).toBe(1)
  const broken = setUp({
    jwts: { fetch } as never,
    resync: () => Promise.reject(new StatusError('UNAVAILABLE', 'away')),
  })
  expect(await rejection(jwt(broken.api))).toBe('UNAVAILABLE: away')
})

test('a caller waits for a sync for five seconds, and one who leaves not at all', async () => {
  const fetch = () => Promise.reject(new OutdatedError('the server signed for another'))
  const never = new Promise<void>(() => {})
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const { api } = setUp({ jwts: { fetch } as never, resync: () => never })
    let answered = false
    const patient = rejection(jwt(api)).finally(() => {
      answered = true
    })
    await vi.advanceTimersByTimeAsync(4_999)
    expect(answered).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    expect(await patient).toContain('the server signed for another')
    const quick = setUp({ jwts: { fetch } as never, resync: async () => {} })
    await rejection(jwt(quick.api))
    expect(vi.getTimerCount()).toBe(0)
    const left = new AbortController()
    const leaving = rejection(jwt(api, '', ['x'], { ...CALL, signal: left.signal }))
    await vi.advanceTimersByTimeAsync(1)
    left.abort()
    expect(await leaving).toContain('the server signed for another')
    expect(await rejection(jwt(api, '', ['x'], { ...CALL, signal: AbortSignal.abort() }))).toContain(
      'the server signed',
    )
  } finally {
    vi.useRealTimers()
  }
})

/** A token as it would be issued, but for what is said differently. */
async function token(trustDomain: TrustDomain, says: object = {}, by = trustDomain): Promise<string> {
  const claims = { sub: `spiffe://${trustDomain}/w`, aud: ['me'], exp: START + 300, iat: START, email: 'e', role: 'r' }
  return signClaims({ ...claims, ...says }, jwtSigner(keys[by]!, 'k'))
}
const validate = (api: WorkloadApi, svid: string, audience = 'me') =>
  unary('ValidateJWTSVID', api, { svid, audience }) as Promise<wire.ValidateJWTSVIDResponse>

test('a token of the own trust domain is told with all its claims, one of another with those that are allowed', async () => {
  const { api } = setUp()
  expect(await validate(api, await token(TD))).toEqual({
    spiffeId: 'spiffe://example.org/w',
    claims: { sub: 'spiffe://example.org/w', aud: ['me'], exp: START + 300, iat: START, email: 'e', role: 'r' },
  })
  expect(await validate(api, await token(OTHER))).toEqual({
    spiffeId: 'spiffe://other.org/w',
    claims: { sub: 'spiffe://other.org/w', aud: ['me'], exp: START + 300, email: 'e' },
  })
})

test.each<[string, () => Promise<string>, string, string]>([
  ['no audience', () => token(TD), '', 'INVALID_ARGUMENT: audience must be specified'],
  ['no token', async () => '', 'me', 'INVALID_ARGUMENT: svid must be specified'],
  ['a token for others', () => token(TD), 'you', 'INVALID_ARGUMENT: expected audience in'],
  ['a token that has ended', () => token(TD, { exp: START - 120 }), 'me', 'INVALID_ARGUMENT: token has expired'],
  ['a token that another trust domain signed', () => token(TD, {}, OTHER), 'me', 'INVALID_ARGUMENT: '],
  ['a token of a trust domain that the caller does not federate with', () => token(THIRD), 'me', 'INVALID_ARGUMENT: '],
])('%s is not valid', async (_, make, audience, message) => {
  const { api } = setUp()
  expect(await rejection(validate(api, await make(), audience))).toContain(message)
})

test('who cannot be attested has nothing validated, nor gets a token', async () => {
  const attest = () => Promise.reject(new StatusError('UNAVAILABLE', 'workload attestation failed'))
  const { api, fetched } = setUp({ attest })
  expect(await rejection(validate(api, await token(TD)))).toBe('UNAVAILABLE: workload attestation failed')
  expect(await rejection(jwt(api))).toBe('UNAVAILABLE: workload attestation failed')
  expect(fetched).toEqual([])
})

test('WIT-SVIDs and their bundles are not served', async () => {
  const { api } = setUp()
  for (const [name, what] of [
    ['FetchWITSVID', 'WIT-SVIDs'],
    ['FetchWITBundles', 'WIT bundles'],
  ] as const)
    expect(await rejection(handler(name)(api, {}, CALL).next())).toBe(
      `UNIMPLEMENTED: fetching ${what} is not implemented`,
    )
})
