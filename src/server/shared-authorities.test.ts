import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { sharedAuthoritiesSuite } from '../../test/contract/shared-authorities.ts'
import { DAY, id, kek, newCa, OPTIONS, random, START, verify, workloadKey, world } from '../../test/support/replicas.ts'
import { silentLog } from '../core/log.ts'
import type { WrappedKeyStore } from '../core/store.ts'
import { memoryKeyManager } from '../plugins/keymanager/memory.ts'
import { sharedByName } from '../plugins/keymanager/shared.ts'
import { openLibsqlStore } from '../store/libsql.ts'
import { type AuthorityStore, CaManager } from './ca-manager.ts'

/** Lets others go on, whatever the time. */
const noPause = () => new Promise<void>((resolve) => setImmediate(resolve))

const newFile = () => join(mkdtempSync(join(tmpdir(), 'turret-shared-')), 'd.sqlite3')

describe('one process', () => sharedAuthoritiesSuite(async () => undefined))
describe('a process each', () =>
  sharedAuthoritiesSuite(async () => {
    const path = newFile()
    return (clock) => openLibsqlStore({ path, log: silentLog, clock })
  }))

test('what another replica activated signs here five seconds later, without any timer', async () => {
  const { replica, sign, time } = await world()
  const [one, two] = [await replica(), await replica()]
  await one.manager.start(noPause)
  await two.manager.start(noPause)
  const first = await sign(two.ca)
  await one.manager.prepareX509()
  await one.manager.activateX509(one.manager.x509Slots.next.authorityId)
  expect(await sign(one.ca)).not.toBe(first)
  time.now += 4
  expect(await sign(two.ca)).toBe(first)
  time.now += 1
  expect(await sign(two.ca)).toBe(await sign(one.ca))
})

test('signing asks the database for nothing while what is known is fresh, and once when many sign', async () => {
  const { replica, store, time } = await world()
  const { ca, manager } = await replica()
  await manager.start(noPause)
  const list = vi.spyOn(store.journals, 'list')
  const many = () =>
    Promise.all(Array.from({ length: 20 }, () => ca.signWorkloadX509({ id, spki: workloadKey, ttlSeconds: 60 })))
  await many()
  expect(list).not.toHaveBeenCalled()
  time.now += 5
  await many()
  expect(list).toHaveBeenCalledTimes(1)
  time.now += 3
  await manager.refresh()
  time.now += 4
  await many()
  expect(list).toHaveBeenCalledTimes(2)
})

test('keys of one process need no lease, and neither signing nor looking after them reads anything', async () => {
  const { clock, store, time } = await world()
  const ca = newCa(clock)
  const keyManager = memoryKeyManager()
  const manager = await CaManager.load(OPTIONS, {
    store,
    keyManager,
    ca,
    verify,
    clock,
    random,
    log: silentLog,
  })
  await manager.start(noPause)
  const used = [vi.spyOn(store.journals, 'list'), vi.spyOn(store.journals, 'save'), vi.spyOn(store.bundles, 'get')]
  time.now += 600
  await manager.rotate()
  await manager.refresh()
  await ca.signWorkloadX509({ id, spki: workloadKey, ttlSeconds: 60 })
  await ca.signJwt({ id, audience: ['a'], ttlSeconds: 60 })
  for (const call of used) expect(call).not.toHaveBeenCalled()
})

test('a request does what cron should have done', async () => {
  const { replica, sign, time, living } = await world()
  const { ca, manager } = await replica()
  // Nothing was ever started here: the first request makes the first authority.
  const first = await sign(ca)
  time.now += DAY / 2 + 60
  expect(await sign(ca)).toBe(first)
  expect(manager.x509Slots.next.status).toBe('empty')
  time.now += 6
  expect(await sign(ca)).toBe(first)
  expect(manager.x509Slots.next.status).toBe('prepared')
  time.now = START + (DAY * 5) / 6 + 66
  expect(await sign(ca)).not.toBe(first)
  // Asleep for so long that everything ended.
  time.now += 10 * DAY
  await sign(ca)
  const { x509, jwt, wit } = await living()
  expect([x509.length, jwt.length, wit.length]).toEqual([1, 1, 1])
})

