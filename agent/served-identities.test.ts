import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  JWTSVIDRequest,
  JWTSVIDResponse,
  ValidateJWTSVIDRequest,
  ValidateJWTSVIDResponse,
  X509BundlesRequest,
  X509BundlesResponse,
  X509SVIDRequest,
  X509SVIDResponse,
} from '../proto/spiffe/workload.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { parseCertificates } from '../src/core/certificate.ts'
import { countedLog } from '../src/core/counted-log.ts'
import { hex } from '../src/core/der.ts'
import type { Entry, EntryFields } from '../src/core/entry.ts'
import { StatusError } from '../src/core/error.ts'
import { jwtSigner, parseJwt } from '../src/core/jwt-svid.ts'
import { silentLog } from '../src/core/log.ts'
import { verifyPath } from '../src/core/path-validation.ts'
import { selectorText } from '../src/core/selector.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { generateSigner, importSigner, nodeVerifier } from '../src/plugins/signer.ts'
import { bindService } from '../src/rpc/invoke.ts'
import type { MessageType } from '../src/rpc/method.ts'
import { selfSignCa } from '../src/server/ca.ts'
import { AGENT_ID, startAgent } from '../test/support/agent.ts'
import { PLAIN_ENTRY } from '../test/support/entry.ts'
import { incoming, LOCAL, TD, testServer } from '../test/support/server.ts'
import { makeCertificate } from '../test/support/x509.ts'
import { WORKLOAD_API } from './workload-api.ts'
import { workloadPipeline } from './workload-pipeline.ts'

/**
 * Random changes on a server, between and in the middle of what its agent does, beside random reads of every workload. Whatever a
 * workload is handed belongs together, is its own by what the agent knows at that moment, and was right on the server at some moment:
 * each state of an entry has a DNS name of its own, and each bundle a root of its own, so that an answer shows what it was made from.
 */

const ENTRY_IDS = ['e1', 'e2', 'e3']
const PATHS = ['admin', 'guest', 'web']
const WORKLOADS = [['u:1'], ['u:2'], ['u:1', 'g:1'], ['u:1', 'u:2', 'g:1']]
const FOREIGN = [parseTrustDomainName('one.org'), parseTrustDomainName('two.org')]

const fields = fc.record({
  spiffeId: fc.constantFrom(...PATHS).map((path) => parseSpiffeId(`spiffe://example.org/${path}`)),
  selectors: fc
    .subarray(['u:1', 'u:2', 'g:1'], { minLength: 1 })
    .map((texts) => texts.map((text) => ({ type: text[0]!, value: text.slice(2) }))),
  hint: fc.constantFrom('', 'h'),
  federatesWith: fc.subarray(FOREIGN),
})
const id = fc.constantFrom(...ENTRY_IDS)
const change = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('create' as const), id, fields }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('update' as const), id, fields }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('again' as const), id, fields }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('bundle' as const), name: fc.constantFrom(...FOREIGN) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('dissociate' as const), name: fc.constantFrom(...FOREIGN) }) },
  // A bundle that those who trusted the one before are not promised.
  { weight: 2, arbitrary: fc.record({ do: fc.constant('replace' as const), name: fc.constantFrom(...FOREIGN) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('rotate' as const, 'taint' as const, 'revoke' as const) }) },
)
const workload = fc.constantFrom(...WORKLOADS)
const step = fc.oneof(
  { weight: 5, arbitrary: change },
  { weight: 3, arbitrary: fc.constant({ do: 'sync' as const }) },
  { weight: 3, arbitrary: fc.constant({ do: 'sign' as const }) },
  { weight: 4, arbitrary: fc.constant({ do: 'settle' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'renew' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: fc.constantFrom(1, 160, 700) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('stream' as const), workload }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('jwt' as const), workload }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      kind: fc.constantFrom('X509' as const, 'JWT' as const),
      workload,
    }),
  },
  // These changes come while one of the agent's next requests is on its way.
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('meanwhile' as const),
      changes: fc.array(change, { maxLength: 3, size: 'max' }),
    }),
  },
)
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never

