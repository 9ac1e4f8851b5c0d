import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import {
  bundle,
  entry,
  follow,
  keyOfRoot,
  NEXT_ROOT,
  needed,
  OTHER,
  ROOT,
  START,
  settle,
  setUp,
  TD,
} from '../test/support/svid-cache.ts'

test('an entry matches when all its selectors are there, in the order of ids', () => {
  const { cache, apply } = setUp()
  apply([entry('b', ['u:1']), entry('a', ['g:1', 'u:1']), entry('c', ['u:2'])])
  expect(cache.matching(['u:1', 'g:1', 'x:9']).map(({ id }) => id)).toEqual(['a', 'b'])
  expect(cache.matching(['u:1']).map(({ id }) => id)).toEqual(['b'])
  expect(cache.matching([])).toEqual([])
})

test('an entry is not for who has only some of its selectors, whichever they are', async () => {
  const { cache, apply, sign } = setUp()
  const both = entry('both', ['g:1', 'u:1'])
  apply([both])
  sign(both)
  for (const some of [['g:1'], ['u:1'], ['g:1', 'u:2'], ['G:1', 'u:1']]) {
    expect(cache.matching(some)).toEqual([])
    expect(cache.current(some).identities).toEqual([])
    const workload = follow(cache, some)
    await settle()
    expect(workload.ids()).toEqual([])
    await workload.stop()
  }
  expect(cache.matching(['u:1', 'g:1'])).toEqual([both])
})

test('whatever entries come and go, those match whose selectors are all there', () => {
  const texts = fc.uniqueArray(fc.constantFrom('u:1', 'u:2', 'g:1', 'g:1,u:1', 'x:\u{1f600}', 'x:\uff5e'), {
    maxLength: 5,
  })
  const states = fc.array(
    fc.dictionary(
      fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      texts.filter(({ length }) => length > 0),
    ),
    {
      minLength: 1,
      maxLength: 4,
    },
  )
  fc.assert(
    fc.property(states, fc.array(texts, { minLength: 1, maxLength: 4 }), (steps, callers) => {
      const { cache, apply } = setUp()
      for (const [revisionNumber, step] of steps.entries()) {
        apply(Object.entries(step).map(([id, selectors]) => entry(id, selectors, { revisionNumber })))
        for (const has of callers) {
          const expected = Object.entries(step).filter(([, needs]) => needs.every((text) => has.includes(text)))
          expect(cache.matching(has).map(({ id }) => id)).toEqual(expected.map(([id]) => id).sort())
        }
      }
    }),
    { numRuns: 300 },
  )
})

test('the first update waits until every matching SVID is there, and asks for them', async () => {
  const { cache, apply, sign } = setUp()
  const a = entry('a', ['u:1'])
  const b = entry('b', ['u:1'])
  apply([a, b])
  let asked = 0
  cache.onMiss = () => {
    asked += 1
  }
  const workload = follow(cache, ['u:1'])
  await settle()
  expect(workload.updates).toEqual([])
  expect(asked).toBeGreaterThan(0)
  sign(a)
  await settle()
  expect(workload.updates).toEqual([])
  sign(b)
  await settle()
  expect(workload.ids()).toEqual(['a', 'b'])
  await workload.stop()
})

test('nobody with no entry waits: the update says that there is nothing', async () => {
  const { cache, apply } = setUp()
  apply([entry('a', ['u:1'])])
  const workload = follow(cache, ['u:2'])
  await settle()
  expect(workload.updates.map(({ identities }) => identities.length)).toEqual([0])
  await workload.stop()
})

test('an entry that goes and comes does not look like losing everything', async () => {
  const { cache, apply, sign } = setUp()
  const a = entry('a', ['u:1'])
  apply([a])
  sign(a)
  const workload = follow(cache, ['u:1'])
  await settle()
  const again = entry('a2', ['u:1'])
  apply([again])
  await settle()
  sign(again)
  await settle()
  expect(workload.updates.map(({ identities }) => identities.length)).not.toContain(0)
  expect(workload.ids()).toEqual(['a2'])
  apply([])
  await settle()
  expect(workload.ids()).toEqual([])
  await workload.stop()
})

