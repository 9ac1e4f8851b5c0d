import { expect, test } from 'vitest'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { type AgentEntry, sameEntry } from './entry.ts'

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