async function setUp() {
  const server = await testServer()
  const { store, clock, deps } = server
  /** By DNS name, all states of entries that ever were on the server. */
  const states = new Map<string, Pick<EntryFields, 'spiffeId' | 'selectors'>>()
  const fresh = (wanted: Pick<EntryFields, 'spiffeId' | 'selectors'>) => {
    const name = `state-${states.size}.example.org`
    states.set(name, wanted)
    return { ...wanted, dnsNames: [name] }
  }
  /** Roots of the own bundle, as they were at any time. */
  const ownRoots = new Set<string>()
  /** Who was admitted to which roots of others, at any time. */
  const admissions = new Set<string>()
  const admission = (selectors: readonly string[], name: string, roots: string) =>
    JSON.stringify([[...selectors].sort(), name, roots])
  async function remember(): Promise<void> {
    ownRoots.add(rootsText((await store.bundles.get(TD))!))
    for (const entry of (await store.entries.list({}, { size: 0, token: '' })).items)
      for (const name of entry.federatesWith) {
        const bundle = await store.bundles.get(name)
        if (bundle) admissions.add(admission(entry.selectors.map(selectorText), `spiffe://${name}`, rootsText(bundle)))
      }
  }
  const wasAdmitted = (selectors: readonly string[], name: string, roots: string) =>
    subsets(selectors).some((some) => admissions.has(admission(some, name, roots)))

  let rotations = 0
  async function rotate(): Promise<void> {
    rotations += 1
    const now = Math.floor(clock.ms / 1000)
    const [signer, jwtKey] = [await generateSigner('ec-p256'), await generateSigner('ec-p256')]
    const root = await selfSignCa({
      trustDomain: TD,
      signer,
      subject: { country: ['US'], organization: ['SPIFFE'] },
      notAfter: now + 86_400,
      now,
      random: (bytes) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>),
    })
    const keyId = `jwt-${rotations}`
    await store.bundles.append({
      trustDomain: TD,
      x509Authorities: [{ der: root.certificate.der, tainted: false }],
      jwtAuthorities: [{ keyId, publicKey: jwtKey.publicKey, expiresAt: now + 86_400, tainted: false }],
    })
    deps.ca.setX509(root)
    deps.ca.setJwt({ ...jwtSigner(jwtKey, keyId), notAfter: now + 86_400 })
  }
  /** The newest authorities are those that sign. */
  const changeOld = (change: <T extends { readonly tainted: boolean }>(old: T) => readonly T[]) =>
    store.bundles.change(TD, (bundle) => ({
      ...bundle,
      x509Authorities: [...bundle.x509Authorities.slice(0, -1).flatMap(change), ...bundle.x509Authorities.slice(-1)],
      jwtAuthorities: [...bundle.jwtAuthorities.slice(0, -1).flatMap(change), ...bundle.jwtAuthorities.slice(-1)],
    }))
  await rotate()
  const meanwhile: (readonly Change[])[] = []
  const agent = await startAgent(server, {
    onTheWay: async () => {
      for (const one of meanwhile.shift() ?? []) await make(one)
    },
  })

  /** Makes a change on the server; one that is refused there changes nothing. */
  async function make(wanted: Change): Promise<void> {
    const now = Math.floor(clock.ms / 1000)
    try {
      if (wanted.do === 'create' || wanted.do === 'again') {
        if (wanted.do === 'again') await store.entries.delete(wanted.id)
        const entry = { ...PLAIN_ENTRY, ...wanted.fields, ...fresh(wanted.fields), id: wanted.id, parentId: AGENT_ID }
        await store.entries.create([entry], now)
      } else if (wanted.do === 'update')
        await store.entries.update(wanted.id, { ...wanted.fields, ...fresh(wanted.fields) } as Partial<EntryFields>)
      else if (wanted.do === 'delete') await store.entries.delete(wanted.id)
      else if (wanted.do === 'bundle') await store.bundles.set(foreignBundle(wanted.name))
      else if (wanted.do === 'replace') {
        await store.bundles.delete(wanted.name, 'dissociate')
        await store.bundles.set(foreignBundle(wanted.name))
      } else if (wanted.do === 'dissociate') await store.bundles.delete(wanted.name, 'dissociate')
      else if (wanted.do === 'rotate') await rotate()
      else await changeOld((old) => (wanted.do === 'taint' ? [{ ...old, tainted: true }] : []))
    } catch (error) {
      if (!(error instanceof StatusError)) throw error
    }
    await remember()
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
        refusals: countedLog(silentLog, { clock }),
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
      const state = states.get(leaf!.dnsNames[0]!)!
      expect(state.spiffeId).toBe(svid.spiffeId)
      for (const selector of state.selectors) expect(selectors).toContain(selectorText(selector))
      expect(ownRoots).toContain(hex(svid.bundle))
      expect(hex(leaf!.spki)).toBe(hex(importSigner(svid.x509SvidKey).publicKey))
      const roots = parseCertificates(svid.bundle)
      await verifyPath({ leaf: leaf!, intermediates, roots, at: leaf!.notBefore, verify: nodeVerifier() })
      expect(own.map(({ spiffeId, hint }) => `${spiffeId} ${hint}`)).toContain(`${svid.spiffeId} ${svid.hint}`)
    }
    const admitted = own.flatMap((entry) => entry.federatesWith.map((name) => `spiffe://${name}`))
    for (const [name, roots] of Object.entries(message.federatedBundles)) {
      expect(admitted).toContain(name)
      expect(wasAdmitted(selectors, name, hex(roots))).toBe(true)
    }
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
        const question = ValidateJWTSVIDRequest.encode({ audience: 'b', svid: svid.svid }).finish()
        const judged = await api(selectors).methods.get('/SpiffeWorkloadAPI/ValidateJWTSVID')!.unary(question, call())
        expect(ValidateJWTSVIDResponse.decode(judged).spiffeId).toBe(svid.spiffeId)
      }
      return svids.map(({ svid }) => svid)
    },
    async bundles(selectors: readonly string[], kind: 'X509' | 'JWT') {
      const stopOne = new AbortController()
      const method = api(selectors).methods.get(`/SpiffeWorkloadAPI/Fetch${kind}Bundles`)!
      const replies = method.stream(request(X509BundlesRequest, {}), call(stopOne.signal))[Symbol.asyncIterator]()
      // It waits for SVIDs that are not signed yet: nothing comes then.
      const first = await refusedOr(Promise.race([replies.next(), soon()]))
      stopOne.abort()
      if (!first || first.done) return
      answers += 1
      const admitted = entitled(selectors).flatMap((entry) => entry.federatesWith.map((name) => `spiffe://${name}`))
      // The two messages differ in nothing but their names.
      for (const [name, content] of Object.entries(X509BundlesResponse.decode(first.value).bundles)) {
        if (name === 'spiffe://example.org') {
          if (kind === 'X509') expect(ownRoots).toContain(hex(content))
          continue
        }
        expect(admitted).toContain(name)
        if (kind === 'X509') expect(wasAdmitted(selectors, name, hex(content))).toBe(true)
      }
    },
    /** Time goes by. An agent whose own SVID would end meanwhile renews it before, as its timer does. */
    async wait(seconds: number) {
      const end = clock.ms / 1000 + seconds
      if (agent.identity.notAfter <= end + 1) await agent.rotateIfDue()
      clock.ms += seconds * 1000
    },
    /** Bans the agent. From then on it gets nothing more. */
    async ban() {
      await store.nodes.ban(agent.identity.spiffeId)
      await expect(agent.sync()).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
      clock.ms += 3_000_000
      const before = new Set(WORKLOADS.flatMap((one) => agent.cache.current(one).identities.map(({ svid }) => svid)))
      await agent.signPending().catch((error) => expect(error).toMatchObject({ code: 'PERMISSION_DENIED' }))
      for (const one of WORKLOADS) {
        for (const { svid } of agent.cache.current(one).identities) expect(before).toContain(svid)
        const bytes = JWTSVIDRequest.encode({ audience: ['a', 'b'], spiffeId: '' }).finish()
        const answer = api(one).methods.get('/SpiffeWorkloadAPI/FetchJWTSVID')!.unary(bytes, call())
        expect(await refusedOr(answer)).toBeUndefined()
      }
    },
    async end() {
      for (const one of streams) one.stop()
      await Promise.all(streams.map(({ done }) => done))
      await store.close()
    },
  }
}

