import { expect, test } from 'vitest'
import type { Node } from '../proto/envoy/config/core/v3.ts'
import { Secret, SPIFFECertValidatorConfig } from '../proto/envoy/extensions/transport_sockets/tls/v3.ts'
import type { DiscoveryRequest, DiscoveryResponse } from '../proto/envoy/service/discovery/v3.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { parseCertificate } from '../src/core/certificate.ts'
import { countedLog } from '../src/core/counted-log.ts'
import { type Log, silentLog } from '../src/core/log.ts'
import { decodePem } from '../src/core/pem.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName, type TrustDomain } from '../src/core/trust-domain.ts'
import type { Call, Method } from '../src/rpc/method.ts'
import { entry as cachedEntry, START } from '../test/support/svid-cache.ts'
import { makeCertificate } from '../test/support/x509.ts'
import type { AgentEntry } from './entry.ts'
import { SDS, type SdsApi } from './sds.ts'
import { SvidCache } from './svid-cache.ts'
import { keyOf } from './wire.ts'

const TD = parseTrustDomainName('example.org')
const OTHER = parseTrustDomainName('other.org')
const ROOT = await makeCertificate({ name: 'root', ca: true })
const OTHER_ROOT = await makeCertificate({ name: 'other', ca: true })
const rootKey = keyOf(parseCertificate(ROOT.der))
const TYPE_URL = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'

const entry = (id: string, path: string, changes: Partial<AgentEntry> = {}) =>
  cachedEntry(id, ['unix:uid:1'], { spiffeId: parseSpiffeId(`spiffe://example.org/${path}`), ...changes })

const bundleOf = (trustDomain: TrustDomain, ...roots: readonly Uint8Array[]): Bundle => ({
  trustDomain,
  x509Authorities: roots.map((der) => ({ der, tainted: false })),
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHintSeconds: 0,
  sequenceNumber: 0,
})
const BUNDLES = [bundleOf(TD, ROOT.der), bundleOf(OTHER, OTHER_ROOT.der)]

function setUp(entries: readonly AgentEntry[], options: Partial<SdsApi['sds']> = {}) {
  const lines: string[] = []
  const say = (message: string) => void lines.push(message)
  const log: Log = { ...silentLog, warn: say, error: say }
  const cache = new SvidCache({
    trustDomain: TD,
    maxSize: 100,
    clock: { nowMs: () => START * 1000 },
    log: silentLog,
    rotation: { random: () => 0.5 },
  })
  const apply = (bundles: readonly Bundle[], ...now: readonly AgentEntry[]) =>
    cache.apply(new Map(now.map((one) => [one.id, one])), new Map(bundles.map((one) => [one.trustDomain, one])))
  const sign = (one: AgentEntry, mark: number) =>
    cache.store(
      new Map([
        [
          one.id,
          {
            chain: [Uint8Array.of(mark)],
            privateKey: Uint8Array.of(mark, mark),
            notBefore: START,
            notAfter: START + 3600,
            rootKey,
            spiffeId: one.spiffeId,
            signedFor: one,
          },
        ],
      ]),
    )
  apply(BUNDLES, ...entries)
  for (const [index, one] of entries.entries()) sign(one, index + 1)
  const api: SdsApi = {
    cache,
    attest: async () => ['unix:uid:1'],
    log,
    refusals: countedLog(log, { clock: { nowMs: () => START * 1000 } }),
    sds: {
      defaultSvidName: 'default',
      defaultBundleName: 'ROOTCA',
      defaultAllBundlesName: 'ALL',
      disableSpiffeCertValidation: false,
      ...options,
    },
  }
  return { api, apply, sign, lines }
}

const request = (resourceNames: readonly string[], changes: Partial<DiscoveryRequest> = {}): DiscoveryRequest => ({
  versionInfo: '',
  node: undefined,
  resourceNames: [...resourceNames],
  typeUrl: TYPE_URL,
  responseNonce: '',
  errorDetail: undefined,
  ...changes,
})

const row = (name: string) => SDS.find(({ path }) => path.endsWith(`/${name}`)) as Method<SdsApi>
const CALL = { signal: new AbortController().signal, peer: { via: 'local' } } as Call

async function fetch(api: SdsApi, names: readonly string[], node?: Node): Promise<DiscoveryResponse> {
  const { handle } = row('FetchSecrets') as { handle(...args: unknown[]): Promise<DiscoveryResponse> }
  return handle(api, request(names, { node }), CALL)
}

