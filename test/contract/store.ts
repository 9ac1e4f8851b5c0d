import { expect, test } from 'vitest'
import type { Bundle } from '../../src/core/bundle.ts'
import { epochSeconds, systemClock } from '../../src/core/clock.ts'
import { parseSpiffeId } from '../../src/core/spiffe-id.ts'
import type { Change, MatchBehavior, NewEntry, Store } from '../../src/core/store.ts'
import { parseTrustDomainName } from '../../src/core/trust-domain.ts'
import { EntryIndex } from '../../src/server/entry-index.ts'
import { PLAIN_ENTRY } from '../support/entry.ts'

const NOW = 1_800_000_000
const TD = parseTrustDomainName('example.org')
const [ONE, TWO, THREE] = ['one.org', 'two.org', 'three.org'].map(parseTrustDomainName) as [
  typeof TD,
  typeof TD,
  typeof TD,
]
const id = (path: string) => parseSpiffeId(`spiffe://example.org/${path}`)
const selector = (text: string) => ({ type: text.split(':')[0]!, value: text.slice(text.indexOf(':') + 1) })
const ALL = { size: 0, token: '' }

function entry(changes: Partial<NewEntry> = {}): NewEntry {
  return {
    id: '',
    spiffeId: id('w'),
    parentId: id('parent'),
    selectors: [selector('u:1')],
    ...PLAIN_ENTRY,
    ...changes,
  }
}

function bundle(trustDomain: typeof TD, changes: Partial<Bundle> = {}): Bundle {
  return {
    trustDomain,
    x509Authorities: [],
    jwtAuthorities: [],
    witAuthorities: [],
    refreshHintSeconds: 0,
    sequenceNumber: 0,
    ...changes,
  }
}

const bytes = Uint8Array.of(1, 2, 3)
const key = (keyId: string) => ({ keyId, publicKey: new Uint8Array([1, 2, 3]), expiresAt: 0, tainted: false })
const root = (fill: number) => ({ der: new Uint8Array(10).fill(fill), tainted: false })

const node = (path: string, changes = {}) => ({
  id: id(path),
  attestationType: 'x509pop',
  serialNumber: '1',
  expiresAt: NOW,
  canReattest: true,
  selectors: [selector('x509pop:a')],
  ...changes,
})

