import { EntryRevision } from '../../proto/spire/api/server/entry/v1.ts'
import { type EntryMask, Entry as WireEntry } from '../../proto/spire/api/types.ts'
import type { Entry } from '../core/entry.ts'
import { EncodedMessage } from '../rpc/method.ts'
import { entryToWire } from './entry-convert.ts'
import { writeEntry } from './entry-writer.ts'

/**
 * Bytes of entries, kept as long as the entry objects are: thousands of agents sync the same entries, and a changed entry
 * is a new object. Few masks are in use, so more than these are encoded anew.
 */
const MASKS_KEPT = 8
const caches = new Map<number, WeakMap<Entry, Uint8Array>>()
const revisions = new WeakMap<Entry, Uint8Array>()

/** An encoded `types.Entry`. */
export function entryBytes(entry: Entry, mask?: EntryMask): Uint8Array {
  const cache = cacheOf(mask)
  let bytes = cache?.get(entry)
  if (bytes === undefined) {
    bytes = mask === undefined ? writeEntry(entry) : WireEntry.encode(entryToWire(entry, mask)).finish()
    cache?.set(entry, bytes)
  }
  return bytes
}

/** An encoded `EntryRevision`. */
export function revisionBytes(entry: Entry): Uint8Array {
  let bytes = revisions.get(entry)
  if (bytes === undefined) {
    bytes = EntryRevision.encode({
      id: entry.id,
      revisionNumber: entry.revisionNumber,
      createdAt: entry.createdAt,
    }).finish()
    revisions.set(entry, bytes)
  }
  return bytes
}

/**
 * A message that consists of a repeated message field and some more bytes.
 * @param field number of the repeated field, below 16
 * @param tail the encoded rest of the message
 */
export function repeatedMessage(field: number, items: readonly Uint8Array[], tail: Uint8Array): EncodedMessage {
  let size = tail.length
  for (const item of items) size += 1 + varintSize(item.length) + item.length
  const bytes = new Uint8Array(size)
  const tag = (field << 3) | 2
  let at = 0
  for (const item of items) {
    bytes[at++] = tag
    let length = item.length
    while (length > 127) {
      bytes[at++] = (length & 127) | 128
      length >>>= 7
    }
    bytes[at++] = length
    bytes.set(item, at)
    at += item.length
  }
  bytes.set(tail, at)
  return new EncodedMessage(bytes)
}

function varintSize(value: number): number {
  let size = 1
  for (let rest = value; rest > 127; rest >>>= 7) size++
  return size
}

function cacheOf(mask: EntryMask | undefined): WeakMap<Entry, Uint8Array> | undefined {
  const key = mask === undefined ? -1 : maskKey(mask)
  let cache = caches.get(key)
  if (cache === undefined && caches.size < MASKS_KEPT) {
    cache = new WeakMap()
    caches.set(key, cache)
  }
  return cache
}

function maskKey(mask: EntryMask): number {
  return (
    (mask.spiffeId ? 1 : 0) |
    (mask.parentId ? 1 << 1 : 0) |
    (mask.selectors ? 1 << 2 : 0) |
    (mask.x509SvidTtl ? 1 << 3 : 0) |
    (mask.federatesWith ? 1 << 4 : 0) |
    (mask.admin ? 1 << 5 : 0) |
    (mask.downstream ? 1 << 6 : 0) |
    (mask.expiresAt ? 1 << 7 : 0) |
    (mask.dnsNames ? 1 << 8 : 0) |
    (mask.revisionNumber ? 1 << 9 : 0) |
    (mask.storeSvid ? 1 << 10 : 0) |
    (mask.jwtSvidTtl ? 1 << 11 : 0) |
    (mask.hint ? 1 << 12 : 0) |
    (mask.createdAt ? 1 << 13 : 0) |
    (mask.additionalAttributes ? 1 << 14 : 0)
  )
}