/** What a response holds, in short. */
function shown({ resources }: DiscoveryResponse): string[] {
  return resources.map(({ typeUrl, value }) => {
    expect(typeUrl).toBe(TYPE_URL)
    const { name, tlsCertificate, validationContext } = Secret.decode(value)
    if (tlsCertificate) {
      const { certificateChain, privateKey } = tlsCertificate
      const [certificate] = decodePem(text(certificateChain))
      const [key] = decodePem(text(privateKey))
      expect([certificate!.label, key!.label]).toEqual(['CERTIFICATE', 'PRIVATE KEY'])
      expect(key!.bytes).toEqual(Uint8Array.of(certificate!.bytes[0]!, certificate!.bytes[0]!))
      return `${name}: certificate ${certificate!.bytes[0]}`
    }
    const { trustedCa, customValidatorConfig } = validationContext!
    if (trustedCa) return `${name}: roots ${rootsOf(text(trustedCa))}`
    expect(customValidatorConfig!.name).toBe('envoy.tls.cert_validator.spiffe')
    const { trustDomains } = SPIFFECertValidatorConfig.decode(customValidatorConfig!.typedConfig!.value)
    return `${name}: ${trustDomains.map((one) => `${one.name} ${rootsOf(text(one.trustBundle))}`).join(', ')}`
  })
}

const text = (source: { readonly inlineBytes?: Uint8Array | undefined } | undefined) =>
  new TextDecoder().decode(source!.inlineBytes)
const rootsOf = (pem: string) =>
  decodePem(pem)
    .map(({ bytes }) => (Buffer.from(bytes).equals(ROOT.der) ? 'root' : 'other'))
    .join('+')

const WEB = entry('a', 'web', { federatesWith: [OTHER] })
const API = entry('b', 'api')
const version = (majorNumber: number, minorNumber: number): Node => ({
  id: '',
  cluster: '',
  metadata: undefined,
  userAgentName: 'envoy',
  userAgentVersion: undefined,
  userAgentBuildVersion: { version: { majorNumber, minorNumber, patch: 0 }, metadata: undefined },
})
const metadata = (value: unknown): Node => ({
  ...version(1, 40),
  metadata: { disable_spiffe_cert_validation: value },
})

test.each<[string[], string[]]>([
  [
    [],
    [
      'spiffe://example.org: example.org root',
      'spiffe://other.org: other.org other',
      'spiffe://example.org/web: certificate 1',
      'spiffe://example.org/api: certificate 2',
    ],
  ],
  [[''], shownAll()],
  [['spiffe://example.org'], ['spiffe://example.org: example.org root']],
  [['ROOTCA'], ['ROOTCA: example.org root']],
  [['ALL'], ['ALL: example.org root, other.org other']],
  [['spiffe://other.org'], ['spiffe://other.org: other.org other']],
  [['default'], ['default: certificate 1']],
  [['spiffe://example.org/api'], ['spiffe://example.org/api: certificate 2']],
  [
    ['default', 'ROOTCA', 'spiffe://example.org/api'],
    ['ROOTCA: example.org root', 'default: certificate 1', 'spiffe://example.org/api: certificate 2'],
  ],
])('the names %j get their secrets', async (names, expected) => {
  const { api } = setUp([WEB, API])
  const response = await fetch(api, names)
  expect(shown(response)).toEqual(expected)
  expect(response).toMatchObject({ typeUrl: TYPE_URL, versionInfo: '', nonce: '', canary: false })
})

function shownAll(): string[] {
  return [
    'spiffe://example.org: example.org root',
    'spiffe://other.org: other.org other',
    'spiffe://example.org/web: certificate 1',
    'spiffe://example.org/api: certificate 2',
  ]
}

test.each<[string[], string]>([
  [['spiffe://example.org/admin'], '["spiffe://example.org/admin"]'],
  [['z', 'default', 'spiffe://third.org'], '["spiffe://third.org" "z"]'],
  // As in SPIRE, only one of the three is served.
  [['ROOTCA', 'spiffe://example.org'], '["ROOTCA"]'],
  [['ROOTCA', 'ALL'], '["ALL"]'],
  // An identity that is asked for by its ID is not the default one any more.
  [['default', 'spiffe://example.org/web'], '["default"]'],
])('of the names %j those that are not the caller’s own are refused', async (names, left) => {
  const { api } = setUp([WEB, API])
  await expect(fetch(api, names)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: `workload is not authorized for the requested identities ${left}`,
  })
})