test('a slow reader gets the newest state, not all that was between', async () => {
  const { cache, apply, sign } = setUp()
  const a = entry('a', ['u:1'])
  apply([a])
  sign(a)
  const stop = new AbortController()
  const updates = cache.subscribe(['u:1'], stop.signal)
  await updates.next()
  const more = ['b', 'c', 'd'].map((id) => entry(id, ['u:1']))
  for (const [index, one] of more.entries()) {
    apply([a, ...more.slice(0, index + 1)])
    sign(one)
  }
  expect((await updates.next()).value!.identities).toHaveLength(4)
  stop.abort()
  expect((await updates.next()).done).toBe(true)
})

test('subscribers with the same selectors share one update', async () => {
  const { cache, apply, sign } = setUp()
  const a = entry('a', ['u:1'])
  apply([a])
  sign(a)
  const many = Array.from({ length: 50 }, () => follow(cache, ['u:1', 'g:1']))
  await settle()
  expect(new Set(many.map(({ updates }) => updates[0]))).toHaveLength(1)
  await Promise.all(many.map((one) => one.stop()))
})

test('a change that concerns others wakes nobody', async () => {
  const { cache, apply, sign } = setUp()
  const a = entry('a', ['u:1'])
  apply([a])
  sign(a)
  const workload = follow(cache, ['u:1'])
  await settle()
  const b = entry('b', ['u:2'])
  apply([a, b])
  sign(b)
  await settle()
  expect(workload.updates).toHaveLength(1)
  await workload.stop()
})

test('a new own bundle reaches everybody, a federated one those who federate with it', async () => {
  const { cache, apply, sign, own } = setUp()
  const plain = entry('plain', ['u:1'])
  const federating = entry('federating', ['u:2'], { federatesWith: [OTHER] })
  const other = bundle(OTHER)
  apply([plain, federating], [own, other])
  sign(plain, federating)
  const [one, two] = [follow(cache, ['u:1']), follow(cache, ['u:2'])]
  await settle()
  expect(two.updates[0]!.federatedBundles).toEqual([other])
  const newer = bundle(OTHER, 1)
  apply([plain, federating], [own, newer])
  await settle()
  expect([one.updates.length, two.updates.length]).toEqual([1, 2])
  expect(two.updates[1]!.federatedBundles).toEqual([newer])
  apply([plain, federating], [bundle(TD, 1), newer])
  await settle()
  expect([one.updates.length, two.updates.length]).toEqual([2, 3])
  await Promise.all([one.stop(), two.stop()])
})

test('what must be signed: what is missing, what was changed, what is at half its life, what leads to a tainted root', () => {
  const { cache, apply, sign, time, own } = setUp()
  const a = entry('a', ['u:1'])
  apply([a])
  expect(needed(cache)).toEqual(['a'])
  sign(a)
  expect(needed(cache)).toEqual([])
  time.now += 1700
  expect(needed(cache)).toEqual([])
  time.now += 200
  expect(needed(cache)).toEqual(['a'])
  sign(a)
  expect(needed(cache)).toEqual([])
  const trusted = { der: NEXT_ROOT, tainted: false }
  apply([a], [{ ...own, x509Authorities: [{ der: ROOT, tainted: false }, trusted] }])
  expect(needed(cache)).toEqual([])
  apply([a], [{ ...own, x509Authorities: [{ der: ROOT, tainted: true }, trusted] }])
  expect(needed(cache)).toEqual(['a'])
  sign(a)
  const changed = entry('a', ['u:1'], { revisionNumber: 1 })
  apply([changed])
  expect(needed(cache)).toEqual(['a'])
  sign(changed)
  expect(needed(cache)).toEqual([])
  expect(cache.needed(100, new Set(['a']))).toEqual([])
})

test('prefetching stops at the size of the cache and leaves out who does not want it', async () => {
  const { cache, apply } = setUp(2)
  apply([
    entry('a', ['u:1']),
    entry('b', ['u:2'], { disableX509SvidPrefetch: true }),
    entry('c', ['u:3']),
    entry('d', ['u:4']),
  ])
  expect(needed(cache)).toEqual(['a', 'c'])
  const workload = follow(cache, ['u:2'])
  await settle()
  expect(needed(cache)[0]).toBe('b')
  await workload.stop()
})

