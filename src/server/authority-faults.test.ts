import { expect, test } from 'vitest'
import type { Bundle } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import { parseCsr } from '../core/csr.ts'
import { equalBytes } from '../core/der.ts'
import { validateJwtSvid } from '../core/jwt-svid.ts'
import { silentLog } from '../core/log.ts'
import { verifyX509Svid } from '../core/path-validation.ts'
import type { KeyManager, UpstreamAuthority, UpstreamBundle } from '../core/plugin.ts'
import { parseSpiffeId } from '../core/spiffe-id.ts'
import type { Store } from '../core/store.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { memoryKeyManager } from '../plugins/keymanager/memory.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { openLibsqlStore } from '../store/libsql.ts'
import { Ca } from './ca.ts'
import { CaManager } from './ca-manager.ts'
import { revokeRoot, taintedRootKeyIds, taintRoot } from './taint.ts'

/**
 * Every write of every change of authorities fails once, before or after it was done, and then the process ends or goes on. What signs
 * after that is trusted.
 */

const trustDomain = parseTrustDomainName('example.org')
const WORKLOAD = parseSpiffeId('spiffe://example.org/w')
const DAY = 86400
const START = 1_800_000_000
const verify = nodeVerifier()
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

/** Fails the n-th step that it is told of. */
class Faults {
  countdown = Number.POSITIVE_INFINITY
  after = false

  async step<T>(work: () => Promise<T>): Promise<T> {
    this.countdown -= 1
    const fails = this.countdown === 0
    if (fails && !this.after) throw new Error('the step fails')
    const result = await work()
    if (fails) throw new Error('the step fails, though it was done')
    return result
  }
}

/** The same object, whose methods of these names are steps. */
function stepping<T extends object>(target: T, names: readonly (keyof T)[], faults: Faults): T {
  return new Proxy(target, {
    get(object, name) {
      const value = Reflect.get(object, name)
      if (typeof value !== 'function') return value
      const bound = value.bind(object)
      if (!names.includes(name as keyof T)) return bound
      return (...args: unknown[]) => faults.step(() => bound(...args))
    },
  })
}

interface World {
  readonly time: { now: number }
  readonly store: Store
  readonly keys: KeyManager
  readonly faults: Faults
  readonly upstream?: UpstreamAuthority | undefined
  readonly caTtlSeconds: number
}

async function world(upstream?: UpstreamAuthority, caTtlSeconds = DAY, time = { now: START }): Promise<World> {
  const store = await openLibsqlStore({ log: silentLog, clock: { nowMs: () => time.now * 1000 } })
  return { time, store, keys: memoryKeyManager(), faults: new Faults(), upstream, caTtlSeconds }
}

/** A server process on what there is. */
async function started({ time, store, keys, faults, upstream, caTtlSeconds }: World) {
  const clock = { nowMs: () => time.now * 1000 }
  const ttls = { x509SvidTtlSeconds: 3600, jwtSvidTtlSeconds: 300, agentTtlSeconds: 3600, caTtlSeconds }
  const ca = new Ca({ trustDomain, ...ttls, clock, random })
  const announced: string[] = []
  const manager = await CaManager.load(
    {
      trustDomain,
      caTtlSeconds,
      caKeyType: 'ec-p256',
      jwtKeyType: 'ec-p256',
      caSubject: { organization: ['SPIFFE'] },
      disableJwtSvids: false,
    },
    {
      store: {
        bundles: stepping(store.bundles, ['append', 'change', 'set'], faults),
        journals: stepping(store.journals, ['save'], faults),
      },
      keyManager: stepping(keys, ['generateKey'], faults),
      ...(upstream ? { upstream } : {}),
      ca,
      verify,
      clock,
      random,
      log: silentLog,
      onTainted: (ids) => void announced.push(...ids),
    },
  )
  return { manager, ca, announced }
}

type Process = Awaited<ReturnType<typeof started>>

/** What the CA signs now verifies by the bundle. */
async function expectTrusted({ store, time }: World, { ca, manager }: Process): Promise<void> {
  const bundle = (await store.bundles.get(trustDomain))!
  const spki = (await generateSigner('ec-p256')).publicKey
  const { chain } = await ca.signServerX509(spki)
  const roots = bundle.x509Authorities.map(({ der }) => parseCertificate(der))
  await verifyX509Svid({ chain, rootsOf: () => roots, at: time.now, verify })
  const { token } = await ca.signJwt({ id: WORKLOAD, audience: ['a'], ttlSeconds: 0 })
  const authoritiesOf = () => bundle.jwtAuthorities
  await validateJwtSvid({ token, audience: ['a'], authoritiesOf, at: time.now, verify })
  const { current } = manager.x509Slots
  expect(equalBytes(current.authority!.certificate.spki, current.authority!.signer.publicKey)).toBe(true)
}

