import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  JWTSVIDRequest,
  JWTSVIDResponse,
  X509BundlesRequest,
  X509BundlesResponse,
  X509SVIDRequest,
  X509SVIDResponse,
} from '../proto/spiffe/workload.ts'
import { parseCertificate, parseCertificates } from '../src/core/certificate.ts'
import { hex, utf8 } from '../src/core/der.ts'
import type { Entry, EntryFields } from '../src/core/entry.ts'
import { StatusError } from '../src/core/error.ts'
import { parseJwt } from '../src/core/jwt-svid.ts'
import { silentLog } from '../src/core/log.ts'
import { verifyPath } from '../src/core/path-validation.ts'
import { selectorText } from '../src/core/selector.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { serialDecimal } from '../src/core/x509-svid.ts'
import { memoryKeyManager } from '../src/plugins/keymanager/memory.ts'
import { generateSigner, importSigner, nodeVerifier } from '../src/plugins/signer.ts'
import { bindService } from '../src/rpc/invoke.ts'
import type { MessageType } from '../src/rpc/method.ts'
import { PLAIN_ENTRY } from '../test/support/entry.ts'
import { inProcessChannel } from '../test/support/in-process-channel.ts'
import { ANONYMOUS, incoming, LOCAL, TD, testServer } from '../test/support/server.ts'
import { Agent } from './agent.ts'
import type { ConnectOptions } from './server-connection.ts'
import { StateFile } from './state.ts'
import { WORKLOAD_API } from './workload-api.ts'
import { workloadPipeline } from './workload-pipeline.ts'

/**
 * Random changes on a server, between and in the middle of what its agent does, beside random reads of every workload. Whatever a
 * workload is handed belongs together, and is its own by what the agent knows at that moment.
 */

const ENTRY_IDS = ['e1', 'e2', 'e3']
const PATHS = ['admin', 'guest', 'web']
const WORKLOADS = [['u:1'], ['u:2'], ['u:1', 'g:1'], ['u:1', 'u:2', 'g:1']]
const FOREIGN = [parseTrustDomainName('one.org'), parseTrustDomainName('two.org')]
const PARENT = parseSpiffeId('spiffe://example.org/spire/agent/join_token/token')

const fields = fc.record({
  spiffeId: fc.constantFrom(...PATHS).map((path) => parseSpiffeId(`spiffe://example.org/${path}`)),
  selectors: fc
    .subarray(['u:1', 'u:2', 'g:1'], { minLength: 1 })
    .map((texts) => texts.map((text) => ({ type: text[0]!, value: text.slice(2) }))),
  hint: fc.constantFrom('', 'h'),
  federatesWith: fc.subarray(FOREIGN),
  dnsNames: fc.constantFrom([], ['a.example.org']),
})
const id = fc.constantFrom(...ENTRY_IDS)
const change = fc.oneof(
  fc.record({ do: fc.constant('create' as const), id, fields }),
  fc.record({ do: fc.constant('update' as const), id, fields }),
  fc.record({ do: fc.constant('delete' as const), id }),
  fc.record({ do: fc.constant('again' as const), id, fields }),
  fc.record({ do: fc.constant('bundle' as const), name: fc.constantFrom(...FOREIGN) }),
  fc.record({ do: fc.constant('dissociate' as const), name: fc.constantFrom(...FOREIGN) }),
)
const workload = fc.constantFrom(...WORKLOADS)
const step = fc.oneof(
  { weight: 5, arbitrary: change },
  { weight: 3, arbitrary: fc.constant({ do: 'sync' as const }) },
  { weight: 3, arbitrary: fc.constant({ do: 'sign' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'renew' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: fc.constantFrom(1, 160, 700) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('stream' as const), workload }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('jwt' as const), workload }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('bundles' as const), workload }) },
  // These changes come while the agent's next request is on its way.
  { weight: 4, arbitrary: fc.record({ do: fc.constant('meanwhile' as const), change }) },
)
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never

