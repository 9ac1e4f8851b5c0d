import { expect, test } from 'vitest'
import type { EntryFields } from '../../src/core/entry.ts'
import { parseSpiffeId } from '../../src/core/spiffe-id.ts'
import type { Change, Store } from '../../src/core/store.ts'
import { parseTrustDomainName } from '../../src/core/trust-domain.ts'
import { ChangeTail } from '../../src/server/change-tail.ts'
import { EntryIndex } from '../../src/server/entry-index.ts'
import { NodeIndex } from '../../src/server/node-index.ts'
import { OwnBundle } from '../../src/server/own-bundle.ts'
import { PLAIN_ENTRY } from '../support/entry.ts'

const NOW = 1_800_000_000
const TD = parseTrustDomainName('example.org')
const AGENT = parseSpiffeId('spiffe://example.org/spire/agent/a')
const key = (keyId: string) => ({ keyId, publicKey: Uint8Array.of(1), expiresAt: 0, tainted: false })

function entry(id: string, changes: Partial<EntryFields> = {}) {
  return {
    id,
    spiffeId: parseSpiffeId(`spiffe://example.org/${id}`),
    parentId: AGENT,
    selectors: [{ type: 'u', value: '1' }],
    ...PLAIN_ENTRY,
    ...changes,
  }
}

const node = (serialNumber: string) => ({
  id: AGENT,
  attestationType: 'x509pop',
  serialNumber,
  expiresAt: NOW,
  canReattest: true,
  selectors: [{ type: 'n', value: '1' }],
})

/** What two stores on one database do for each other. @param openBoth on an empty database */
export function sharedStoreSuite(openBoth: () => Promise<readonly [Store, Store]>): void {
  test('writes at once are all there, each with its number', async () => {
    const stores = await openBoth()
    for (const round of [1, 2, 3]) {
      const append = (store: Store, index: number) =>
        store.bundles.append({ trustDomain: TD, jwtAuthorities: [key(`${index}.${round}`)] })
      await Promise.all(stores.map(append))
    }
    const bundle = (await stores[0].bundles.get(TD))!
    expect(bundle).toMatchObject({ sequenceNumber: 5, jwtAuthorities: { length: 6 } })
    const sequences = (await stores[1].changes.since(0, 100)).map(({ sequence }) => sequence)
    expect(sequences).toEqual([1, 2, 3, 4, 5, 6])
  })

  test('what is kept in memory follows the writes of the other', async () => {
    const [one, two] = await openBoth()
    await one.entries.create([entry('early')], NOW)
    await two.changes.catchUp()
    const index = await EntryIndex.load(two, TD)
    const nodes = await NodeIndex.load(two)
    const bundle = new OwnBundle(two, TD)
    const ids = () =>
      index
        .entriesFor(AGENT, [])
        .map(({ id, hint }) => `${id}${hint}`)
        .sort()

    await one.entries.create([entry('a'), entry('b')], NOW)
    await one.entries.update('a', { hint: '!' })
    await one.nodes.recordAttestation(node('1'))
    expect(await bundle.get()).toBeUndefined()
    await one.bundles.append({ trustDomain: TD, jwtAuthorities: [key('k')] })
    expect(ids()).toEqual(['early'])
    await two.changes.catchUp()
    expect(ids()).toEqual(['a!', 'b', 'early'])
    expect(nodes.get(AGENT)).toMatchObject({ serialNumber: '1', selectors: [{ type: 'n', value: '1' }] })
    expect((await bundle.get())?.jwtAuthorities).toHaveLength(1)

    await one.entries.delete('a')
    await one.nodes.ban(AGENT)
    await two.changes.catchUp()
    expect(ids()).toEqual(['b', 'early'])
    expect(nodes.get(AGENT)).toMatchObject({ serialNumber: '' })
    await one.nodes.delete(AGENT)
    await two.changes.catchUp()
    expect(nodes.get(AGENT)).toBeUndefined()
  })

  test('changes are told in their order, own ones after those of others before them', async () => {
    const [one, two] = await openBoth()
    await two.changes.catchUp()
    const told: Change[] = []
    two.changes.subscribe((changes) => told.push(...changes))
    await one.entries.create([entry('a')], NOW)
    await two.entries.create([entry('b')], NOW)
    await one.entries.create([entry('c')], NOW)
    await Promise.all([two.entries.create([entry('d')], NOW), two.changes.catchUp()])
    expect(told.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4])
    expect(told.map((change) => change.entry?.id)).toEqual(['a', 'b', 'c', 'd'])
    await two.changes.catchUp()
    expect(told).toHaveLength(4)
  })

  test('of more changes than are read at once none is missed', async () => {
    const [one, two] = await openBoth()
    await two.changes.catchUp()
    const index = await EntryIndex.load(two, TD)
    for (const part of ['a', 'b', 'c']) {
      const some = Array.from({ length: 400 }, (_, number) => entry(`${part}${number}`))
      await one.entries.create(some, NOW)
    }
    await two.changes.catchUp()
    expect(index.entriesFor(AGENT, [])).toHaveLength(1200)
  })

  test('changes that were pruned before they were seen make everything be read again', async () => {
    const [one, two] = await openBoth()
    await one.entries.create([entry('gone'), entry('stays')], NOW)
    await one.nodes.recordAttestation(node('1'))
    await two.changes.catchUp()
    const index = await EntryIndex.load(two, TD)
    const nodes = await NodeIndex.load(two)
    const tail = await ChangeTail.open(two.changes, async () => {})
    await one.entries.delete('gone')
    await one.nodes.delete(AGENT)
    await one.entries.create([entry('new')], NOW)
    await one.changes.prune(Number.MAX_SAFE_INTEGER)
    await two.changes.catchUp()
    expect(index.entriesFor(AGENT, []).map(({ id }) => id)).toEqual(['stays', 'new'])
    expect(nodes.get(AGENT)).toBeUndefined()
    expect([tail.head, tail.since(3)]).toEqual([6, undefined])
    await one.entries.delete('new')
    await two.changes.catchUp()
    expect(index.entriesFor(AGENT, []).map(({ id }) => id)).toEqual(['stays'])
    expect(tail.since(6)).toEqual([{ sequence: 7, kind: 'entry' }])
  })

  test('a look that finds nothing tells nothing, also right after a write of its own', async () => {
    const [one] = await openBoth()
    await one.changes.catchUp()
    let told = 0
    one.changes.subscribe(() => {
      told += 1
    })
    await one.entries.create([entry('a')], NOW)
    await one.changes.catchUp()
    await one.changes.catchUp()
    expect(told).toBe(1)
  })
}