test('who is asked to prepare while another replica is at it says so', async () => {
  const { replica, store, time } = await world()
  const { manager } = await replica()
  await manager.start(noPause)
  await store.leases!.take('authorities', 'another', time.now, 30)
  await expect(manager.prepareX509()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  expect(manager.x509Slots.next.status).toBe('empty')
  time.now += 30
  await manager.prepareX509()
  expect(manager.x509Slots.next.status).toBe('prepared')
})

test('a lease that ends in the middle of a write costs the late owner all its writes', async () => {
  const { replica, store, time, bundle, sign } = await world()
  const one = await replica()
  await one.manager.start(noPause)
  let arrived = () => {}
  let goOn = () => {}
  const allowed = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const inside = new Promise<void>((resolve) => {
    arrived = resolve
  })
  const slow: AuthorityStore = {
    ...store,
    guarded(lease) {
      const guarded = store.guarded!(lease)
      const save: WrappedKeyStore['save'] = async (key) => {
        arrived()
        await allowed
        await guarded.keys!.save(key)
      }
      return { ...guarded, keys: { ...guarded.keys!, save } }
    },
  }
  const two = await replica({ store: slow })
  time.now += DAY / 2 + 1
  const late = two.manager.rotate().catch((error: unknown) => String(error))
  await inside
  // Its turn is over, and another one does the work.
  time.now += 31
  await one.manager.rotate()
  expect(one.manager.x509Slots.next.status).toBe('prepared')
  const before = await bundle()
  goOn()
  expect(await late).toContain('lease')
  expect(await bundle()).toEqual(before)
  expect(two.manager.x509Slots.next.status).not.toBe('prepared')
  await two.manager.rotate()
  expect(two.manager.x509Slots.next.authorityId).toBe(one.manager.x509Slots.next.authorityId)
  expect(await sign(two.ca)).toBe(await sign(one.ca))
})

/** A store that is gone for its user after a number of writes: a process that died there. */
function dying(store: AuthorityStore, writes: number): AuthorityStore {
  let left = writes
  const die = <A extends unknown[], R>(write: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      if (left-- <= 0) throw new Error('died')
      return write(...args)
    }
  }
  const wrapped = (inner: AuthorityStore): AuthorityStore => ({
    bundles: { ...inner.bundles, append: die(inner.bundles.append) },
    journals: { ...inner.journals, save: die(inner.journals.save) },
    keys: { ...inner.keys!, save: die(inner.keys!.save) },
    leases: { ...store.leases!, release: async () => {} },
    guarded: (lease) => wrapped(store.guarded!(lease)),
  })
  return wrapped(store)
}

test.each(
  ([0, DAY / 2 + 1, (DAY * 5) / 6 + 1] as const).flatMap((age) =>
    Array.from({ length: 12 }, (_, n) => [age, n] as const),
  ),
)(
  'an owner that dies at age %i after %i writes leaves nothing that the next one cannot finish',
  async (age, writes) => {
    const { replica, store, time, living, sign } = await world()
    const one = await replica()
    if (age > 0) {
      await one.manager.start(noPause)
      if (age > DAY / 2 + 1) {
        time.now = START + DAY / 2 + 1
        await one.manager.rotate()
      }
      time.now = START + age
    }
    const doomed = await replica({ store: dying(store, writes) })
    await doomed.manager.rotate().catch(() => {})
    // Until its lease ends nobody else does anything, and those that have a CA go on with it.
    await one.manager.rotate()
    if (age > 0) await sign(one.ca)
    time.now += 30
    await one.manager.start(noPause)
    const three = await replica()
    await three.manager.start(noPause)
    const { x509, jwt, wit } = await living()
    const expected = age === 0 ? 1 : 2
    expect([x509.length, jwt.length, wit.length]).toEqual([expected, expected, expected])
    expect(await sign(three.ca)).toBe(await sign(one.ca))
    expect(three.manager.x509Slots.current.letter).toBe(age > DAY / 2 + 1 ? 'B' : 'A')
    expect(await store.journals.list()).toHaveLength(1)
  },
)

test('however replicas come, go, sleep and rotate, at most three authorities of a kind live, and all signatures verify', async () => {
  const step = fc.record({
    who: fc.nat(2),
    seconds: fc.oneof(fc.nat(20), fc.nat(DAY / 4), fc.nat(2 * DAY)),
    what: fc.constantFrom('rotate', 'sign', 'restart', 'refresh'),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const { replica, living, sign, time } = await world()
      const replicas = await Promise.all([replica(), replica(), replica()])
      for (const { who, seconds, what } of steps) {
        time.now += seconds
        if (what === 'restart') replicas[who] = await replica()
        if (what === 'rotate') await Promise.all(replicas.map(({ manager }) => manager.rotate()))
        if (what === 'refresh') await replicas[who]!.manager.refresh()
        await sign(replicas[who]!.ca)
        const { x509, jwt, wit } = await living()
        for (const kind of [x509, jwt, wit]) expect(kind.length).toBeLessThanOrEqual(3)
      }
    }),
    { numRuns: 15 },
  )
}, 30_000)

