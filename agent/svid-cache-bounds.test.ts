import { expect, test } from 'vitest'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { bundle, entry, follow, NEXT_ROOT, needed, OTHER, ROOT, settle, setUp, TD } from '../test/support/svid-cache.ts'

// What the cache forgets, what it asks for and in which order, and whom it leaves alone.

const ANOTHER = parseTrustDomainName('another.org')

test('an entry that is gone is known no more, and nothing is signed for it', () => {
  const { cache, apply, sign } = setUp()
  const [a, b] = [entry('a', ['u:1']), entry('b', ['u:1'])]
  apply([a, b])
  sign(a)
  expect([...cache.entries()]).toEqual([a, b])
  expect(cache.entry('a')).toBe(a)
  apply([b])
  expect([...cache.entries()]).toEqual([b])
  expect(cache.entry('a')).toBeUndefined()
  expect(cache.svidCount).toBe(0)
  expect(needed(cache)).toEqual(['b'])
  // Nor is an SVID of it kept that was under way.
  sign(a)
  expect(cache.svidCount).toBe(0)
})

test('before the first bundle there is nothing to serve', () => {
  const { cache, apply, sign } = setUp()
  const a = entry('a', ['u:1'])
  apply([a], [bundle(OTHER)])
  sign(a)
  expect(cache.svidCount).toBe(0)
  expect(() => cache.current(['u:1'])).toThrow('the bundle of the own trust domain is not there yet')
})

test('a new bundle comes to entries that have no SVID as well', () => {
  const { cache, apply, own } = setUp()
  const a = entry('a', ['u:1'])
  apply([a])
  const next = { ...own, x509Authorities: [{ der: NEXT_ROOT, tainted: false }] }
  apply([a], [next])
  expect(cache.current(['u:1'])).toMatchObject({ identities: [], bundle: next })
  expect(cache.bundle(TD)).toBe(next)
})

test('a sync that changes nothing leaves everything as it is', () => {
  const { cache, apply, sign, own } = setUp()
  const a = entry('a', ['u:1'])
  const tainted = { ...own, x509Authorities: [{ der: ROOT, tainted: true }] }
  apply([a], [tainted])
  sign(a)
  sign(a)
  const before = cache.current(['u:1'])
  apply([a], [tainted])
  expect(cache.current(['u:1'])).toBe(before)
  // The server was asked once more for what it signs under a tainted root, and is not asked with each sync.
  expect(needed(cache)).toEqual([])
  expect(cache.svidCount).toBe(1)
})

test('selectors are one set in whatever order and however often they come', () => {
  const { cache, apply } = setUp()
  apply([entry('a', ['u:1'])])
  expect(cache.current(['u:1', 'g:1', 'u:1'])).toBe(cache.current(['g:1', 'u:1']))
})

test('a change that decides nothing shows at once to who asks, and to who waits with the new SVID', async () => {
  const { cache, apply, sign } = setUp()
  const federatesWith = [OTHER, ANOTHER]
  const [a, b] = [entry('a', ['u:1'], { federatesWith }), entry('b', ['u:2'])]
  apply([a, b])
  sign(a, b)
  const workload = follow(cache, ['u:1'])
  await settle()
  const others = cache.current(['u:2'])
  const changed = entry('a', ['u:1'], { hint: 'h', revisionNumber: 1, federatesWith: [ANOTHER, OTHER] })
  apply([changed, b])
  await settle()
  expect(workload.updates).toHaveLength(1)
  expect(cache.matching(['u:1'])).toEqual([changed])
  expect(cache.current(['u:1']).identities).toMatchObject([{ entry: changed }])
  expect(cache.current(['u:2'])).toBe(others)
  sign(changed)
  await settle()
  expect(workload.updates.at(-1)!.identities).toMatchObject([{ entry: changed }])
  const { length } = workload.updates
  apply([entry('a', ['u:1'], { revisionNumber: 2, federatesWith }), b])
  await settle()
  expect(workload.updates).toHaveLength(length)
  await workload.stop()
})

test('whoever holds an identity that an entry gives no more is told at once, not with the new SVID', async () => {
  const { cache, apply, sign } = setUp()
  const [a, b] = [entry('a', ['u:1']), entry('b', ['u:1'])]
  apply([a, b])
  sign(a, b)
  const workload = follow(cache, ['u:1'])
  await settle()
  expect(workload.ids()).toEqual(['a', 'b'])
  apply([entry('a', ['u:1'], { spiffeId: parseSpiffeId('spiffe://example.org/other'), revisionNumber: 1 }), b])
  await settle()
  expect(workload.ids()).toEqual(['b'])
  await workload.stop()
})

test('the bundles of an entry are those of the trust domains that it federates with and that are known, each once, sorted', () => {
  const { cache, apply, sign, own } = setUp()
  const unknown = parseTrustDomainName('unknown.org')
  const middle = parseTrustDomainName('middle.org')
  const bundles = [own, bundle(OTHER), bundle(ANOTHER), bundle(middle), bundle(parseTrustDomainName('zzz.org'))]
  const a = entry('a', ['u:1'], { federatesWith: [OTHER, TD, unknown, ANOTHER, middle] })
  const b = entry('b', ['u:1'], { federatesWith: [ANOTHER] })
  apply([a, b], bundles)
  sign(a, b)
  expect(cache.current(['u:1']).federatedBundles.map(({ trustDomain }) => trustDomain)).toEqual([
    ANOTHER,
    middle,
    OTHER,
  ])
})