async function* request<T extends object>(type: MessageType<T>, message: T) {
  yield type.encode(message).finish()
}

const soon = () => new Promise<undefined>((resolve) => setImmediate(() => setImmediate(() => resolve(undefined))))

/** Roots that no other bundle has. */
const foreignRoots = await Promise.all(
  Array.from({ length: 200 }, async () => (await makeCertificate({ name: 'root', ca: true })).der),
)
let rootsUsed = 0

const rootsText = (bundle: Bundle) => bundle.x509Authorities.map(({ der }) => hex(der)).join('')

function subsets<T>(items: readonly T[]): T[][] {
  const found: T[][] = [[]]
  for (const item of items) found.push(...found.map((some) => [...some, item]))
  return found
}

function foreignBundle(trustDomain: (typeof FOREIGN)[number]) {
  return {
    trustDomain,
    x509Authorities: [{ der: foreignRoots[rootsUsed++ % foreignRoots.length]!, tainted: false }],
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
    fc.asyncProperty(
      fc.array(step, { minLength: 10, maxLength: 120, size: 'max' }),
      fc.boolean(),
      async (steps, banned) => {
        const world = await setUp()
        try {
          for (const name of FOREIGN) await world.make({ do: 'bundle', name })
          for (const one of steps) {
            if (one.do === 'sync') await world.agent.sync()
            else if (one.do === 'sign') await world.agent.signPending()
            else if (one.do === 'settle') await world.agent.sync().then(() => world.agent.signPending())
            else if (one.do === 'renew') await world.agent.rotateIfDue()
            else if (one.do === 'wait') await world.wait(one.seconds)
            else if (one.do === 'stream') world.stream(one.workload)
            else if (one.do === 'jwt') await world.jwt(one.workload)
            else if (one.do === 'read') await world.bundles(one.workload, one.kind)
            else if (one.do === 'meanwhile') world.meanwhile.push(one.changes)
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
            for (const token of await world.jwt(selectors)) expect(wanted).toContain(parseJwt(token).claims.sub)
          }
          if (banned) await world.ban()
          await soon()
          expect(world.failures).toEqual([])
          answers += world.answers()
        } finally {
          await world.end()
        }
      },
    ),
    { numRuns: 100 },
  )
  expect(answers).toBeGreaterThan(300)
})