test('over its size the cache lets go of what nobody holds, the longest unused first', async () => {
  const { cache, apply, sign } = setUp(2)
  const entries = ['a', 'b', 'c'].map((id) => entry(id, [`u:${id}`]))
  apply(entries)
  sign(entries[0]!, entries[1]!)
  const held = follow(cache, ['u:a'])
  await settle()
  await follow(cache, ['u:b']).stop()
  sign(entries[2]!)
  expect(cache.svidCount).toBe(2)
  expect(cache.current(['u:a']).identities).toHaveLength(1)
  expect(cache.current(['u:c']).identities.length + cache.current(['u:b']).identities.length).toBe(1)
  await held.stop()
})

test('leaving removes every listener', async () => {
  const { cache, apply } = setUp()
  apply([entry('a', ['u:1'])])
  const stop = new AbortController()
  let listeners = 0
  const signal = new Proxy(stop.signal, {
    get(target, name) {
      if (name === 'addEventListener')
        return (...args: Parameters<AbortSignal['addEventListener']>) => {
          listeners += 1
          target.addEventListener(...args)
        }
      if (name === 'removeEventListener')
        return (...args: Parameters<AbortSignal['removeEventListener']>) => {
          listeners -= 1
          target.removeEventListener(...args)
        }
      const value = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const next = cache.subscribe(['u:1'], signal).next()
  await settle()
  expect(listeners).toBe(1)
  stop.abort()
  expect((await next).done).toBe(true)
  expect(listeners).toBe(0)
})

const ADMIN = parseSpiffeId('spiffe://example.org/admin')
const GUEST = parseSpiffeId('spiffe://example.org/guest')

test('an entry that moves to another ID and other selectors takes no SVID along', async () => {
  const { cache, apply, sign } = setUp()
  const admin = entry('e', ['u:1'], { spiffeId: ADMIN })
  apply([admin])
  sign(admin)
  const [former, later] = [follow(cache, ['u:1']), follow(cache, ['u:2'])]
  await settle()
  const guest = entry('e', ['u:2'], { spiffeId: GUEST, revisionNumber: 1 })
  apply([guest])
  await settle()
  expect(former.ids()).toEqual([])
  expect(later.ids()).toEqual([])
  expect(cache.current(['u:2']).identities).toEqual([])
  expect(cache.svidCount).toBe(0)
  expect(needed(cache)).toEqual(['e'])
  sign(guest)
  await settle()
  expect(later.updates.at(-1)!.identities.map(({ svid: { spiffeId } }) => spiffeId)).toEqual([GUEST])
  await Promise.all([former.stop(), later.stop()])
})

test('an SVID that was under way when its entry moved to another ID is not kept', () => {
  const { cache, apply, svid } = setUp()
  const admin = entry('e', ['u:1'], { spiffeId: ADMIN })
  apply([admin])
  const underWay = svid(admin)
  apply([entry('e', ['u:1'], { spiffeId: GUEST, revisionNumber: 1 })])
  cache.store(new Map([['e', underWay]]))
  expect(cache.current(['u:1']).identities).toEqual([])
  expect(cache.svidCount).toBe(0)
  expect(needed(cache)).toEqual(['e'])
})

test('an SVID that was under way when its entry changed otherwise is served, and signed anew', () => {
  const { cache, apply, svid } = setUp()
  const before = entry('e', ['u:1'])
  apply([before])
  const underWay = svid(before)
  apply([entry('e', ['u:1'], { revisionNumber: 1 })])
  cache.store(new Map([['e', underWay]]))
  expect(cache.current(['u:1']).identities).toHaveLength(1)
  expect(needed(cache)).toEqual(['e'])
})

test('an SVID of an earlier state of an entry is for those alone who were entitled to it in that state', async () => {
  const { cache, apply, sign } = setUp()
  const before = entry('e', ['u:1'], { dnsNames: ['one.example.org'] })
  apply([before])
  sign(before)
  const [one, two, both] = [follow(cache, ['u:1']), follow(cache, ['u:2']), follow(cache, ['u:1', 'u:2'])]
  await settle()
  const after = entry('e', ['u:2'], { dnsNames: ['two.example.org'], revisionNumber: 1 })
  apply([after])
  const another = follow(cache, ['u:2', 'u:3'])
  await settle()
  const signedFor = ({ updates }: typeof one) => updates.at(-1)?.identities.map(({ svid }) => svid.signedFor)
  expect(signedFor(one)).toEqual([])
  expect(signedFor(two)).toEqual([])
  expect(cache.current(['u:2']).identities).toEqual([])
  expect(signedFor(both)).toEqual([before])
  expect(another.updates).toEqual([])
  expect(needed(cache)).toEqual(['e'])
  sign(after)
  await settle()
  for (const workload of [two, both, another]) expect(signedFor(workload)).toEqual([after])
  await Promise.all([one, two, both, another].map((workload) => workload.stop()))
})

test('an SVID goes with its root, and the workload that holds it hears of it when there is another', async () => {
  const { cache, apply, sign, svid, own } = setUp()
  const a = entry('a', ['u:1'])
  apply([a])
  sign(a)
  const workload = follow(cache, ['u:1'])
  await settle()
  const next = { ...own, x509Authorities: [{ der: NEXT_ROOT, tainted: false }] }
  apply([a], [next])
  expect(cache.svidCount).toBe(0)
  // One that was under way when its root went.
  sign(a)
  expect(cache.svidCount).toBe(0)
  expect(needed(cache)).toEqual(['a'])
  await settle()
  expect(workload.updates).toHaveLength(1)
  const fresh = svid(a, { rootKey: keyOfRoot(NEXT_ROOT) })
  cache.store(new Map([['a', fresh]]))
  await settle()
  expect(workload.updates.at(-1)).toMatchObject({ bundle: next, identities: [{ svid: fresh }] })
  await workload.stop()
})

test('a server that goes on signing under a tainted root is asked once more, and no more', () => {
  const { cache, apply, sign, own } = setUp()
  const a = entry('a', ['u:1'])
  apply([a], [{ ...own, x509Authorities: [{ der: ROOT, tainted: true }] }])
  sign(a)
  expect(needed(cache)).toEqual(['a'])
  sign(a)
  expect(needed(cache)).toEqual([])
})

test('a changed entry that somebody waits for is signed before others', async () => {
  const { cache, apply, sign } = setUp()
  const [a, b] = [entry('a', ['u:1']), entry('b', ['u:2'])]
  apply([a, b])
  sign(a, b)
  const workload = follow(cache, ['u:2'])
  await settle()
  apply([entry('a', ['u:1'], { revisionNumber: 1 }), entry('b', ['u:2'], { revisionNumber: 1 })])
  expect(needed(cache)).toEqual(['b', 'a'])
  await workload.stop()
})

test.each([
  ['its time of creation', { createdAt: START + 1 }],
  ['its hint', { hint: 'h' }],
  ['its revision', { revisionNumber: 1 }],
])('an entry whose id is used again is signed anew if only %s is another one', (_title, changes) => {
  const { cache, apply, sign } = setUp()
  const first = entry('e', ['u:1'])
  apply([first])
  sign(first)
  apply([entry('e', ['u:1'], changes)])
  expect(needed(cache)).toEqual(['e'])
})

test('selectors that read alike when joined are not the same', () => {
  const { cache, apply } = setUp()
  apply([entry('a', ['u:1', 'u:2'])])
  expect(cache.matching(['u:1\0u:2'])).toEqual([])
  expect(cache.matching(['u:1', 'u:2'])).toHaveLength(1)
})

test('whoever federated with a trust domain has its bundle no more when the entry lets go of it', async () => {
  const { cache, apply, sign, own } = setUp()
  const federating = entry('e', ['u:1'], { federatesWith: [OTHER] })
  apply([federating], [own, bundle(OTHER)])
  sign(federating)
  const workload = follow(cache, ['u:1'])
  await settle()
  expect(workload.updates.at(-1)!.federatedBundles).toHaveLength(1)
  apply([entry('e', ['u:1'])], [own, bundle(OTHER)])
  await settle()
  expect(workload.updates.at(-1)!.federatedBundles).toEqual([])
  await workload.stop()
})