/** What every store does. @param open an empty one */
export function storeSuite(open: () => Promise<Store>): void {
  test('an entry is kept as it was given, with an id, revision 0 and its time', async () => {
    const { entries, bundles } = await open()
    await bundles.set(bundle(ONE))
    const given = entry({
      selectors: [selector('b:2'), selector('a:1'), selector('a:x:y')],
      x509SvidTtlSeconds: 60,
      jwtSvidTtlSeconds: 30,
      federatesWith: [ONE],
      admin: true,
      downstream: true,
      expiresAt: NOW + 5,
      dnsNames: ['z.org', 'a.org'],
      hint: 'h',
      jwtSvidIncludeJti: true,
    })
    const [result] = await entries.create([given], NOW)
    expect(result).toMatchObject({ outcome: 'created' })
    const stored = (result as { entry: Awaited<ReturnType<typeof entries.get>> }).entry!
    expect(stored.id).toMatch(/^[0-9a-f-]{36}$/)
    expect(stored).toEqual({
      ...given,
      id: stored.id,
      revisionNumber: 0,
      createdAt: NOW,
    })
    expect(await entries.get(stored.id)).toEqual(stored)
    expect(await entries.get('nope')).toBeUndefined()
    const selectors = [selector('c:1'), selector('b:2'), selector('d:3')]
    expect(await entries.update(stored.id, { selectors })).toMatchObject({ selectors })
    expect(await entries.get(stored.id)).toMatchObject({ selectors })
  })

  test('an entry whose SVID is stored has selectors of one type, whichever of both is changed', async () => {
    const { entries } = await open()
    const mixed = [selector('a:1'), selector('b:1')]
    const refused =
      'datastore-validation: invalid registration entry: selector types must be the same when store SVID is enabled'
    await entries.create([entry({ id: 'stored', storeSvid: true }), entry({ id: 'mixed', selectors: mixed })], NOW)
    await expect(entries.update('stored', { selectors: mixed })).rejects.toThrow(refused)
    await expect(entries.update('mixed', { storeSvid: true })).rejects.toThrow(refused)
    await entries.update('mixed', { hint: 'h', storeSvid: false })
    await entries.update('stored', { selectors: mixed, storeSvid: false })
  })

  test('a similar entry is returned instead of made again; a taken id and an unknown bundle fail alone', async () => {
    const { entries } = await open()
    await entries.create([entry({ id: 'first', selectors: [selector('a:1'), selector('b:1')] })], NOW)
    const results = await entries.create(
      [
        entry({ selectors: [selector('b:1'), selector('a:1')], x509SvidTtlSeconds: 9 }),
        entry({ id: 'first', spiffeId: id('other') }),
        entry({ spiffeId: id('fed'), federatesWith: [ONE] }),
        entry({ spiffeId: id('good') }),
      ],
      NOW,
    )
    expect(results.map(({ outcome }) => outcome)).toEqual(['similar', 'failed', 'failed', 'created'])
    expect(results[0]).toMatchObject({ entry: { id: 'first', x509SvidTtlSeconds: 0 } })
    expect(results[1]).toMatchObject({
      error: {
        code: 'ALREADY_EXISTS',
        message: 'datastore-sql: UNIQUE constraint failed: registered_entries.entry_id',
      },
    })
    expect(String((results[2] as { error: Error }).error.message)).toContain(
      'unable to find federated bundle "spiffe://one.org"',
    )
    expect(await entries.count({})).toBe(2)
  })

  test('pages follow one another to an empty one, which has no token', async () => {
    const { entries } = await open()
    await entries.create(
      ['a', 'b', 'c'].map((path) => entry({ id: path, spiffeId: id(path) })),
      NOW,
    )
    const seen: string[][] = []
    let token = ''
    do {
      const page = await entries.list({}, { size: 2, token })
      seen.push(page.items.map((item) => item.id))
      token = page.nextToken
    } while (token !== '')
    expect(seen).toEqual([['a', 'b'], ['c'], []])
    expect(await entries.list({}, ALL)).toMatchObject({ nextToken: '' })
    await expect(entries.list({}, { size: 2, token: 'zz' })).rejects.toThrow("could not parse token 'zz'")
  })

  const SETS: Record<string, readonly string[]> = {
    a: ['s:1'],
    ab: ['s:1', 's:2'],
    abc: ['s:1', 's:2', 's:3'],
    x: ['s:9'],
  }
  test.each<[MatchBehavior, readonly string[], readonly string[]]>([
    ['exact', ['s:1', 's:2'], ['ab']],
    ['exact', ['s:2'], []],
    ['subset', ['s:1', 's:2'], ['a', 'ab']],
    ['superset', ['s:1', 's:2'], ['ab', 'abc']],
    ['any', ['s:2', 's:9'], ['ab', 'abc', 'x']],
    ['any', ['s:7'], []],
  ])('selectors match %s %j', async (match, given, expected) => {
    const { entries } = await open()
    await entries.create(
      Object.entries(SETS).map(([name, set]) => entry({ id: name, spiffeId: id(name), selectors: set.map(selector) })),
      NOW,
    )
    const filter = { selectors: { selectors: given.map(selector), match } }
    expect((await entries.list(filter, ALL)).items.map((item) => item.id).sort()).toEqual([...expected].sort())
    expect(await entries.count(filter)).toBe(expected.length)
  })

  test.each<[MatchBehavior, readonly (typeof TD)[], readonly string[]]>([
    ['exact', [ONE, TWO], ['12']],
    ['subset', [ONE, TWO], ['1', '12']],
    ['superset', [ONE], ['1', '12', '123']],
    ['any', [THREE], ['123']],
  ])('federation matches %s %j', async (match, given, expected) => {
    const { entries, bundles } = await open()
    for (const trustDomain of [ONE, TWO, THREE]) await bundles.set(bundle(trustDomain))
    const sets = { none: [], 1: [ONE], 12: [ONE, TWO], 123: [ONE, TWO, THREE] }
    await entries.create(
      Object.entries(sets).map(([name, federatesWith]) => entry({ id: `e${name}`, spiffeId: id(name), federatesWith })),
      NOW,
    )
    const found = await entries.list({ federatesWith: { trustDomains: given, match } }, ALL)
    expect(found.items.map((item) => item.id).sort()).toEqual(expected.map((name) => `e${name}`).sort())
  })

  test('an agent may serve what the index in memory says, through parents, aliases and loops', async () => {
    const { entries, changes } = await open()
    const agents = [id('spire/agent/a'), id('spire/agent/b')]
    const some = ['n:1', 'n:2', 'n:3'].map(selector)
    const row = (parent: string, child: string, ...selectors: string[]) =>
      entry({ parentId: id(parent), spiffeId: id(child), selectors: selectors.map(selector) })
    const rows = [
      row('spire/agent/a', 'x', 'u:1'),
      row('spire/agent/a', 'x', 'u:2'),
      row('spire/agent/b', 'y', 'u:1'),
      row('x', 'y', 'u:1'),
      row('y', 'x', 'u:1'),
      row('y', 'y', 'u:1'),
      row('spire/server', 'alias/1', 'n:1'),
      row('spire/server', 'alias/12', 'n:1', 'n:2'),
      row('spire/server', 'alias/3', 'n:3', 'other:1'),
      row('alias/1', 'p', 'u:1'),
      row('alias/12', 'q', 'u:1'),
      row('q', 'r', 'u:1'),
      row('r', 'alias/1', 'u:1'),
      row('alias/3', 's', 'u:1'),
      row('elsewhere', 't', 'u:1'),
    ]
    await entries.create(rows, NOW)
    const index = await EntryIndex.load({ entries, changes }, TD)
    for (const agent of agents) {
      for (const earned of [[], some.slice(0, 1), some.slice(0, 2), some, [...some, ...some]]) {
        const ids = (found: readonly { readonly id: string }[]) => found.map((one) => one.id).sort()
        expect(ids(await entries.authorized(agent, earned))).toEqual(ids(index.entriesFor(agent, earned)))
      }
    }
    expect(await entries.authorized(agents[1]!, some.slice(0, 2))).toHaveLength(8)
  })

  test('entries that the caller holds are taken from there, unless they changed meanwhile', async () => {
    const { bundles, entries } = await open()
    await bundles.set(bundle(ONE))
    const rows = ['a', 'b', 'c'].map((path) => entry({ id: path, spiffeId: id(path), federatesWith: [ONE] }))
    await entries.create(rows, NOW)
    const page = { size: 2, token: '' }
    const stored = await entries.list({}, page)
    const held = new Map(stored.items.map((one) => [one.id, { ...one }]))

    const again = await entries.list({}, page, held)
    expect(again).toEqual(stored)
    expect(again.items.map((one) => one === held.get(one.id))).toEqual([true, true])
    const next = { size: 2, token: stored.nextToken }
    expect(await entries.list({}, next, held)).toEqual(await entries.list({}, next))
    await expect(entries.list({}, { size: 2, token: 'zz' }, held)).rejects.toThrow("could not parse token 'zz'")

    await entries.update('b', { hint: 'new' })
    expect((await entries.list({}, ALL, held)).items[1]).toMatchObject({ id: 'b', hint: 'new' })
    await entries.delete('b')
    await entries.create([entry({ id: 'b', spiffeId: id('other') })], NOW + 1)
    expect((await entries.list({ spiffeId: id('other') }, ALL, held)).items).toMatchObject([
      { id: 'b', createdAt: NOW + 1 },
    ])
    await bundles.delete(ONE, 'dissociate')
    expect((await entries.list({ spiffeId: id('a') }, ALL, held)).items).toMatchObject([{ id: 'a', federatesWith: [] }])
  })

  test('the other filters are ANDed; false for downstream is none', async () => {
    const { entries } = await open()
    await entries.create(
      [
        entry({ id: 'a', spiffeId: id('x'), hint: 'h', downstream: true }),
        entry({ id: 'b', spiffeId: id('x'), parentId: id('p2') }),
        entry({ id: 'c', spiffeId: id('y'), hint: 'h' }),
      ],
      NOW,
    )
    const ids = async (filter: Parameters<typeof entries.list>[0]) =>
      (await entries.list(filter, ALL)).items.map((item) => item.id)
    expect(await ids({ spiffeId: id('x') })).toEqual(['a', 'b'])
    expect(await ids({ parentId: id('p2') })).toEqual(['b'])
    expect(await ids({ hint: 'h', spiffeId: id('y') })).toEqual(['c'])
    expect(await ids({ hint: '' })).toEqual(['a', 'b', 'c'])
    expect(await ids({ downstream: true })).toEqual(['a'])
    expect(await ids({ downstream: false })).toEqual(['a', 'b', 'c'])
  })

  test('an update writes what it names and counts', async () => {
    const { entries } = await open()
    await entries.create([entry({ id: 'a', dnsNames: ['one'], hint: 'h' })], NOW)
    const updated = await entries.update('a', { selectors: [selector('z:1')], x509SvidTtlSeconds: 7 })
    expect(updated).toMatchObject({
      revisionNumber: 1,
      selectors: [selector('z:1')],
      x509SvidTtlSeconds: 7,
      dnsNames: ['one'],
      hint: 'h',
      createdAt: NOW,
    })
    expect((await entries.update('a', {})).revisionNumber).toBe(2)
    expect(await entries.get('a')).toMatchObject({ revisionNumber: 2 })
    await expect(entries.update('nope', {})).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('deleting gives back what was there; what ended is pruned', async () => {
    const { entries } = await open()
    await entries.create(
      [
        entry({ id: 'a' }),
        entry({ id: 'b', spiffeId: id('b'), expiresAt: NOW - 1 }),
        entry({ id: 'c', spiffeId: id('c'), expiresAt: NOW }),
      ],
      NOW,
    )
    expect((await entries.delete('a'))?.id).toBe('a')
    expect(await entries.delete('a')).toBeUndefined()
    expect((await entries.pruneExpired(NOW)).map((one) => one.id)).toEqual(['b'])
    expect(await entries.count({})).toBe(1)
  })

  test('attesting again replaces selectors and serial, and keeps type and version', async () => {
    const { nodes } = await open()
    await nodes.recordAttestation(node('spire/agent/a'))
    await nodes.setAgentVersion(id('spire/agent/a'), '1.2')
    await nodes.recordRenewal(id('spire/agent/a'), '2', NOW + 5)
    expect(await nodes.get(id('spire/agent/a'))).toMatchObject({
      serialNumber: '1',
      newSerialNumber: '2',
      newExpiresAt: NOW + 5,
    })
    await nodes.recordAttestation(
      node('spire/agent/a', {
        serialNumber: '3',
        attestationType: 'other',
        selectors: [selector('x509pop:b')],
        canReattest: false,
      }),
    )
    expect(await nodes.get(id('spire/agent/a'))).toEqual({
      id: id('spire/agent/a'),
      attestationType: 'x509pop',
      serialNumber: '3',
      expiresAt: NOW,
      newSerialNumber: '',
      newExpiresAt: 0,
      canReattest: false,
      agentVersion: '1.2',
      selectors: [selector('x509pop:b')],
    })
  })

  test('a banned node is not brought back by a renewal that was under way', async () => {
    const { nodes } = await open()
    await nodes.recordAttestation(node('spire/agent/a'))
    await nodes.recordRenewal(id('spire/agent/a'), '2', NOW + 5)
    await nodes.ban(id('spire/agent/a'))
    expect(await nodes.activateRenewal(id('spire/agent/a'), '2')).toBe(false)
    await expect(nodes.recordRenewal(id('spire/agent/a'), '3', NOW + 5)).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    })
    expect(await nodes.activateRenewal(id('spire/agent/a'), '3')).toBe(false)
    expect(await nodes.get(id('spire/agent/a'))).toMatchObject({ serialNumber: '', newSerialNumber: '' })
  })

  test('a renewed SVID takes the place of the old one once', async () => {
    const { nodes } = await open()
    await nodes.recordAttestation(node('spire/agent/a'))
    await nodes.recordRenewal(id('spire/agent/a'), '2', NOW + 5)
    expect(await nodes.activateRenewal(id('spire/agent/a'), '9')).toBe(false)
    expect(await nodes.activateRenewal(id('spire/agent/a'), '2')).toBe(true)
    expect(await nodes.activateRenewal(id('spire/agent/a'), '2')).toBe(false)
    expect(await nodes.get(id('spire/agent/a'))).toMatchObject({
      serialNumber: '2',
      expiresAt: NOW + 5,
      newSerialNumber: '',
      canReattest: true,
    })
    await expect(nodes.recordRenewal(id('spire/agent/nope'), '2', NOW)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('banned nodes stay, without a serial; deleted ones go with their selectors and aliases', async () => {
    const { nodes, entries } = await open()
    const agent = id('spire/agent/join_token/t')
    await nodes.recordAttestation(node('spire/agent/join_token/t', { attestationType: 'join_token', selectors: [] }))
    await entries.create(
      [
        entry({ id: 'alias', parentId: agent, selectors: [{ type: 'spiffe_id', value: agent }] }),
        entry({ id: 'plain', parentId: agent }),
      ],
      NOW,
    )
    await nodes.ban(agent)
    expect(await nodes.get(agent)).toMatchObject({ serialNumber: '', attestationType: 'join_token' })
    expect(await nodes.count({ banned: true })).toBe(1)
    const again = nodes.recordAttestation(node('spire/agent/join_token/t', { attestationType: 'join_token' }))
    await expect(again).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
    expect(await nodes.get(agent)).toMatchObject({ serialNumber: '', selectors: [] })
    expect((await nodes.delete(agent)).deletedEntries.map((one) => one.id)).toEqual(['alias'])
    expect(await nodes.get(agent)).toBeUndefined()
    expect((await entries.list({}, ALL)).items.map((one) => one.id)).toEqual(['plain'])
    for (const call of [nodes.ban(agent), nodes.delete(agent)])
      await expect(call).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('nodes are filtered and pruned', async () => {
    const { nodes } = await open()
    await nodes.recordAttestation(node('spire/agent/a', { expiresAt: NOW - 10 }))
    await nodes.recordAttestation(
      node('spire/agent/b', { expiresAt: NOW - 10, canReattest: false, attestationType: 'join_token' }),
    )
    await nodes.recordAttestation(node('spire/agent/c', { selectors: [selector('x509pop:a'), selector('x509pop:b')] }))
    const ids = async (filter: Parameters<typeof nodes.list>[0]) =>
      (await nodes.list(filter, ALL, false)).items.map((one) => one.id.slice(-1))
    expect(await ids({ attestationType: 'join_token' })).toEqual(['b'])
    expect(await ids({ canReattest: true })).toEqual(['a', 'c'])
    expect(await ids({ expiresBefore: NOW })).toEqual(['a', 'b'])
    expect(await ids({ selectors: { selectors: [selector('x509pop:b')], match: 'superset' } })).toEqual(['c'])
    expect(await nodes.prune(NOW, false, 10)).toBe(1)
    expect(await nodes.prune(NOW, true, 10)).toBe(1)
    expect(await ids({})).toEqual(['c'])
  })

  test('a banned node is not pruned, however long ago it ended: it would be let in again', async () => {
    const { nodes } = await open()
    await nodes.recordAttestation(node('spire/agent/a', { expiresAt: NOW - 10 }))
    await nodes.ban(id('spire/agent/a'))
    expect(await nodes.prune(NOW * 2, true, 10)).toBe(0)
    expect(await nodes.get(id('spire/agent/a'))).toMatchObject({ serialNumber: '' })
  })

  test('an entry ends between 1970 and the year 9999, or never', async () => {
    const { entries } = await open()
    const ends = [-1, -5, -(2 ** 31), 253_402_300_800, 2 ** 53 - 1, 0.5, Number.NaN]
    const results = await entries.create(
      ends.map((expiresAt) => entry({ spiffeId: id(`w${expiresAt}`), expiresAt })),
      NOW,
    )
    for (const result of results) {
      expect(result).toMatchObject({
        error: { message: 'datastore-validation: invalid registration entry: expiry is out of range' },
      })
    }
    const [made] = await entries.create([entry({ id: 'late', expiresAt: 253_402_300_799 })], NOW)
    expect(made).toMatchObject({ outcome: 'created', entry: { expiresAt: 253_402_300_799 } })
    for (const expiresAt of ends) {
      await expect(entries.update('late', { expiresAt })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
    expect(await entries.update('late', { expiresAt: 0 })).toMatchObject({ expiresAt: 0, revisionNumber: 1 })
  })

  test('an entry is found to be the same in whatever order its selectors come, from all of Unicode', async () => {
    const { entries, nodes } = await open()
    const selectors = ['u:\uff5e', 'u:\u{1f600}', 'u:a', 'u:\ue000'].map(selector)
    const sorted = ['u:a', 'u:\ue000', 'u:\uff5e', 'u:\u{1f600}'].map(selector)
    await entries.create([entry({ id: 'one', selectors })], NOW)
    const again = await entries.create([entry({ selectors }), entry({ selectors: [...selectors].reverse() })], NOW)
    expect(again.map(({ outcome }) => outcome)).toEqual(['similar', 'similar'])
    // An update of something else keeps what it is found by.
    await entries.update('one', { hint: 'h' })
    expect(await entries.create([entry({ selectors })], NOW)).toMatchObject([{ outcome: 'similar' }])
    await nodes.recordAttestation(node('unicode', { selectors }))
    expect((await nodes.get(id('unicode')))!.selectors).toEqual(sorted)
  })

  test('join tokens are found by how they begin, and those that ended are pruned', async () => {
    const { joinTokens } = await open()
    for (const value of ['ab%1', 'ab%2', 'abc', 'AB%3', 'b']) await joinTokens.create({ value, expiresAt: NOW })
    expect([...(await joinTokens.startingWith('ab%', 10))].sort()).toEqual(['ab%1', 'ab%2'])
    expect(await joinTokens.startingWith('', 3)).toHaveLength(3)
    expect(await joinTokens.startingWith('x', 3)).toEqual([])
    for (const [value, expiresAt] of [
      ['past', NOW - 1],
      ['now', NOW],
      ['future', NOW + 1],
    ] as const) {
      await joinTokens.create({ value, expiresAt })
    }
    await joinTokens.prune(NOW)
    const left = await Promise.all(['past', 'now', 'future'].map((value) => joinTokens.consume(value)))
    expect(left.map((token) => token?.value)).toEqual([undefined, 'now', 'future'])
  })

  test('of many who take a join token one gets it', async () => {
    const { joinTokens } = await open()
    await joinTokens.create({ value: 't', expiresAt: NOW })
    await expect(joinTokens.create({ value: 't', expiresAt: NOW })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    const taken = await Promise.all(Array.from({ length: 10 }, () => joinTokens.consume('t')))
    expect(taken.filter((token) => token !== undefined)).toEqual([{ value: 't', expiresAt: NOW }])
  })

  test('authorities appended at once are all there, each once, and every change counts once', async () => {
    const { bundles } = await open()
    await Promise.all(
      ['a', 'b', 'c', 'a'].map((keyId) => bundles.append({ trustDomain: TD, jwtAuthorities: [key(keyId)] })),
    )
    await Promise.all([1, 2, 1].map((fill) => bundles.append({ trustDomain: TD, x509Authorities: [root(fill)] })))
    const stored = (await bundles.get(TD))!
    expect(stored.jwtAuthorities.map(({ keyId }) => keyId)).toEqual(['a', 'b', 'c'])
    expect(stored.x509Authorities).toHaveLength(2)
    const { sequenceNumber } = stored
    expect((await bundles.append({ trustDomain: TD, jwtAuthorities: [key('a')] })).sequenceNumber).toBe(sequenceNumber)
  })

  test('changing a bundle is by what is there; undefined leaves it', async () => {
    const { bundles } = await open()
    await expect(bundles.change(TD, () => undefined)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await bundles.append({ trustDomain: TD, jwtAuthorities: [key('a'), key('b')] })
    const before = (await bundles.get(TD))!
    const taint = (keyId: string) =>
      bundles.change(TD, (one) => ({
        ...one,
        sequenceNumber: one.sequenceNumber + 1,
        jwtAuthorities: one.jwtAuthorities.map((each) => (each.keyId === keyId ? { ...each, tainted: true } : each)),
      }))
    await Promise.all([taint('a'), taint('b')])
    const after = (await bundles.get(TD))!
    expect(after.jwtAuthorities.every(({ tainted }) => tainted)).toBe(true)
    expect(after.sequenceNumber).toBe(before.sequenceNumber + 2)
    expect(await bundles.change(TD, () => undefined)).toEqual(after)
  })

  test.each([
    ['restrict', 'refused', 1],
    ['delete', 'gone', 0],
    ['dissociate', 'gone', 1],
  ] as const)('deleting a bundle that entries federate with, mode %s: %s', async (mode, outcome, left) => {
    const { bundles, entries } = await open()
    await bundles.create(bundle(ONE))
    await expect(bundles.create(bundle(ONE))).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    await entries.create([entry({ federatesWith: [ONE] })], NOW)
    if (outcome === 'refused') {
      await expect(bundles.delete(ONE, mode)).rejects.toMatchObject({
        code: 'FAILED_PRECONDITION',
        message: expect.stringContaining('cannot delete bundle; federated with 1 registration entries'),
      })
    } else await bundles.delete(ONE, mode)
    expect((await bundles.get(ONE)) === undefined).toBe(outcome === 'gone')
    expect(await entries.count({})).toBe(left)
  })

  test('an entry that is dissociated from a bundle has another revision, and does not get the next bundle of that name', async () => {
    const { bundles, entries, changes } = await open()
    await bundles.create(bundle(ONE))
    await entries.create([entry({ id: 'a', federatesWith: [ONE] }), entry({ id: 'b', spiffeId: id('b') })], NOW)
    const told: Change[] = []
    changes.subscribe((news) => told.push(...news))
    await bundles.delete(ONE, 'dissociate')
    await bundles.create(bundle(ONE))
    expect(await entries.get('a')).toMatchObject({ revisionNumber: 1, federatesWith: [] })
    expect(await entries.get('b')).toMatchObject({ revisionNumber: 0 })
    expect(told).toMatchObject([{}, { key: 'a', entry: { revisionNumber: 1, federatesWith: [] } }, {}])
  })

  test('an id that is used again within a second has another time of creation each time', async () => {
    const { entries } = await open()
    const times = new Set<number>()
    const now = epochSeconds(systemClock)
    for (let round = 0; round < 4; round++) {
      await entries.create([entry({ id: 'a' })], now)
      times.add((await entries.get('a'))!.createdAt)
      await entries.delete('a')
    }
    expect(times.size).toBe(4)
    expect(Math.min(...times)).toBe(now)
    await entries.create([entry({ id: 'b' })], now)
    expect(await entries.get('b')).toMatchObject({ createdAt: now })
  })

  test('relationships and journals are kept', async () => {
    const { relationships, journals, bundles } = await open()
    const relationship = {
      trustDomain: ONE,
      bundleEndpointUrl: 'https://one.org/',
      profile: { type: 'https_spiffe', endpointSpiffeId: parseSpiffeId('spiffe://one.org/e') },
    } as const
    await relationships.create(relationship, bundle(ONE))
    expect(await relationships.get(ONE)).toEqual(relationship)
    expect(await bundles.get(ONE)).toBeDefined()
    await relationships.update({ ...relationship, profile: { type: 'https_web' } })
    expect((await relationships.list(ALL)).items).toMatchObject([{ profile: { type: 'https_web' } }])
    await relationships.delete(ONE)
    expect(await relationships.get(ONE)).toBeUndefined()
    const row = await journals.save({ id: 0, activeX509AuthorityId: 'x', data: new Uint8Array([0, 255]) })
    await journals.save({ id: row, activeX509AuthorityId: 'y', data: new Uint8Array([1]) })
    expect(await journals.list()).toEqual([{ id: row, activeX509AuthorityId: 'y', data: new Uint8Array([1]) }])
    await journals.delete(row)
    expect(await journals.list()).toEqual([])
  })

  test('a lease has one owner until it ends or is given back, and its fence only grows', async () => {
    const { leases } = await open()
    const first = await leases.take('l', 'one', NOW, 30)
    expect(first).toEqual({ name: 'l', owner: 'one', fence: 1 })
    expect(await leases.take('l', 'two', NOW + 29, 30)).toBeUndefined()
    expect(await leases.take('other', 'two', NOW, 30)).toMatchObject({ fence: 1 })
    expect(await leases.take('l', 'one', NOW + 29, 30)).toMatchObject({ owner: 'one', fence: 2 })
    const second = await leases.take('l', 'two', NOW + 59, 30)
    expect(second).toEqual({ name: 'l', owner: 'two', fence: 3 })
    await leases.release(first!)
    expect(await leases.take('l', 'one', NOW + 60, 30)).toBeUndefined()
    await leases.release(second!)
    expect(await leases.take('l', 'one', NOW + 60, 30)).toMatchObject({ fence: 4 })
    const [winner, ...others] = (
      await Promise.all(['a', 'b', 'c'].map((owner) => leases.take('race', owner, NOW, 30)))
    ).filter((lease) => lease !== undefined)
    expect(winner).toBeDefined()
    expect(others).toEqual([])
  })

  test('what is guarded by a lease is written while it is held, and not at all after', async () => {
    const store = await open()
    const { leases, bundles, journals, keys, changes } = store
    const late = store.guarded((await leases.take('l', 'one', NOW, 30))!)
    const wrapped = { id: 'k', keyType: 'ec-p256', publicKey: bytes, wrapped: bytes, kekVersion: '1' } as const
    await late.bundles.append({ trustDomain: TD, jwtAuthorities: [key('a')] })
    await late.keys.save(wrapped)
    const id = await late.journals.save({ id: 0, activeX509AuthorityId: 'x', data: bytes })
    const state = async () => [await bundles.get(TD), await keys.list(), await journals.list(), await changes.head()]
    const before = await state()
    const next = store.guarded((await leases.take('l', 'two', NOW + 30, 30))!)
    const writes = [
      () => late.bundles.append({ trustDomain: TD, jwtAuthorities: [key('b')] }),
      () => late.bundles.change(TD, (bundle) => ({ ...bundle, sequenceNumber: 99 })),
      () => late.keys.save({ ...wrapped, kekVersion: '2' }),
      () => late.keys.delete('k'),
      () => late.journals.save({ id, activeX509AuthorityId: 'y', data: bytes }),
      () => late.journals.save({ id: 0, activeX509AuthorityId: 'z', data: bytes }),
      () => late.journals.delete(id),
    ]
    for (const write of writes) await expect(write()).rejects.toMatchObject({ code: 'ABORTED' })
    expect(await state()).toEqual(before)
    await next.bundles.append({ trustDomain: TD, jwtAuthorities: [key('b')] })
    expect((await bundles.get(TD))!.jwtAuthorities).toHaveLength(2)
    const never = store.guarded({ name: 'none', owner: 'one', fence: 1 })
    await expect(never.keys.save(wrapped)).rejects.toMatchObject({ code: 'ABORTED' })
  })

  test('a wrapped key is kept as it was given until it is replaced or deleted', async () => {
    const { keys } = await open()
    const wrapped = { id: 'k', keyType: 'ec-p256', publicKey: bytes, wrapped: bytes, kekVersion: '1' } as const
    expect(await keys.get('k')).toBeUndefined()
    await keys.save(wrapped)
    await keys.save({ ...wrapped, id: 'a', keyType: 'rsa-4096' })
    expect(await keys.get('k')).toEqual(wrapped)
    const other = { ...wrapped, keyType: 'ec-p384', wrapped: Uint8Array.of(9), kekVersion: '2' } as const
    await keys.save(other)
    expect(await keys.list()).toEqual([{ ...wrapped, id: 'a', keyType: 'rsa-4096' }, other])
    await keys.delete('k')
    expect((await keys.list()).map(({ id }) => id)).toEqual(['a'])
  })

  test('what may happen once happens once until its mark ends', async () => {
    const { uses } = await open()
    expect(await uses.take('n', NOW + 60, NOW)).toBe(true)
    expect(await uses.take('n', NOW + 90, NOW + 59)).toBe(false)
    expect(await uses.take('m', NOW + 60, NOW)).toBe(true)
    expect(await uses.take('n', NOW + 120, NOW + 60)).toBe(true)
    const taken = await Promise.all([1, 2, 3].map(() => uses.take('race', NOW + 60, NOW)))
    expect(taken.filter(Boolean)).toHaveLength(1)
    await uses.prune(NOW + 60)
    expect(await uses.take('m', NOW + 120, NOW)).toBe(true)
    expect(await uses.take('n', NOW + 120, NOW)).toBe(false)
    await expect(uses.take('x'.repeat(513), NOW, NOW)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  test('each write is in the change log without gaps, and told before it is done', async () => {
    const { entries, nodes, bundles, changes } = await open()
    const told: Change[] = []
    const stop = changes.subscribe((news) => told.push(...news))
    let before = told.length
    const expectTold = (...kinds: Change['kind'][]) => {
      expect(told.slice(before).map(({ kind }) => kind)).toEqual(kinds)
      before = told.length
    }
    await entries.create([entry({ id: 'a' }), entry({ id: 'b', spiffeId: id('b') })], NOW)
    expectTold('entry', 'entry')
    expect(told[0]).toMatchObject({ key: 'a', entry: { id: 'a' } })
    await entries.update('a', {})
    expectTold('entry')
    await entries.delete('a')
    expectTold('entry')
    expect(told[told.length - 1]).toMatchObject({ key: 'a', entry: null })
    await nodes.recordAttestation(node('spire/agent/a'))
    expectTold('node')
    await bundles.append({ trustDomain: TD, jwtAuthorities: [key('a')] })
    expectTold('bundle')
    stop()
    await nodes.ban(id('spire/agent/a'))
    expectTold()
    expect(await changes.head()).toBe(7)
    const logged = await changes.since(0, 100)
    expect(logged.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5, 6, 7])
    expect((await changes.since(5, 1)).map(({ sequence }) => sequence)).toEqual([6])
  })

  test('a listener that fails does not make a write fail', async () => {
    const { entries, changes } = await open()
    let others = 0
    changes.subscribe(() => {
      throw new Error('a bug elsewhere')
    })
    changes.subscribe(() => {
      others += 1
    })
    expect((await entries.create([entry()], NOW))[0]).toMatchObject({ outcome: 'created' })
    expect(others).toBe(1)
  })
}