const WEB = {
  spiffeId: parseSpiffeId('spiffe://example.org/web'),
  selectors: [{ type: 'u', value: '1' }],
  hint: '' as const,
  federatesWith: [],
}

test('a server that gives certificates other DNS names is believed once a sync says that the entry is the same', async () => {
  const world = await setUp()
  try {
    const { deps } = world.server
    const sign = deps.ca.signWorkloadX509.bind(deps.ca)
    deps.ca.signWorkloadX509 = (asked) => sign({ ...asked, dnsNames: ['composed.example.org'] })
    await world.make({ do: 'create', id: 'e1', fields: WEB })
    await world.agent.sync()
    await world.agent.signPending()
    expect(world.agent.cache.current(['u:1']).identities).toEqual([])
    await world.agent.sync()
    expect(world.agent.cache.current(['u:1']).identities).toMatchObject([{ svid: { spiffeId: WEB.spiffeId } }])
  } finally {
    await world.end()
  }
})

test('an SVID with names of a state that its entry was in for a moment is not served', async () => {
  const world = await setUp()
  try {
    const { agent } = world
    await world.make({ do: 'create', id: 'e1', fields: WEB })
    await agent.sync()
    const others = { ...WEB, selectors: [{ type: 'u', value: '2' }] }
    await world.make({ do: 'update', id: 'e1', fields: others })
    await agent.signPending()
    await world.make({ do: 'update', id: 'e1', fields: WEB })
    await agent.sync()
    expect(agent.cache.current(['u:1']).identities).toEqual([])
    await agent.signPending()
    expect(agent.cache.current(['u:1']).identities).toHaveLength(1)
  } finally {
    await world.end()
  }
})

test.each(['taint', 'revoke'] as const)('after a %s a workload gets a token of another key', async (change) => {
  const world = await setUp()
  try {
    await world.make({ do: 'create', id: 'e1', fields: WEB })
    await world.agent.sync()
    const first = await world.jwt(['u:1'])
    expect(await world.jwt(['u:1'])).toEqual(first)
    await world.make({ do: 'rotate' })
    await world.make({ do: change })
    await world.agent.sync()
    const [token] = await world.jwt(['u:1'])
    expect(parseJwt(token!).keyId).not.toBe(parseJwt(first[0]!).keyId)
  } finally {
    await world.end()
  }
})
