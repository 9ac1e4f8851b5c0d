import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ListEntriesResponse, SyncAuthorizedEntriesResponse } from '../../proto/spire/api/server/entry/v1.ts'
import { EntryMask } from '../../proto/spire/api/types.ts'
import type { Entry } from '../core/entry.ts'
import { entryToWire } from './entry-convert.ts'
import { entriesMessage, revisionsMessage } from './entry-writer.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 300 })
const time = fc.oneof(
  fc.maxSafeInteger(),
  fc.constantFrom(-(2 ** 53) + 1, -(2 ** 31), -5, -1, 0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1),
)
const ttl = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
const id = fc.stringMatching(/^[a-z0-9/]{0,200}$/).map((path) => `spiffe://example.org${path && `/${path}`}`)

const entries = fc.array(
  fc.record({
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
  }) as unknown as fc.Arbitrary<Entry>,
  { maxLength: 5 },
)
const NOTHING = new Uint8Array(0)

test('entries are written as the generated code writes them', () => {
  const flags = fc.dictionary(fc.constantFrom(...Object.keys(EntryMask.decode(NOTHING))), fc.boolean())
  const mask = fc.option(
    flags.map((given) => ({ ...EntryMask.decode(NOTHING), ...given })),
    { nil: undefined },
  )
  fc.assert(
    fc.property(entries, mask, fc.string(), (list, outputMask, nextPageToken) => {
      const tail = ListEntriesResponse.encode({ entries: [], nextPageToken }).finish()
      const whole = { entries: list.map((entry) => entryToWire(entry, outputMask)), nextPageToken }
      expect(entriesMessage(1, list, outputMask, tail).bytes).toEqual(ListEntriesResponse.encode(whole).finish())
    }),
    { numRuns: 300 },
  )
})

test('an entry of any length is, too', () => {
  // Around the lengths at which a varint grows by a byte.
  const size = fc.oneof(fc.nat(300), fc.integer({ min: 16_200, max: 16_500 }), fc.constantFrom(2_097_100, 2_097_200))
  const plain = { ...EntryMask.decode(NOTHING) }
  fc.assert(
    fc.property(fc.array(size, { maxLength: 5 }), (sizes) => {
      const list = sizes.map((length) => ({ id: 'x'.repeat(length) }) as Entry)
      const whole = { entries: list.map((entry) => entryToWire(entry, plain)), nextPageToken: '' }
      const { bytes } = entriesMessage(1, list, plain, NOTHING)
      expect(Buffer.compare(bytes, ListEntriesResponse.encode(whole).finish())).toBe(0)
    }),
    { numRuns: 50 },
  )
})

test('revisions are written as the generated code writes them', () => {
  fc.assert(
    fc.property(entries, fc.boolean(), (list, more) => {
      const entryRevisions = list.map(({ id, revisionNumber, createdAt }) => ({ id, revisionNumber, createdAt }))
      const tail = more ? Uint8Array.of(3 << 3, 1) : NOTHING
      expect(revisionsMessage(1, list, tail).bytes).toEqual(
        SyncAuthorizedEntriesResponse.encode({ entryRevisions, entries: [], more }).finish(),
      )
    }),
  )
})