test('a federated bundle wakes those alone who federate with it', async () => {
  const { cache, apply, sign, own } = setUp()
  const [a, b] = [entry('a', ['u:1'], { federatesWith: [OTHER] }), entry('b', ['u:2'], { federatesWith: [ANOTHER] })]
  const another = bundle(ANOTHER)
  apply([a, b], [own, bundle(OTHER), another])
  sign(a, b)
  const [one, two] = [follow(cache, ['u:1']), follow(cache, ['u:2'])]
  await settle()
  apply([a, b], [own, bundle(OTHER, 1), another])
  await settle()
  expect([one.updates.length, two.updates.length]).toEqual([2, 1])
  await Promise.all([one.stop(), two.stop()])
})

test('what is signed next: what has ended first, no more than is asked for, and not what is under way', () => {
  const { cache, apply, sign, svid, time } = setUp()
  const [a, b, c] = [entry('a', ['u:1']), entry('b', ['u:2']), entry('c', ['u:3'])]
  apply([a, b, c])
  expect(cache.needed(100, new Set(['a', 'c'])).map(({ id }) => id)).toEqual(['b'])
  sign(a, c)
  cache.store(new Map([['b', svid(b, { notAfter: time.now + 2000 })]]))
  time.now += 2000
  expect(needed(cache)).toEqual(['b', 'a', 'c'])
  expect(cache.needed(1).map(({ id }) => id)).toEqual(['b'])
  expect(cache.needed(2).map(({ id }) => id)).toEqual(['b', 'a'])
})

test('what is kept, and what somebody waits for, takes the room of what nobody waits for', async () => {
  const { cache, apply, sign } = setUp(2)
  const entries = ['a', 'b', 'c'].map((id) => entry(id, [`u:${id}`]))
  apply(entries)
  sign(entries[0]!)
  sign(entries[0]!)
  expect(cache.svidCount).toBe(1)
  expect(needed(cache)).toEqual(['b'])
  const workload = follow(cache, ['u:b'])
  await settle()
  expect(needed(cache)).toEqual(['b'])
  await workload.stop()
})

test('what is not signed in advance is signed for as long as somebody waits who may have it', async () => {
  const { cache, apply } = setUp()
  apply([entry('a', ['u:1', 'g:1'], { disableX509SvidPrefetch: true })])
  expect(needed(cache)).toEqual([])
  // One who has only some of the selectors is not to have it.
  const some = follow(cache, ['u:1'])
  await settle()
  expect(needed(cache)).toEqual([])
  const [one, two] = [follow(cache, ['u:1', 'g:1']), follow(cache, ['u:1', 'g:1', 'x:1'])]
  await settle()
  expect(needed(cache)).toEqual(['a'])
  await one.stop()
  expect(needed(cache)).toEqual(['a'])
  await two.stop()
  expect(needed(cache)).toEqual([])
  await some.stop()
})

test('signing is asked for while the first update waits, and not after it', async () => {
  const { cache, apply, sign } = setUp()
  const [a, b] = [entry('a', ['u:1']), entry('b', ['u:1'])]
  apply([a])
  let asked = 0
  cache.onMiss = () => {
    asked += 1
  }
  const workload = follow(cache, ['u:1'])
  await settle()
  expect(asked).toBeGreaterThan(0)
  sign(a)
  await settle()
  expect(workload.ids()).toEqual(['a'])
  const before = asked
  apply([a, b])
  await settle()
  expect(asked).toBe(before)
  await workload.stop()
  // Nor where all is there from the first moment on.
  sign(b)
  const other = follow(cache, ['u:1', 'g:1'])
  await settle()
  expect(other.ids()).toEqual(['a', 'b'])
  expect(asked).toBe(before)
  await other.stop()
})

test('who leaves while their first update is asked for waits no longer', async () => {
  const { cache, apply } = setUp()
  apply([entry('a', ['u:1'])])
  const stop = new AbortController()
  cache.onMiss = () => stop.abort()
  expect((await cache.subscribe(['u:1'], stop.signal).next()).done).toBe(true)
})

test('of those that nobody holds the one goes that was used before the others', async () => {
  const { cache, apply, sign } = setUp(2)
  const [a, b, c] = [entry('a', ['u:a']), entry('b', ['u:b']), entry('c', ['u:c'])]
  apply([a, b, c])
  sign(a, b)
  const workload = follow(cache, ['u:a'])
  await settle()
  await workload.stop()
  sign(c)
  const kept = ['u:a', 'u:b', 'u:c'].map((selector) => cache.current([selector]).identities.length)
  expect(kept).toEqual([1, 0, 1])
})

test('of the many sets of selectors that came by, those that nobody follows are let go of, and no other', async () => {
  const { cache, apply, sign } = setUp()
  const a = entry('a', ['u:1'])
  apply([a])
  sign(a)
  const workload = follow(cache, ['u:1'])
  await settle()
  const idle = cache.current(['x:0'])
  for (let index = 1; index < 511; index += 1) cache.matching([`x:${index}`])
  expect(cache.current(['x:0'])).toBe(idle)
  cache.matching(['x:511'])
  expect(cache.current(['x:0'])).not.toBe(idle)
  sign(a)
  await settle()
  expect(workload.updates).toHaveLength(2)
  // Nor those that nobody follows any more.
  const followed = cache.current(['u:1'])
  await workload.stop()
  expect(cache.current(['u:1'])).toBe(followed)
  for (let index = 0; index < 512; index += 1) cache.matching([`y:${index}`])
  expect(cache.current(['u:1'])).not.toBe(followed)
})
