import { expect, test } from 'vitest'
import { type Entry as WireEntry, Entry as WireEntryType } from '../proto/spire/api/types.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { type AgentEntry, dropDuplicateHints, ENTRY_MASK, parseEntry, sameEntry } from './entry.ts'

const ENTRY: AgentEntry = {
  id: 'e',
  spiffeId: parseSpiffeId('spiffe://example.org/w'),
  selectors: ['u:1', 'u:2'],
  federatesWith: [parseTrustDomainName('one.org')],
  dnsNames: ['a.org'],
  admin: false,
  downstream: false,
  revisionNumber: 0,
  storeSvid: false,
  hint: '',
  createdAt: 0,
  disableX509SvidPrefetch: false,
  jwtSvidIncludeJti: false,
}

const OTHER: Required<AgentEntry> = {
  id: 'f',
  spiffeId: parseSpiffeId('spiffe://example.org/v'),
  selectors: ['u:1,u:2'],
  federatesWith: [],
  dnsNames: ['a.org', 'b.org'],
  admin: true,
  downstream: true,
  revisionNumber: 1,
  storeSvid: true,
  hint: 'h',
  createdAt: 1,
  disableX509SvidPrefetch: true,
  jwtSvidIncludeJti: true,
}

test.each(Object.keys(ENTRY) as (keyof AgentEntry)[])('an entry with another %s is not the same', (field) => {
  expect(sameEntry(ENTRY, { ...ENTRY, [field]: OTHER[field] })).toBe(false)
})

test('a copy of an entry is the same', () => {
  expect(sameEntry(ENTRY, structuredClone(ENTRY))).toBe(true)
})

const WIRE: WireEntry = {
  ...WireEntryType.decode(new Uint8Array(0)),
  id: 'e',
  spiffeId: { trustDomain: 'example.org', path: '/w' },
  selectors: [
    { type: 'u', value: '2' },
    { type: 'u', value: '1' },
    { type: 'u', value: '2' },
  ],
  federatesWith: ['spiffe://one.org'],
  dnsNames: ['b.test', 'a.test'],
}

test('an entry from the server is read in one form, whatever order its parts are in', () => {
  expect(parseEntry(WIRE)).toMatchObject({
    id: 'e',
    spiffeId: 'spiffe://example.org/w',
    selectors: ['u:1', 'u:2'],
    federatesWith: ['one.org'],
    dnsNames: ['a.test', 'b.test'],
    disableX509SvidPrefetch: false,
    jwtSvidIncludeJti: false,
  })
  const additionalAttributes = { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true }
  expect(parseEntry({ ...WIRE, additionalAttributes })).toMatchObject(additionalAttributes)
})

test.each<[string, Partial<WireEntry>]>([
  ['no id', { id: '' }],
  ['no SPIFFE ID', { spiffeId: undefined }],
  ['a SPIFFE ID that is none', { spiffeId: { trustDomain: 'Example.org', path: '/w' } }],
  ['a path that is none', { spiffeId: { trustDomain: 'example.org', path: 'w' } }],
  ['no selectors: it would be for everybody', { selectors: [] }],
  ['a selector without type', { selectors: [{ type: '', value: 'x' }] }],
  ['a selector without value', { selectors: [{ type: 'u', value: '' }] }],
  ['a trust domain that is none', { federatesWith: ['One org'] }],
])('an entry with %s is not taken', (_, changes) => {
  expect(() => parseEntry({ ...WIRE, ...changes })).not.toThrow(TypeError)
  expect(() => parseEntry({ ...WIRE, ...changes })).toThrow()
})

test('the server is asked for all that an agent looks at, and for no more', () => {
  const { parentId, x509SvidTtl, expiresAt, jwtSvidTtl, ...wanted } = ENTRY_MASK
  expect([parentId, x509SvidTtl, expiresAt, jwtSvidTtl]).toEqual([false, false, false, false])
  expect(Object.values(wanted).every((asked) => asked)).toBe(true)
})

const hinted = (id: string, hint: string, createdAt: number): AgentEntry => ({ ...ENTRY, id, hint, createdAt })
const dropped = (...entries: readonly AgentEntry[]) => {
  const ignored: string[] = []
  const left = dropDuplicateHints(
    entries,
    (entry) => entry,
    (entry) => ignored.push(entry.id),
  )
  return { left: left.map(({ id }) => id), ignored }
}

test('of entries with one hint the oldest stays, and of equally old ones the one with the smaller id, in whatever order they come', () => {
  const [oldest, asOld, young] = [hinted('b', 'x', 5), hinted('c', 'x', 5), hinted('a', 'x', 9)]
  for (const entries of [
    [oldest, asOld, young],
    [oldest, young, asOld],
    [asOld, oldest, young],
    [asOld, young, oldest],
    [young, oldest, asOld],
    [young, asOld, oldest],
  ]) {
    const { left, ignored } = dropped(...entries)
    expect(left).toEqual(['b'])
    expect(ignored.sort()).toEqual(['a', 'c'])
  }
})

test('entries without a hint, or with one of their own, all stay, in their order', () => {
  const entries = [hinted('d', '', 1), hinted('b', 'x', 5), hinted('a', '', 1), hinted('c', 'y', 5)]
  expect(dropped(...entries)).toEqual({ left: ['d', 'b', 'a', 'c'], ignored: [] })
  expect(dropped(...entries, hinted('e', 'x', 6))).toEqual({ left: ['d', 'b', 'a', 'c'], ignored: ['e'] })
})