/** A server above, in process. Its root changes with `turn`. */
async function above(time = { now: START }) {
  const place = await world(undefined, 30 * DAY, time)
  const process = await started(place)
  await process.manager.rotate()
  const bundle = async () => (await place.store.bundles.get(trustDomain))!
  const upstream: UpstreamAuthority = {
    name: 'spire',
    async mintX509Ca(csr, ttl) {
      const { chain } = await process.ca.signDownstreamCa(parseCsr(csr).spki, ttl)
      return { caChain: chain, upstreamRoots: (await bundle()).x509Authorities }
    },
    publishJwtKey: (key) => process.manager.publishJwtKey(key),
    async *follow() {
      yield (await bundle()) as UpstreamBundle
    },
  }
  const turn = async () => {
    const old = process.manager.x509Slots.current.authorityId
    await process.manager.prepareX509()
    await process.manager.activateX509(process.manager.x509Slots.next.authorityId)
    return old
  }
  const change = (by: (bundle: Bundle) => Bundle) => place.store.bundles.change(trustDomain, by)
  return { upstream, turn, change }
}

const OPERATIONS: Readonly<Record<string, (world: World, process: Process) => Promise<void>>> = {
  'the first rotation': async (_, { manager }) => manager.rotate(),
  'preparing by hand, twice': async (_, { manager }) => {
    await manager.rotate()
    await manager.prepareX509()
    await manager.prepareJwt()
    await manager.prepareX509()
    await manager.prepareJwt()
  },
  'activating by hand': async (_, { manager }) => {
    await manager.rotate()
    await manager.prepareX509()
    await manager.activateX509(manager.x509Slots.next.authorityId)
    await manager.prepareJwt()
    await manager.activateJwt(manager.jwtSlots.next.authorityId)
  },
  'a life of rotations': async ({ time }, { manager }) => {
    for (let step = 0; step < 5; step++) {
      await manager.rotate()
      time.now += DAY / 3 + 10
    }
  },
  'following the upstream': async (_, { manager }) => {
    await manager.rotate()
    await manager.lookUpstream()
  },
}

const places = ['on its own', 'below an upstream'] as const
test.each(places.flatMap((place) => Object.keys(OPERATIONS).map((operation) => [operation, place] as const)))(
  'whatever step of %s fails, what signs afterwards is trusted: %s',
  async (operation, place) => {
    for (const after of [false, true]) {
      for (let step = 1; ; step++) {
        const time = { now: START }
        const there = await world(place === 'on its own' ? undefined : (await above(time)).upstream, DAY, time)
        there.faults.countdown = step
        there.faults.after = after
        let failed = false
        const process = await started(there)
        await OPERATIONS[operation]!(there, process).catch(() => {
          failed = true
        })
        const reached = there.faults.countdown <= 0
        there.faults.countdown = Number.POSITIVE_INFINITY
        // The process that goes on: what is prepared can be activated, and signs what is trusted.
        if (failed) {
          await process.manager.rotate()
          const { next } = process.manager.x509Slots
          if (next.status === 'prepared') await process.manager.activateX509(next.authorityId)
          const key = process.manager.jwtSlots.next
          if (key.status === 'prepared') await process.manager.activateJwt(key.authorityId)
          await expectTrusted(there, process)
        }
        // The process that takes its place.
        const successor = await started(there)
        await successor.manager.rotate()
        await expectTrusted(there, successor)
        await there.store.close()
        if (!reached) break
      }
    }
  },
  60_000,
)

test('a crash right after the step leaves what the next start takes up, or makes anew', async () => {
  // As above, but the first process does nothing more.
  for (const place of [undefined, (await above()).upstream]) {
    for (let step = 1; step < 12; step++) {
      const there = await world(place)
      there.faults.countdown = step
      await OPERATIONS['activating by hand']!(there, await started(there)).catch(() => {})
      there.faults.countdown = Number.POSITIVE_INFINITY
      const successor = await started(there)
      await successor.manager.rotate()
      await expectTrusted(there, successor)
      await there.store.close()
    }
  }
})

test('a CA whose root nobody trusts is not taken up from the journal', async () => {
  const first = await above()
  const there = await world(first.upstream)
  const process = await started(there)
  await process.manager.rotate()
  const { authorityId } = process.manager.x509Slots.current
  await there.store.bundles.change(trustDomain, (bundle) => ({ ...bundle, x509Authorities: [] }))
  const successor = await started(there)
  expect(successor.manager.x509Slots.current.status).toBe('empty')
  await successor.manager.rotate()
  expect(successor.manager.x509Slots.current.authorityId).not.toBe(authorityId)
  await expectTrusted(there, successor)
})

