import type { SyncAuthorizedEntriesRequest } from '../../proto/spire/api/server/entry/v1.ts'
import type { Entry } from '../core/entry.ts'
import { failure } from '../rpc/failure.ts'
import type { Call, EncodedMessage } from '../rpc/method.ts'
import { authorizedEntries, byId } from './authorized-entries.ts'
import type { ServerDeps } from './deps.ts'
import { entriesMessage, revisionsMessage } from './entry-writer.ts'
import { maskKind } from './kept-messages.ts'

/** As many entries or revisions as one message holds. */
const PAGE = 500
const REVISIONS = 1
const ENTRIES = 2
/** Field 3, `more`: true. */
const MORE = Uint8Array.of(3 << 3, 1)
const NO_MORE = new Uint8Array(0)
/** Kinds of kept messages, beside those of GetAuthorizedEntries, which are the masks alone. */
const ALL_REVISIONS = 1 << 16
const ALL_AT_ONCE = 1 << 17

/**
 * Gives an agent its entries: all at once if they are few, else revisions first and then the entries it asks for, until
 * it has no more questions.
 */
export async function* syncAuthorizedEntries(
  deps: ServerDeps,
  requests: AsyncIterable<SyncAuthorizedEntriesRequest>,
  call: Call,
): AsyncIterable<EncodedMessage> {
  const entries = await authorizedEntries(deps, call)
  let mask: SyncAuthorizedEntriesRequest['outputMask']
  let first = true
  for await (const request of requests) {
    if (!first) {
      yield* pages(wanted(entries, request.ids), (page, tail) => entriesMessage(ENTRIES, page, mask, tail))
      continue
    }
    first = false
    if (request.ids.length > 0) {
      throw failure(call.log, 'INVALID_ARGUMENT', 'specifying IDs on initial request is not supported')
    }
    mask = request.outputMask
    if (mask && !mask.revisionNumber) {
      throw failure(call.log, 'INVALID_ARGUMENT', 'revision number cannot be masked')
    }
    if (entries.length <= PAGE) {
      yield* deps.keptMessages.of(entries, ALL_AT_ONCE + maskKind(mask), () => [
        entriesMessage(ENTRIES, entries, mask, NO_MORE),
      ])
      break
    }
    yield* deps.keptMessages.of(entries, ALL_REVISIONS, () => [
      ...pages(entries, (page, tail) => revisionsMessage(REVISIONS, page, tail)),
    ])
  }
  call.audit({})
}

function wanted(entries: readonly Entry[], ids: readonly string[]): Entry[] {
  const index = byId(entries)
  const found: Entry[] = []
  // A set, so that an id that is repeated a million times in 4 MiB does not become gigabytes of answer.
  for (const id of new Set(ids)) {
    const entry = index.get(id)
    if (entry !== undefined) found.push(entry)
  }
  return found
}

function* pages(entries: readonly Entry[], message: (page: readonly Entry[], tail: Uint8Array) => EncodedMessage) {
  for (let start = 0; ; start += PAGE) {
    const end = start + PAGE
    const last = end >= entries.length
    yield message(entries.slice(start, end), last ? NO_MORE : MORE)
    if (last) return
  }
}
