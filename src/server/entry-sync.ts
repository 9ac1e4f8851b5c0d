import type { SyncAuthorizedEntriesRequest } from '../../proto/spire/api/server/entry/v1.ts'
import type { Entry } from '../core/entry.ts'
import { failure } from '../rpc/failure.ts'
import type { Call, EncodedMessage } from '../rpc/method.ts'
import { authorizedEntries, byId } from './authorized-entries.ts'
import type { ServerDeps } from './deps.ts'
import { entryBytes, repeatedMessage, revisionBytes } from './encoded-entries.ts'

/** As many entries or revisions as one message holds. */
const PAGE = 500
const REVISIONS = 1
const ENTRIES = 2
/** Field 3, `more`: true. */
const MORE = Uint8Array.of(3 << 3, 1)
const NO_MORE = new Uint8Array(0)

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
      yield* pages(ENTRIES, wanted(entries, request.ids), (entry) => entryBytes(entry, mask))
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
      yield repeatedMessage(
        ENTRIES,
        entries.map((entry) => entryBytes(entry, mask)),
        NO_MORE,
      )
      break
    }
    yield* revisionPages(entries)
  }
  call.audit({})
}

const pagesOfLists = new WeakMap<readonly Entry[], readonly EncodedMessage[]>()

/** The revisions of a list, made once per list: an agent whose entries did not change costs no encoding at all. */
function revisionPages(entries: readonly Entry[]): readonly EncodedMessage[] {
  let made = pagesOfLists.get(entries)
  if (made === undefined) {
    made = [...pages(REVISIONS, entries, revisionBytes)]
    pagesOfLists.set(entries, made)
  }
  return made
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

function* pages(field: number, entries: readonly Entry[], encode: (entry: Entry) => Uint8Array) {
  for (let start = 0; ; start += PAGE) {
    const end = start + PAGE
    const last = end >= entries.length
    yield repeatedMessage(field, entries.slice(start, end).map(encode), last ? NO_MORE : MORE)
    if (last) return
  }
}