test('an error repeats only some of many names', async () => {
  const { api } = setUp([WEB])
  const error = await fetch(
    api,
    Array.from({ length: 50_000 }, (_, index) => `${'x'.repeat(1000)}${index}`),
  ).catch((thrown: Error) => thrown)
  expect((error as Error).message.length).toBeLessThan(16_384)
  const left = async (count: number) => {
    const names = Array.from({ length: count }, (_, index) => `n${10 + index}`)
    const thrown = await fetch(api, names).catch((caught: Error) => caught)
    return /\[(.*)\]/.exec((thrown as Error).message)![1]!.split(' ')
  }
  expect(await left(20)).toHaveLength(20)
  expect((await left(20)).at(-1)).toBe('"n29"')
  expect((await left(21)).slice(19)).toEqual(['"n29"', '...'])
})

test('all bundles come in the order of their trust domains', async () => {
  const first = parseTrustDomainName('a.org')
  const { api, apply } = setUp([WEB])
  apply([...BUNDLES, bundleOf(first, OTHER_ROOT.der)], entry('a', 'web', { federatesWith: [OTHER, first] }))
  expect(shown(await fetch(api, ['ALL']))).toEqual(['ALL: a.org other, example.org root, other.org other'])
})

test('who has no identity gets the bundle alone, and no other trust domain', async () => {
  const { api } = setUp([entry('a', 'web', { selectors: ['unix:uid:2'], federatesWith: [OTHER] })])
  expect(shown(await fetch(api, []))).toEqual(['spiffe://example.org: example.org root'])
  await expect(fetch(api, ['default'])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(fetch(api, ['spiffe://other.org'])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('two entries with one ID each give their certificate', async () => {
  const { api } = setUp([entry('a', 'web'), entry('b', 'web')])
  expect(shown(await fetch(api, ['spiffe://example.org/web']))).toEqual([
    'spiffe://example.org/web: certificate 1',
    'spiffe://example.org/web: certificate 2',
  ])
})

const ROOTS = ['ROOTCA: roots root']
const VALIDATOR = ['ROOTCA: example.org root']
test.each<[string, Node | undefined, Partial<SdsApi['sds']>, string[]]>([
  ['an Envoy that says nothing', undefined, {}, VALIDATOR],
  ['Envoy 1.17', version(1, 17), {}, ROOTS],
  ['Envoy 1.18', version(1, 18), {}, VALIDATOR],
  ['Envoy 2.0', version(2, 0), {}, VALIDATOR],
  ['Envoy 0.40', version(0, 40), {}, ROOTS],
  ['the configuration without validator', version(1, 40), { disableSpiffeCertValidation: true }, ROOTS],
  ['metadata that say so', metadata(true), {}, ROOTS],
  ['metadata as text', metadata('T'), {}, ROOTS],
  ['metadata against the configuration', metadata('false'), { disableSpiffeCertValidation: true }, VALIDATOR],
  ['metadata that say nothing', metadata(1), {}, VALIDATOR],
  ['metadata with a word of no meaning', metadata('constructor'), {}, VALIDATOR],
])('%s decides how peers are verified', async (_, node, options, expected) => {
  const { api } = setUp([WEB], options)
  expect(shown(await fetch(api, ['ROOTCA'], node))).toEqual(expected)
})

test('all bundles at once need the validator', async () => {
  const { api } = setUp([WEB])
  await expect(fetch(api, ['ALL'], version(1, 17))).rejects.toMatchObject({
    code: 'INTERNAL',
    message: 'unable to use "SPIFFE validator" on Envoy below 1.17',
  })
})

/** A stream that the test drives: one request in, responses out. */
function open(api: SdsApi, peer: object = { via: 'local' }) {
  const stop = new AbortController()
  const waiting: ((step: IteratorResult<DiscoveryRequest>) => void)[] = []
  const queued: IteratorResult<DiscoveryRequest>[] = []
  const push = (step: IteratorResult<DiscoveryRequest>) => {
    const take = waiting.shift()
    if (take) take(step)
    else queued.push(step)
  }
  let breakOff: (error: Error) => void = () => {}
  const requests: AsyncIterable<DiscoveryRequest> = {
    [Symbol.asyncIterator]: () => ({
      next: () => {
        const step = queued.shift()
        if (step) return Promise.resolve(step)
        return new Promise((resolve, reject) => {
          waiting.push(resolve)
          breakOff = reject
        })
      },
    }),
  }
  const { handle } = row('StreamSecrets') as { handle(...args: unknown[]): AsyncIterable<DiscoveryResponse> }
  const responses: DiscoveryResponse[] = []
  let failure: unknown
  const done = (async () => {
    try {
      for await (const response of handle(api, requests, { ...CALL, peer, signal: stop.signal }))
        responses.push(response)
    } catch (error) {
      failure = error
    }
  })()
  return {
    responses,
    send: (value: DiscoveryRequest) => push({ value, done: false }),
    breakOff: (error: Error) => breakOff(error),
    abort: () => stop.abort(),
    failure: async () => {
      await done
      return failure
    },
    async end() {
      push({ value: undefined, done: true })
      await done
      expect(failure).toBeUndefined()
    },
  }
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve))
const count = async (stream: ReturnType<typeof open>, wanted: number) => {
  await expect.poll(() => stream.responses.length).toBe(wanted)
  return stream.responses.at(-1)!
}

test('a stream answers the first request, other names, and changes; it ignores what is stale', async () => {
  const { api, sign } = setUp([WEB, API])
  const stream = open(api)
  stream.send(request(['default']))
  const first = await count(stream, 1)
  expect(first).toMatchObject({ versionInfo: '1', nonce: expect.stringMatching(/^[0-9a-f]{8}$/) })
  expect(shown(first)).toEqual(['default: certificate 1'])
  const ack = (response: DiscoveryResponse, names: readonly string[]) =>
    request(names, { versionInfo: response.versionInfo, responseNonce: response.nonce })

  // A confirmation changes nothing, nor do the same names in another order; a stale nonce is not read at all.
  stream.send(ack(first, ['default']))
  stream.send(request(['ROOTCA'], { responseNonce: 'ffffffff' }))
  sign(WEB, 7)
  const second = await count(stream, 2)
  expect(second.versionInfo).toBe('2')
  expect(second.nonce).not.toBe(first.nonce)
  expect(shown(second)).toEqual(['default: certificate 7'])

  // A refusal may ask for other names.
  stream.send(request(['ROOTCA', 'default'], { versionInfo: '1', responseNonce: second.nonce }))
  const third = await count(stream, 3)
  expect(third.versionInfo).toBe('2')
  expect(shown(third)).toEqual(['ROOTCA: example.org root', 'default: certificate 7'])

  // What others get is none of its business.
  sign(API, 9)
  await settle()
  expect(stream.responses).toHaveLength(3)
  stream.send(ack(third, ['default', 'ROOTCA']))
  sign(WEB, 8)
  expect(shown(await count(stream, 4))).toEqual(['ROOTCA: example.org root', 'default: certificate 8'])
  await stream.end()
})

test('an Envoy says once who it is', async () => {
  const { api, sign } = setUp([WEB])
  const stream = open(api)
  stream.send(request(['ROOTCA', 'default'], { node: version(1, 17) }))
  expect(shown(await count(stream, 1))).toContain('ROOTCA: roots root')
  sign(WEB, 2)
  expect(shown(await count(stream, 2))).toContain('ROOTCA: roots root')
  await stream.end()
})

test('a stream ends when its caller is not entitled to a name any more', async () => {
  const { api, apply } = setUp([WEB])
  const stream = open(api)
  stream.send(request(['spiffe://example.org/web']))
  await count(stream, 1)
  apply(BUNDLES)
  expect(await stream.failure()).toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'workload is not authorized for the requested identities ["spiffe://example.org/web"]',
  })
  expect(stream.responses).toHaveLength(1)
})

test('who cannot be attested gets nothing, and deltas are not served', async () => {
  const { api } = setUp([WEB])
  const refusing = { ...api, attest: () => Promise.reject(new Error('gone')) }
  await expect(fetch(refusing, [])).rejects.toThrow('gone')
  const stream = open(refusing)
  stream.send(request([]))
  expect(await stream.failure()).toMatchObject({ message: 'gone' })
  const { handle } = row('DeltaSecrets') as { handle(...args: unknown[]): AsyncIterable<unknown> }
  await expect(handle(api, [], CALL)[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'UNIMPLEMENTED',
    message: 'Method is not implemented',
  })
})

test('a stream answers when other names are asked for, as many or fewer', async () => {
  const { api } = setUp([WEB, API])
  const stream = open(api)
  const ask = async (...names: string[]) => {
    const last = stream.responses.at(-1)
    stream.send(request(names, { versionInfo: last?.versionInfo ?? '', responseNonce: last?.nonce ?? '' }))
    await settle()
    return stream.responses.slice(stream.responses.indexOf(last!) + 1).flatMap(shown)
  }
  await settle()
  expect(await ask('default')).toEqual(['default: certificate 1'])
  expect(await ask('ROOTCA')).toEqual(['ROOTCA: example.org root'])
  expect(await ask('default', 'ROOTCA')).toEqual(['ROOTCA: example.org root', 'default: certificate 1'])
  expect(await ask('ROOTCA', 'default')).toEqual([])
  expect(await ask('ROOTCA', 'spiffe://example.org/api')).toHaveLength(2)
  expect(await ask('ROOTCA')).toEqual(['ROOTCA: example.org root'])
  expect(stream.responses.every(({ canary, typeUrl }) => !canary && typeUrl === TYPE_URL)).toBe(true)
  await stream.end()
})

test('who asks for everything is told of what is new, and of what is gone', async () => {
  const { api, apply, sign } = setUp([WEB])
  const stream = open(api)
  stream.send(request([]))
  await count(stream, 1)
  apply(BUNDLES, WEB, API)
  sign(API, 2)
  expect(shown(await count(stream, 2))).toEqual(shownAll())
  apply(BUNDLES, WEB)
  expect(shown(await count(stream, 3))).toEqual(shownAll().slice(0, 3))
  await stream.end()
})

test('the log says what an Envoy refused, went back from, or confirmed too late, and nothing of what is well', async () => {
  const { api, lines } = setUp([WEB])
  const counted: unknown[] = []
  const caller = { via: 'local', process: { pid: 1, uid: 7, gid: 7 } }
  const of: typeof api.refusals.of = (fields) => {
    counted.push(fields)
    return api.refusals.of(fields)
  }
  const stream = open({ ...api, refusals: { ...api.refusals, of } }, caller)
  stream.send(request(['default']))
  const { versionInfo, nonce } = await count(stream, 1)
  stream.send(request(['default'], { versionInfo, responseNonce: nonce }))
  await settle()
  expect(lines).toEqual([])
  stream.send(request(['default'], { versionInfo, responseNonce: 'ffffffff' }))
  await settle()
  expect(lines.splice(0)).toEqual(['Received unexpected nonce; ignoring request'])
  stream.send(
    request(['default'], {
      versionInfo: '0',
      responseNonce: nonce,
      errorDetail: { code: 3, message: 'no', details: [] },
    }),
  )
  await settle()
  expect(lines.splice(0)).toEqual([
    'Envoy reported errors applying secrets',
    'Client rejected expected version and rolled back',
  ])
  await stream.end()
  expect(counted).toEqual([{ caller_uid: 7 }])
})

test('nothing is left of a stream that ended, whoever ended it', async () => {
  const signals: AbortSignal[] = []
  const start = async () => {
    const { api, lines, apply } = setUp([WEB])
    const subscribe = api.cache.subscribe.bind(api.cache)
    api.cache.subscribe = (selectors, signal) => {
      signals.push(signal)
      return subscribe(selectors, signal)
    }
    const stream = open(api)
    stream.send(request(['default']))
    await count(stream, 1)
    return { stream, lines, apply }
  }
  const ended = await start()
  await ended.stream.end()
  const left = await start()
  left.stream.abort()
  expect(await left.stream.failure()).toBeUndefined()
  // What the client sent last breaks off after the stream has.
  left.stream.breakOff(new Error('reset'))
  await settle()
  const broken = await start()
  broken.stream.breakOff(new Error('reset'))
  expect(await broken.stream.failure()).toMatchObject({ message: 'reset' })
  expect(broken.lines).toEqual(['Error building stream secrets response'])
  const leaving = await start()
  leaving.stream.abort()
  leaving.stream.breakOff(new Error('reset'))
  await leaving.stream.failure()
  expect([...ended.lines, ...left.lines, ...leaving.lines]).toEqual([])
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true, true])
})

test.each(['request', 'update'])('a %s that fails while an Envoy is slow to read waits for it', async (which) => {
  const { api } = setUp([WEB])
  const current = api.cache.current(['unix:uid:1'])
  let fail: (error: Error) => void = () => {}
  const failing = () =>
    new Promise<never>((_, reject) => {
      fail = reject
    })
  const never = () => new Promise<never>(() => {})
  api.cache.subscribe = async function* () {
    yield current
    await (which === 'update' ? failing() : never())
  }
  async function* requests() {
    yield request(['default'])
    await (which === 'request' ? failing() : never())
  }
  const { handle } = row('StreamSecrets') as { handle(...args: unknown[]): AsyncIterable<DiscoveryResponse> }
  const responses = handle(api, requests(), CALL)[Symbol.asyncIterator]()
  expect(shown((await responses.next()).value)).toEqual(['default: certificate 1'])
  await settle()
  // Vitest fails on what nobody catches.
  fail(new Error('broken off'))
  await settle()
  await expect(responses.next()).rejects.toThrow('broken off')
})