async function setUp() {
  const folder = mkdtempSync(join(tmpdir(), 'served-'))
  const server = await testServer()
  const { store, clock, service } = server
  await store.joinTokens.create({ value: 'token', expiresAt: clock.ms / 1000 + 600 })
  const meanwhile: Change[] = []
  const connect = async ({ identity }: ConnectOptions) => {
    const leaf = identity && parseCertificate(identity.chain[0]!)
    return inProcessChannel(service, {
      peer: () =>
        leaf
          ? {
              via: 'x509',
              address: '192.0.2.2:1',
              spiffeId: parseSpiffeId(leaf.uris[0]!),
              serialNumber: serialDecimal(leaf.serial),
              expiresAt: leaf.notAfter,
            }
          : ANONYMOUS,
      onTheWay: async () => {
        const next = meanwhile.shift()
        if (next) await make(next)
      },
    })
  }
  const stop = new AbortController()
  const agent = await Agent.start(
    {
      options: {
        trustDomain: TD,
        version: '1',
        insecureBootstrap: true,
        syncIntervalMs: 5_000,
        useSyncAuthorizedEntries: true,
        x509CacheSize: 100,
        jwtCacheSize: 100,
        jwtHitTimeoutMs: 1_000,
        availabilityTargetSeconds: 0,
        workloadKeyType: 'ec-p256',
      },
      state: await StateFile.open(folder, async () => {}),
      keyManager: memoryKeyManager(),
      nodeAttestor: {
        name: 'join_token',
        begin: async () => ({ payload: utf8('token'), respond: () => Promise.reject(new Error('no challenge')) }),
      },
      bootstrapRoots: () => Promise.reject(new Error('not asked for')),
      newWorkloadKey: generateSigner,
      connect,
      verify: nodeVerifier(),
      clock,
      random: () => 0.5,
      log: silentLog,
    },
    stop.signal,
  )

  /** Makes a change on the server; one that is refused there changes nothing. */
  async function make(wanted: Change): Promise<void> {
    const now = Math.floor(clock.ms / 1000)
    try {
      if (wanted.do === 'create' || wanted.do === 'again') {
        if (wanted.do === 'again') await store.entries.delete(wanted.id)
        await store.entries.create([{ ...PLAIN_ENTRY, ...wanted.fields, id: wanted.id, parentId: PARENT }], now)
      } else if (wanted.do === 'update') await store.entries.update(wanted.id, wanted.fields as Partial<EntryFields>)
      else if (wanted.do === 'delete') await store.entries.delete(wanted.id)
      else if (wanted.do === 'bundle') await store.bundles.set(foreignBundle(wanted.name))
      else await store.bundles.delete(wanted.name, 'dissociate')
    } catch (error) {
      if (!(error instanceof StatusError)) throw error
    }
  }

  const api = (selectors: readonly string[]) =>
    bindService(
      WORKLOAD_API,
      {
        trustDomain: TD,
        cache: agent.cache,
        jwts: agent.jwts,
        // Nobody syncs by itself here: it is done at once.
        resync: () => agent.sync(),
        attest: async () => selectors,
        allowUnauthenticatedVerifiers: false,
        allowedForeignJwtClaims: new Set<string>(),
        logSelectors: [],
        verify: nodeVerifier(),
        clock,
        log: silentLog,
      },
      workloadPipeline(silentLog, () => 'id'),
    )
  const call = (signal?: AbortSignal) => ({
    ...incoming(LOCAL),
    ...(signal ? { signal } : {}),
    header: (name: string) => (name === 'workload.spiffe.io' ? ['true'] : []),
  })

  /** What the agent knows that such a workload is entitled to, at this very moment. */
  const entitled = (selectors: readonly string[]) =>
    [...agent.cache.entries()].filter((entry) => entry.selectors.every((selector) => selectors.includes(selector)))

  async function checkX509(message: X509SVIDResponse, selectors: readonly string[]) {
    const own = entitled(selectors)
    for (const svid of message.svids) {
      const [leaf, ...intermediates] = parseCertificates(svid.x509Svid)
      expect(leaf!.uris).toEqual([svid.spiffeId])
      expect(hex(leaf!.spki)).toBe(hex(importSigner(svid.x509SvidKey).publicKey))
      const roots = parseCertificates(svid.bundle)
      await verifyPath({ leaf: leaf!, intermediates, roots, at: leaf!.notBefore, verify: nodeVerifier() })
      expect(own.map(({ spiffeId, hint }) => `${spiffeId} ${hint}`)).toContain(`${svid.spiffeId} ${svid.hint}`)
    }
    const admitted = own.flatMap((entry) => entry.federatesWith.map((name) => `spiffe://${name}`))
    for (const name of Object.keys(message.federatedBundles)) expect(admitted).toContain(name)
  }

  const refusedOr = async <T>(work: Promise<T>): Promise<T | undefined> => {
    try {
      return await work
    } catch (error) {
      if (error instanceof StatusError && ['PERMISSION_DENIED', 'UNAVAILABLE'].includes(error.code)) return undefined
      throw error
    }
  }

  const streams: { readonly stop: () => void; readonly done: Promise<void> }[] = []
  let answers = 0
  const failures: unknown[] = []
  function stream(selectors: readonly string[]) {
    const stopOne = new AbortController()
    const method = api(selectors).methods.get('/SpiffeWorkloadAPI/FetchX509SVID')!
    const follow = async () => {
      for await (const bytes of method.stream(request(X509SVIDRequest, {}), call(stopOne.signal))) {
        answers += 1
        await checkX509(X509SVIDResponse.decode(bytes), selectors)
      }
    }
    const done = refusedOr(follow()).then(
      () => {},
      (error) => {
        failures.push(error)
      },
    )
    streams.push({ stop: () => stopOne.abort(), done })
  }

  return {
    server,
    agent,
    make,
    meanwhile,
    stream,
    entitled,
    failures,
    answers: () => answers,
    async jwt(selectors: readonly string[]) {
      const before = entitled(selectors)
      const bytes = JWTSVIDRequest.encode({ audience: ['a', 'b'], spiffeId: '' }).finish()
      const answer = await refusedOr(
        api(selectors).methods.get('/SpiffeWorkloadAPI/FetchJWTSVID')!.unary(bytes, call()),
      )
      if (!answer) return []
      answers += 1
      const own = [...before, ...entitled(selectors)].map(({ spiffeId, hint }) => `${spiffeId} ${hint}`)
      const { svids } = JWTSVIDResponse.decode(answer)
      for (const svid of svids) {
        expect(parseJwt(svid.svid).claims).toMatchObject({ sub: svid.spiffeId, aud: ['a', 'b'] })
        expect(own).toContain(`${svid.spiffeId} ${svid.hint}`)
      }
      return svids.map(({ spiffeId }) => spiffeId)
    },
    async bundles(selectors: readonly string[]) {
      const stopOne = new AbortController()
      const method = api(selectors).methods.get('/SpiffeWorkloadAPI/FetchX509Bundles')!
      const replies = method.stream(request(X509BundlesRequest, {}), call(stopOne.signal))[Symbol.asyncIterator]()
      // It waits for SVIDs that are not signed yet: nothing comes then.
      const first = await refusedOr(Promise.race([replies.next(), soon()]))
      stopOne.abort()
      if (!first || first.done) return
      answers += 1
      const admitted = entitled(selectors).flatMap((entry) => entry.federatesWith.map((name) => `spiffe://${name}`))
      for (const name of Object.keys(X509BundlesResponse.decode(first.value).bundles))
        expect(['spiffe://example.org', ...admitted]).toContain(name)
    },
    async end() {
      for (const one of streams) one.stop()
      await Promise.all(streams.map(({ done }) => done))
      stop.abort()
      await store.close()
      rmSync(folder, { recursive: true })
    },
  }
}

