import type { EntryMask } from '../../proto/spire/api/types.ts'
import type { Entry } from '../core/entry.ts'
import type { EncodedMessage } from '../rpc/method.ts'

/** Room enough for all agents of most servers. A large message is held twice, the second time in its frame. */
export const KEPT_MESSAGES_BYTES = 32 * 1024 * 1024
/** What is held of a list beside its messages. */
const LIST_BYTES = 500

interface Kept {
  readonly byKind: Map<number, readonly EncodedMessage[]>
  bytes: number
}

/**
 * Messages that were made of lists of entries, for the next time that the same list is asked for: an index hands out the same list while
 * nothing in it changed, and entries are never changed in place. Those that were not asked for longest make room for new ones.
 */
export class KeptMessages {
  readonly #roomBytes: number
  readonly #kept = new Map<readonly Entry[], Kept>()
  #bytes = 0

  constructor(roomBytes: number) {
    this.#roomBytes = roomBytes
  }

  /** What is held, for tests. */
  get bytes(): number {
    return this.#bytes
  }

  /** @param kind what `make` makes of the list: a number a kind of messages, and of mask */
  of(entries: readonly Entry[], kind: number, make: () => readonly EncodedMessage[]): readonly EncodedMessage[] {
    const kept: Kept = this.#kept.get(entries) ?? { byKind: new Map(), bytes: 0 }
    let messages = kept.byKind.get(kind)
    if (messages === undefined) {
      messages = make()
      const size = messages.reduce((sum, { bytes }) => sum + bytes.length, LIST_BYTES)
      if (size > this.#roomBytes) return messages
      kept.byKind.set(kind, messages)
      kept.bytes += size
      this.#bytes += size
    }
    this.#kept.delete(entries)
    this.#kept.set(entries, kept)
    for (const [oldest, { bytes }] of this.#kept) {
      if (this.#bytes <= this.#roomBytes) break
      this.#kept.delete(oldest)
      this.#bytes -= bytes
    }
    return messages
  }
}

/** A number for each mask, none and all of them. */
export function maskKind(mask: EntryMask | undefined): number {
  if (mask === undefined) return 0
  return (
    1 |
    (mask.spiffeId ? 1 << 1 : 0) |
    (mask.parentId ? 1 << 2 : 0) |
    (mask.selectors ? 1 << 3 : 0) |
    (mask.x509SvidTtl ? 1 << 4 : 0) |
    (mask.federatesWith ? 1 << 5 : 0) |
    (mask.admin ? 1 << 6 : 0) |
    (mask.downstream ? 1 << 7 : 0) |
    (mask.expiresAt ? 1 << 8 : 0) |
    (mask.dnsNames ? 1 << 9 : 0) |
    (mask.revisionNumber ? 1 << 10 : 0) |
    (mask.storeSvid ? 1 << 11 : 0) |
    (mask.jwtSvidTtl ? 1 << 12 : 0) |
    (mask.hint ? 1 << 13 : 0) |
    (mask.createdAt ? 1 << 14 : 0) |
    (mask.additionalAttributes ? 1 << 15 : 0)
  )
}