test('a lost key-encryption key stops a replica with a clear error and changes nothing', async () => {
  const { replica, store, bundle } = await world()
  await (await replica()).manager.start(noPause)
  const before = [await store.keys.list(), await bundle(), await store.journals.list()]
  const other = { version: '2', key: new Uint8Array(32).fill(2) }
  await expect(replica({ keks: [other] })).rejects.toThrow(
    'is wrapped with version "1" of the key-encryption key, which is not configured (configured: "2")',
  )
  expect([await store.keys.list(), await bundle(), await store.journals.list()]).toEqual(before)
})

test('a new key-encryption key wraps all keys anew at the next look, and signing goes on', async () => {
  const { replica, store, sign, time } = await world()
  const one = await replica()
  await one.manager.start(noPause)
  const other = { version: '2', key: new Uint8Array(32).fill(2) }
  const two = await replica({ keks: [other, kek] })
  await two.manager.rotate()
  expect(new Set((await store.keys.list()).map(({ kekVersion }) => kekVersion))).toEqual(new Set(['2']))
  time.now += 6
  expect(await sign(one.ca)).toBe(await sign(two.ca))
  const three = await replica({ keks: [other] })
  expect(await sign(three.ca)).toBe(await sign(two.ca))
})

/** Keys in a service: whoever uses the name sees the same ones. */
function service() {
  const keys = memoryKeyManager()
  return (name: string) => sharedByName(keys, `service ${name}`)
}

test('servers that share keys in a service take turns too', async () => {
  const { replica, living, sign, time } = await world()
  const keysOf = service()
  const replicas = await Promise.all([1, 2, 3].map(() => replica({ keyManager: keysOf('prod') })))
  await Promise.all(replicas.map(({ manager }) => manager.start(noPause)))
  const counts = async () => Object.values(await living()).map(({ length }) => length)
  expect(await counts()).toEqual([1, 1, 1])
  for (const age of [DAY / 2 + 1, (DAY * 5) / 6 + 1]) {
    time.now = START + age
    await Promise.all(replicas.map(({ manager }) => manager.rotate()))
    time.now += 5
    await Promise.all(replicas.map(({ manager }) => manager.rotate()))
  }
  expect(await counts()).toEqual([2, 2, 2])
  expect(new Set(await Promise.all(replicas.map(({ ca }) => sign(ca)))).size).toBe(1)
})

test('an owner whose lease ended makes no key in a service', async () => {
  const { replica, store, time } = await world()
  const keysOf = service()
  const one = await replica({ keyManager: keysOf('prod') })
  await one.manager.start(noPause)
  const late = await store.leases.take('authorities service prod', 'late', time.now, 30)
  time.now += 30
  await store.leases.take('authorities service prod', 'next', time.now, 30)
  const manager = keysOf('prod').shared!.through(store.guarded(late!).keys)
  const before = (await manager.getKey('x509-CA-A'))!.publicKey
  await expect(manager.generateKey('x509-CA-A', 'ec-p256')).rejects.toMatchObject({ code: 'ABORTED' })
  expect((await manager.getKey('x509-CA-A'))!.publicKey).toEqual(before)
})

test('servers with keys of their own in a service do not wait for each other', async () => {
  const { replica, store, time, living } = await world()
  const [one, two] = [await replica({ keyManager: service()('one') }), await replica({ keyManager: service()('two') })]
  await one.manager.start(noPause)
  await store.leases.take('authorities service one', 'somebody', time.now, 30)
  await two.manager.start(noPause)
  expect((await living()).x509).toHaveLength(2)
  expect(await store.journals.list()).toHaveLength(2)
})

test('a store without leases is refused for shared keys', async () => {
  const { store, replica } = await world()
  const { bundles, journals, keys } = store
  await expect(replica({ store: { bundles, journals, keys } })).rejects.toThrow(
    'the data store cannot keep keys that replicas share',
  )
})
