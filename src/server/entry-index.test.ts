import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PLAIN_ENTRY } from '../../test/support/entry.ts'
import { silentLog } from '../core/log.ts'
import { parseSpiffeId } from '../core/spiffe-id.ts'
import type { NewEntry } from '../core/store.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { openLibsqlStore } from '../store/libsql.ts'
import { EntryIndex } from './entry-index.ts'
import { NodeIndex } from './node-index.ts'

const TD = parseTrustDomainName('example.org')
const id = (path: string) => parseSpiffeId(`spiffe://example.org/${path}`)
const AGENT = id('spire/agent/a')
const selector = (value: string) => ({ type: 'x', value })

function entry(name: string, parent: string, changes: Partial<NewEntry> = {}): NewEntry {
  return {
    id: name,
    spiffeId: id(name),
    parentId: id(parent),
    selectors: [selector('1')],
    ...PLAIN_ENTRY,
    ...changes,
  }
}

async function setUp(entries: readonly NewEntry[] = []) {
  const store = await openLibsqlStore({ log: silentLog })
  await store.entries.create(entries, 1)
  const index = await EntryIndex.load(store, TD)
  const names = (selectors: readonly string[] = []) =>
    index
      .entriesFor(AGENT, selectors.map(selector))
      .map((one) => one.id)
      .sort()
  return { store, index, names }
}

test('an agent may serve what lies below it, and below that, each once', async () => {
  const { names } = await setUp([
    entry('a', 'spire/agent/a'),
    entry('b', 'a'),
    entry('c', 'b'),
    entry('other', 'spire/agent/b'),
    entry('loop', 'c', { spiffeId: id('a') }),
  ])
  expect(names()).toEqual(['a', 'b', 'c', 'loop'])
})

test('an alias counts when the node has all its selectors, and is not served itself', async () => {
  const { names } = await setUp([
    entry('alias', 'spire/server', { spiffeId: id('cluster'), selectors: [selector('1'), selector('2')] }),
    entry('below', 'cluster'),
  ])
  expect(names(['1'])).toEqual([])
  expect(names(['1', '2', '3'])).toEqual(['below'])
})

test('writes are seen at once, and the same array comes back while nothing changed for the agent', async () => {
  const { store, index, names } = await setUp([entry('a', 'spire/agent/a')])
  const none: [] = []
  const first = index.entriesFor(AGENT, none)
  await store.entries.create([entry('elsewhere', 'spire/agent/b')], 1)
  expect(index.entriesFor(AGENT, none)).toBe(first)
  await store.entries.create([entry('b', 'a')], 1)
  expect(names()).toEqual(['a', 'b'])
  await store.entries.update('b', { parentId: id('spire/agent/b') })
  expect(names()).toEqual(['a'])
  await store.entries.delete('a')
  expect(names()).toEqual([])
})

test('index and database give an agent what follows from the entries, whatever they are', async () => {
  const few = fc.constantFrom('spire/agent/a', 'spire/agent/b', 'spire/server', 'x', 'y', 'z', 'q')
  const values = fc.uniqueArray(fc.constantFrom('1', '2', '3', '\u{1f600}', '\uff5e'), { maxLength: 4 })
  const foreign = parseSpiffeId('spiffe://other.org/x')
  const step = fc.record({
    name: fc.constantFrom('e1', 'e2', 'e3', 'e4', 'e5', 'e6', 'e7', 'e8'),
    to: fc.oneof({ weight: 8, arbitrary: few.map(id) }, { weight: 1, arbitrary: fc.constant(foreign) }),
    parent: few,
    needs: values.filter((list) => list.length > 0),
    gone: fc.boolean(),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 16 }), values, async (steps, has) => {
      const { store, names } = await setUp()
      const given = new Map<string, NewEntry>()
      for (const { name, to, parent, needs, gone } of steps) {
        if (given.has(name)) {
          if (gone) await store.entries.delete(name)
          else await store.entries.update(name, { spiffeId: to, parentId: id(parent), selectors: needs.map(selector) })
          if (gone) given.delete(name)
          else given.set(name, entry(name, parent, { spiffeId: to, selectors: needs.map(selector) }))
          continue
        }
        const fresh = entry(name, parent, { spiffeId: to, selectors: needs.map(selector) })
        const [result] = await store.entries.create([fresh], 1)
        if (result!.outcome === 'created') given.set(name, fresh)
      }
      const all = [...given.values()]
      const reached = new Set([AGENT])
      for (let grown = -1; grown !== reached.size; ) {
        grown = reached.size
        for (const one of all) {
          const earned =
            one.parentId === id('spire/server') &&
            one.selectors.every(({ value }) => (has as readonly string[]).includes(value))
          if (earned || reached.has(one.parentId)) reached.add(one.spiffeId)
        }
      }
      const expected = all
        .filter((one) => reached.has(one.parentId) && one.spiffeId !== foreign)
        .map((one) => one.id)
        .sort()
      expect(names(has)).toEqual(expected)
      expect((await store.entries.authorized(AGENT, has.map(selector))).map((one) => one.id).sort()).toEqual(expected)
      await store.close()
    }),
    { numRuns: 60 },
  )
}, 60_000)

