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
