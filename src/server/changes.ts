import type { PollRequest, PollResponse, WatchRequest, WatchResponse } from '../../proto/turret/changes/v1.ts'
import type { Entry } from '../core/entry.ts'
import { StatusError } from '../core/error.ts'
import type { Call } from '../rpc/method.ts'
import type { ServerDeps } from './deps.ts'
import { changesAfter } from './news.ts'

/**
 * Tells an agent or a server below that it should look again: at its entries, if the set that it may serve changed, and at the
 * bundles. Changes that come while a message is on its way are told together in the next one.
 *
 * @throws StatusError UNIMPLEMENTED where this process is not told of all writes
 */
export async function* watchChanges(deps: ServerDeps, _: WatchRequest, call: Call): AsyncGenerator<WatchResponse> {
  if (!deps.changeTail) throw new StatusError('UNIMPLEMENTED', 'this server cannot hold a feed open, poll it')
  let cursor = await present(deps, call)
  yield { bundle: true, entries: true }
  while (!call.signal.aborted) {
    const news = await newsSince(deps, call, cursor)
    cursor = news.cursor
    if (news.bundle || news.entries) yield { bundle: news.bundle, entries: news.entries }
    else await deps.changeTail.newerThan(cursor.sequence, FOREVER_MS, call.signal, nameOf(call))
  }
}

/**
 * The same in single answers. Where this process is told of all writes, an answer waits for news and costs no query; elsewhere it comes at
 * once, after one indexed read if there are none.
 */
export async function pollChanges(deps: ServerDeps, request: PollRequest, call: Call): Promise<PollResponse> {
  const { changeTail: tail, clock } = deps
  let cursor = readCursor(request.cursor)
  if (!cursor) return answer(deps, { cursor: await present(deps, call), bundle: true, entries: true })
  const until = clock.nowMs() + Math.min(Math.max(request.waitMs, 0), LONGEST_WAIT_MS)
  for (;;) {
    const news: News = await newsSince(deps, call, cursor)
    cursor = news.cursor
    const left = until - clock.nowMs()
    if (news.bundle || news.entries || !tail || left <= 0 || call.signal.aborted) return answer(deps, news)
    await tail.newerThan(cursor.sequence, left, call.signal, nameOf(call))
  }
}

function nameOf({ caller }: Call): string {
  return 'spiffeId' in caller ? caller.spiffeId : caller.kind
}

const FOREVER_MS = 2 ** 31 - 1
/** Less than what proxies on the way usually allow. */
const LONGEST_WAIT_MS = 55_000
/** So that a change is with everybody within two seconds. */
const POLL_AGAIN_MS = 1_000

/** What a caller has seen: the change log up to here, and which entries it may serve. */
interface Cursor {
  readonly sequence: number
  readonly entries: string
}

interface News {
  readonly cursor: Cursor
  readonly bundle: boolean
  readonly entries: boolean
}

async function newsSince(deps: ServerDeps, call: Call, cursor: Cursor): Promise<News> {
  const { changeTail, store } = deps
  const changes = changeTail
    ? changeTail.since(cursor.sequence)
    : (await changesAfter(store.changes, cursor.sequence)).changes
  if (!changes) return { cursor: await present(deps, call), bundle: true, entries: true }
  if (changes.length === 0) return { cursor, bundle: false, entries: false }
  const bundle = changes.some((change) => change.kind === 'bundle')
  const mayConcern = changes.some((change) => change.kind === 'entry' || change.kind === 'node')
  const entries = mayConcern ? fingerprint(await entriesOf(deps, call)) : cursor.entries
  const { sequence } = changes[changes.length - 1]!
  return { cursor: { sequence, entries }, bundle, entries: entries !== cursor.entries }
}

/** The log is read before the entries: what comes in between is told once more, never lost. */
async function present(deps: ServerDeps, call: Call): Promise<Cursor> {
  const sequence = deps.changeTail?.head ?? (await deps.store.changes.head())
  return { sequence, entries: fingerprint(await entriesOf(deps, call)) }
}

function answer({ changeTail }: ServerDeps, { cursor, bundle, entries }: News): PollResponse {
  const text = `${cursor.sequence}.${cursor.entries}`
  return { bundle, entries, cursor: text, pollAgainMs: changeTail ? 0 : POLL_AGAIN_MS }
}

function readCursor(text: string): Cursor | undefined {
  const match = /^(\d{1,15})\.([0-9a-z]{1,32})$/.exec(text)
  return match ? { sequence: Number(match[1]), entries: match[2]! } : undefined
}

/** What the agent may serve; nothing for a server below, which only cares for bundles. */
async function entriesOf(deps: ServerDeps, call: Call): Promise<readonly Entry[]> {
  if (call.caller.kind !== 'agent') return []
  const node = await deps.nodes.get(call.caller.spiffeId)
  return deps.entries.entriesFor(call.caller.spiffeId, node?.selectors ?? [])
}

const fingerprints = new WeakMap<readonly Entry[], string>()

/** Equal for equal sets of entries and revisions, in any order. It only saves work: nothing is decided by it but when to look. */
function fingerprint(entries: readonly Entry[]): string {
  const known = fingerprints.get(entries)
  if (known !== undefined) return known
  let low = 0
  let high = 0
  for (const { id, revisionNumber } of entries) {
    let a = 0x811c9dc5
    let b = 0x9747b28c
    for (let index = 0; index < id.length; index++) {
      a = Math.imul(a ^ id.charCodeAt(index), 0x01000193)
      b = Math.imul(b ^ id.charCodeAt(index), 0x5bd1e995)
    }
    low = (low + Math.imul(a ^ revisionNumber, 0x85ebca6b)) >>> 0
    high = (high + Math.imul(b ^ revisionNumber, 0xc2b2ae35)) >>> 0
  }
  const text = `${entries.length.toString(36)}x${low.toString(36)}x${high.toString(36)}`
  fingerprints.set(entries, text)
  return text
}