test('entries are found by the ID they give', async () => {
  const { store, index } = await setUp([
    entry('a', 'p', { spiffeId: id('admin'), admin: true }),
    entry('b', 'q', { spiffeId: id('admin') }),
  ])
  expect(index.bySpiffeId(id('admin')).map((one) => one.id)).toEqual(['a', 'b'])
  await store.entries.delete('a')
  expect(index.bySpiffeId(id('admin')).map((one) => one.id)).toEqual(['b'])
  expect(index.bySpiffeId(id('nobody'))).toEqual([])
})

test('twenty thousand entries below one parent are no burden', async () => {
  const { store, index } = await setUp()
  for (let start = 0; start < 20_000; start += 1000) {
    await store.entries.create(
      Array.from({ length: 1000 }, (_, at) => entry(`e${start + at}`, 'spire/agent/a')),
      1,
    )
  }
  const none: [] = []
  expect(index.entriesFor(AGENT, none)).toHaveLength(20_000)
  const started = performance.now()
  for (let round = 0; round < 10_000; round += 1) index.entriesFor(AGENT, none)
  expect(performance.now() - started).toBeLessThan(500)
}, 60_000)

test('a node is known from its attestation to its end, with what it became', async () => {
  const store = await openLibsqlStore({ log: silentLog })
  const node = {
    id: AGENT,
    attestationType: 'x509pop',
    serialNumber: '1',
    expiresAt: 9,
    canReattest: true,
    selectors: [selector('1')],
  }
  await store.nodes.recordAttestation(node)
  const index = await NodeIndex.load(store)
  const before = index.get(AGENT)!
  expect(before).toMatchObject(node)
  await store.nodes.recordRenewal(AGENT, '2', 10)
  expect(index.get(AGENT)).toMatchObject({ serialNumber: '1', newSerialNumber: '2' })
  // The selectors are the same object, so that what hangs on them stays good.
  expect(index.get(AGENT)!.selectors).toBe(before.selectors)
  await store.nodes.activateRenewal(AGENT, '2')
  expect(index.get(AGENT)).toMatchObject({ serialNumber: '2', newSerialNumber: '' })
  await store.nodes.ban(AGENT)
  expect(index.get(AGENT)).toMatchObject({ serialNumber: '' })
  await store.nodes.delete(AGENT)
  expect(index.get(AGENT)).toBeUndefined()
})

test('an alias that asks for two selectors is earned by neither alone', async () => {
  const { names } = await setUp([
    entry('alias', 'spire/server', { spiffeId: id('cluster'), selectors: [selector('1'), selector('2')] }),
    entry('below', 'cluster'),
  ])
  for (const selectors of [[], ['1'], ['2'], ['1', '3']]) expect(names(selectors)).toEqual([])
  expect(names(['2', '1'])).toEqual(['below'])
})

test('an entry of another trust domain is handed to no agent, nor is what lies below it', async () => {
  const foreign = parseSpiffeId('spiffe://other.org/w')
  const { names } = await setUp([
    entry('foreign', 'spire/agent/a', { spiffeId: foreign }),
    entry('below', 'x', { parentId: foreign }),
    entry('own', 'spire/agent/a'),
  ])
  expect(names()).toEqual(['own'])
})

