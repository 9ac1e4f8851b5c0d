import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Entry as WireEntry } from '../../proto/spire/api/types.ts'
import type { Entry } from '../core/entry.ts'
import { entryToWire } from './entry-convert.ts'
import { writeEntry } from './entry-writer.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 300 })
const time = fc.oneof(
  fc.maxSafeInteger(),
  fc.constantFrom(-(2 ** 53) + 1, -(2 ** 31), -5, -1, 0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1),
)
const ttl = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
const id = fc.stringMatching(/^[a-z0-9/]{0,200}$/).map((path) => `spiffe://example.org${path && `/${path}`}`)

test('an entry is written as the generated code writes it', () => {
  const entries = fc.record({
    id: text,
    spiffeId: id,
    parentId: id,
    selectors: fc.array(fc.record({ type: text, value: text }), { maxLength: 4 }),
    x509SvidTtlSeconds: ttl,
    jwtSvidTtlSeconds: ttl,
    federatesWith: fc.array(text, { maxLength: 3 }),
    admin: fc.boolean(),
    downstream: fc.boolean(),
    expiresAt: time,
    dnsNames: fc.array(text, { maxLength: 3 }),
    revisionNumber: time,
    storeSvid: fc.boolean(),
    hint: text,
    createdAt: time,
    disableX509SvidPrefetch: fc.boolean(),
    jwtSvidIncludeJti: fc.boolean(),
  })
  fc.assert(
    fc.property(entries, (fields) => {
      const entry = fields as unknown as Entry
      expect(writeEntry(entry)).toEqual(WireEntry.encode(entryToWire(entry)).finish())
    }),
    { numRuns: 300 },
  )
})
