import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  EntryRevision,
  ListEntriesResponse,
  SyncAuthorizedEntriesResponse,
} from '../../proto/spire/api/server/entry/v1.ts'
import { Entry } from '../../proto/spire/api/types.ts'
import { repeatedMessage } from './encoded-entries.ts'

const NOTHING = new Uint8Array(0)
const number = fc.oneof(fc.maxSafeInteger(), fc.constantFrom(-5, -1, 0, 127, 128, 2 ** 31, 2 ** 53 - 1))

test('a message of repeated messages is what the generated code writes, whatever their lengths', () => {
  // Around the lengths at which a varint grows by a byte.
  const size = fc.oneof(fc.nat(300), fc.integer({ min: 16_300, max: 16_500 }))
  const entry = size.map((length) => ({ ...Entry.decode(NOTHING), id: 'x'.repeat(length) }))
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 5 }), fc.string(), (entries, nextPageToken) => {
      const tail = nextPageToken === '' ? NOTHING : ListEntriesResponse.encode({ entries: [], nextPageToken }).finish()
      const items = entries.map((one) => Entry.encode(one).finish())
      expect(repeatedMessage(1, items, tail).bytes).toEqual(
        ListEntriesResponse.encode({ entries, nextPageToken }).finish(),
      )
    }),
  )
})

test('a page of revisions is what the generated code writes', () => {
  const revision = fc.record({ id: fc.string({ unit: 'grapheme' }), revisionNumber: number, createdAt: number })
  fc.assert(
    fc.property(fc.array(revision, { maxLength: 10 }), fc.boolean(), (entryRevisions, more) => {
      const items = entryRevisions.map((one) => EntryRevision.encode(one).finish())
      expect(repeatedMessage(1, items, more ? Uint8Array.of(3 << 3, 1) : NOTHING).bytes).toEqual(
        SyncAuthorizedEntriesResponse.encode({ entryRevisions, entries: [], more }).finish(),
      )
    }),
  )
})