test('an agent gets other entries as soon as its node has other selectors', async () => {
  const { index } = await setUp([
    entry('alias', 'spire/server', { spiffeId: id('cluster'), selectors: [selector('1')] }),
    entry('below', 'cluster'),
  ])
  const ids = (...values: string[]) => index.entriesFor(AGENT, values.map(selector)).map((one) => one.id)
  expect(ids('1')).toEqual(['below'])
  expect(ids('2')).toEqual([])
  expect(ids('1')).toEqual(['below'])
})

test('an entry that is gone or moved is found nowhere any more', async () => {
  const { store, index, names } = await setUp([entry('a', 'spire/agent/a'), entry('b', 'spire/agent/a')])
  await store.entries.update('a', { spiffeId: id('moved'), parentId: id('elsewhere') })
  expect(names()).toEqual(['b'])
  expect(index.bySpiffeId(id('a'))).toEqual([])
  expect(index.bySpiffeId(id('moved')).map((one) => one.id)).toEqual(['a'])
  expect(index.byId.get('a')!.spiffeId).toBe(id('moved'))
  await store.entries.delete('b')
  expect([names(), [...index.byId.keys()]]).toEqual([[], ['a']])
})

test('what was written while the index was read is in it', async () => {
  const store = await openLibsqlStore({ log: silentLog })
  await store.entries.create([entry('a', 'spire/agent/a'), entry('b', 'spire/agent/a')], 1)
  const { list } = store.entries
  const slow: typeof list = async (...args) => {
    const before = await list(...args)
    await store.entries.delete('a')
    await store.entries.create([entry('c', 'spire/agent/a')], 1)
    return before
  }
  const entries = { ...store.entries, list: slow }
  const index = await EntryIndex.load({ entries, changes: store.changes }, TD)
  expect([...index.byId.keys()].sort()).toEqual(['b', 'c'])
})

test('when an agent is gone, so is what was known to be for it; other changes leave it', async () => {
  const { index } = await setUp([entry('a', 'spire/agent/a')])
  const none: [] = []
  const first = index.entriesFor(AGENT, none)
  index.apply([{ kind: 'node', key: AGENT, node: undefined } as never, { kind: 'bundle', key: AGENT } as never])
  expect(index.entriesFor(AGENT, none)).toBe(first)
  // Changes that were read back from the log carry no entry, and say nothing here.
  index.apply([{ kind: 'entry', key: 'a' } as never])
  expect(index.entriesFor(AGENT, none)).toBe(first)
  index.apply([{ kind: 'node', key: AGENT, node: null } as never])
  expect(index.entriesFor(AGENT, none)).not.toBe(first)
  expect(index.entriesFor(AGENT, none)).toEqual(first)
})

test('what is read anew replaces all that was known', async () => {
  const store = await openLibsqlStore({ log: silentLog })
  await store.entries.create([entry('a', 'spire/agent/a'), entry('b', 'spire/agent/a')], 1)
  let readAgain: () => unknown = () => {}
  const changes = {
    ...store.changes,
    subscribe: (_: unknown, read: () => unknown) => {
      readAgain = read
      return () => {}
    },
  } as typeof store.changes
  const index = await EntryIndex.load({ entries: store.entries, changes }, TD)
  await store.entries.delete('a')
  await store.entries.update('b', { parentId: id('elsewhere'), spiffeId: id('other') })
  await readAgain()
  expect([...index.byId.keys()]).toEqual(['b'])
  expect(index.entriesFor(AGENT, [])).toEqual([])
  expect(index.bySpiffeId(id('b'))).toEqual([])
  expect(index.bySpiffeId(id('other'))).toHaveLength(1)
})

test('of two entries one that is changed is served as it is now', async () => {
  const { store, index } = await setUp([entry('a', 'spire/agent/a'), entry('b', 'spire/agent/a')])
  const none: [] = []
  const before = index.entriesFor(AGENT, none)
  await store.entries.update('a', { dnsNames: ['a.test'], spiffeId: id('other') })
  const after = index.entriesFor(AGENT, none)
  expect(after).not.toBe(before)
  expect(after.find((one) => one.id === 'a')).toMatchObject({ dnsNames: ['a.test'], spiffeId: id('other') })
})