test('a prepare that fails takes its slot along: the key there is no longer that of the authority', async () => {
  const there = await world()
  const process = await started(there)
  await process.manager.rotate()
  await process.manager.prepareX509()
  const prepared = process.manager.x509Slots.next.authorityId
  there.faults.countdown = 2
  await expect(process.manager.prepareX509()).rejects.toThrow()
  expect(process.manager.x509Slots.next.status).toBe('empty')
  await expect(process.manager.activateX509(prepared)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
})

test('of two servers on one database each leaves a root that was tainted upstream, whoever hears of it first', async () => {
  const root = await above()
  const there = await world(root.upstream)
  // Each with keys of its own.
  const first = await started(there)
  const second = await started({ ...there, keys: memoryKeyManager() })
  there.store.changes.subscribe((changes) => {
    for (const { kind, bundle } of changes) {
      if (kind !== 'bundle' || !bundle) continue
      void first.manager.bundleChanged(bundle)
      void second.manager.bundleChanged(bundle)
    }
  })
  await first.manager.rotate()
  await second.manager.rotate()
  const old = await root.turn()
  await root.change((bundle) => taintRoot(bundle, old))
  await first.manager.lookUpstream()
  await expect.poll(() => second.announced).toEqual([old])
  await expect.poll(() => first.announced).toEqual([old])
  const bundle = (await there.store.bundles.get(trustDomain))!
  expect(taintedRootKeyIds(bundle)).toEqual([old])
  for (const { manager } of [first, second]) expect(manager.x509Slots.current.upstreamAuthorityId).not.toBe(old)
  // Then it can be revoked, and both go on.
  await root.change((bundle) => revokeRoot(bundle, old))
  await first.manager.lookUpstream()
  expect((await there.store.bundles.get(trustDomain))!.x509Authorities).toHaveLength(1)
  await expectTrusted(there, first)
  await expectTrusted(there, second)
})

test('a server that was away while a root was tainted leaves it when it starts', async () => {
  const root = await above()
  const there = await world(root.upstream)
  const before = await started(there)
  await before.manager.rotate()
  const old = await root.turn()
  await there.store.bundles.append({
    trustDomain,
    x509Authorities: (await collect(root.upstream)).x509Authorities,
  })
  await there.store.bundles.change(trustDomain, (bundle) => taintRoot(bundle, old))
  const successor = await started(there)
  await successor.manager.rotate()
  expect(successor.manager.x509Slots.current.upstreamAuthorityId).not.toBe(old)
})

test('an upstream that still signs under a tainted root is not asked without end', async () => {
  const root = await above()
  let minted = 0
  const upstream: UpstreamAuthority = {
    ...root.upstream,
    mintX509Ca: (csr, ttl) => {
      minted += 1
      return root.upstream.mintX509Ca(csr, ttl)
    },
  }
  const there = await world(upstream)
  const process = await started(there)
  await process.manager.rotate()
  const only = process.manager.x509Slots.current.upstreamAuthorityId
  await there.store.bundles.change(trustDomain, (bundle) => taintRoot(bundle, only))
  await process.manager.bundleChanged((await there.store.bundles.get(trustDomain))!)
  const once = minted
  for (let count = 0; count < 5; count++) await process.manager.rotate()
  expect(minted).toBe(once)
  there.time.now += 61
  await process.manager.rotate()
  expect(minted).toBe(once + 1)
})

async function collect(upstream: UpstreamAuthority): Promise<UpstreamBundle> {
  for await (const bundle of upstream.follow!(new AbortController().signal)) return bundle
  throw new Error('nothing came')
}

const key = (keyId: string, tainted = false) => ({
  keyId,
  publicKey: Uint8Array.of(1),
  expiresAt: START + DAY,
  tainted,
})

test('taints of the upstream’s JWT keys are taken over, and what was tainted and is gone leaves', async () => {
  let theirs: readonly ReturnType<typeof key>[] = [key('a'), key('b')]
  const root = await above()
  const upstream: UpstreamAuthority = {
    ...root.upstream,
    publishJwtKey: async (one) => [...theirs, one],
    async *follow(signal) {
      yield { ...(await collect({ ...root.upstream })), jwtAuthorities: theirs }
      signal.throwIfAborted()
    },
  }
  const there = await world(upstream)
  const { manager } = await started(there)
  await manager.rotate()
  await manager.lookUpstream()
  const own = manager.jwtSlots.current.authorityId
  const keys = async () =>
    (await there.store.bundles.get(trustDomain))!.jwtAuthorities
      .map(({ keyId, tainted }) => `${keyId}${tainted ? ' tainted' : ''}`)
      .filter((text) => !text.startsWith(own))
  expect(await keys()).toEqual(expect.arrayContaining(['a', 'b']))
  theirs = [key('a', true), key('b')]
  await manager.lookUpstream()
  expect(await keys()).toEqual(expect.arrayContaining(['a tainted', 'b']))
  theirs = [key('b')]
  await manager.lookUpstream()
  expect(await keys()).not.toEqual(expect.arrayContaining(['a tainted']))
  // Our own, which is not tainted, stays though it is not there.
  expect((await there.store.bundles.get(trustDomain))!.jwtAuthorities.map(({ keyId }) => keyId)).toContain(own)
})
