import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Entry as WireEntry } from '../../proto/spire/api/types.ts'
import type { Entry } from '../core/entry.ts'
import { entryToWire } from './entry-convert.ts'
import { writeEntry } from './entry-writer.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 300 })
const time = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
const id = fc.stringMatching(/^[a-z0-9/]{0,200}$/).map((path) => `spiffe://example.org${path && `/${path}`}`)

test('an entry is written as the generated code writes it', () => {
  const entries = fc.record({
    id: text,
    spiffeId: id,
    parentId: id,
    selectors: fc.array(fc.record({ type: text, value: text }), { maxLength: 4 }),
    x509SvidTtlSeconds: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
    jwtSvidTtlSeconds: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
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