async function* request<T extends object>(type: MessageType<T>, message: T) {
  yield type.encode(message).finish()
}

const soon = () => new Promise<undefined>((resolve) => setImmediate(() => setImmediate(() => resolve(undefined))))

function foreignBundle(trustDomain: (typeof FOREIGN)[number]) {
  return {
    trustDomain,
    x509Authorities: [],
    jwtAuthorities: [],
    witAuthorities: [],
    refreshHintSeconds: 0,
    sequenceNumber: 0,
  }
}

/** What workloads with these selectors shall be called by what is stored. */
async function stored(entries: readonly Entry[], selectors: readonly string[]): Promise<string[]> {
  const matching = entries.filter((entry) => entry.selectors.every((one) => selectors.includes(selectorText(one))))
  return [...new Set(matching.map(({ spiffeId }) => spiffeId))].sort()
}

test('whatever a workload is handed is its own, and belongs together', { timeout: 120_000 }, async () => {
  let answers = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80 }), async (steps) => {
      const world = await setUp()
      try {
        for (const name of FOREIGN) await world.make({ do: 'bundle', name })
        for (const one of steps) {
          if (one.do === 'sync') await world.agent.sync()
          else if (one.do === 'sign') await world.agent.signPending()
          else if (one.do === 'renew') await world.agent.rotateIfDue()
          else if (one.do === 'wait') world.server.clock.ms += one.seconds * 1000
          else if (one.do === 'stream') world.stream(one.workload)
          else if (one.do === 'jwt') await world.jwt(one.workload)
          else if (one.do === 'bundles') await world.bundles(one.workload)
          else if (one.do === 'meanwhile') world.meanwhile.push(one.change)
          else await world.make(one)
        }
        // In the end everybody has what the server says.
        world.meanwhile.length = 0
        await world.agent.rotateIfDue()
        await world.agent.sync()
        await world.agent.signPending()
        const entries = (await world.server.store.entries.list({}, { size: 0, token: '' })).items
        for (const selectors of WORKLOADS) {
          const wanted = await stored(entries, selectors)
          const update = world.agent.cache.current(selectors)
          expect([...new Set(update.identities.map(({ svid }) => svid.spiffeId))].sort()).toEqual(wanted)
          const hinted = new Set(await world.jwt(selectors))
          for (const spiffeId of hinted) expect(wanted).toContain(spiffeId)
        }
        await soon()
        expect(world.failures).toEqual([])
        answers += world.answers()
      } finally {
        await world.end()
      }
    }),
    { numRuns: 250 },
  )
  expect(answers).toBeGreaterThan(300)
})
