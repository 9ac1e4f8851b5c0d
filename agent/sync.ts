import type { EntryRevision } from '../proto/spire/api/server/entry/v1.ts'
import type { Bundle as WireBundle, Entry as WireEntry } from '../proto/spire/api/types.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { errorMessage, StatusError } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import type { TrustDomain } from '../src/core/trust-domain.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import { type AgentEntry, ENTRY_MASK, parseEntry, sameEntry } from './entry.ts'
import { RPC_TIMEOUT_MS } from './server-connection.ts'
import { SERVER } from './server-methods.ts'
import { parseBundle, sameBundle } from './wire.ts'

/** What the server says the agent may serve. Unchanged entries and bundles are the same objects as before. */
export interface SyncResult {
  readonly entries: ReadonlyMap<string, AgentEntry>
  readonly bundles: ReadonlyMap<TrustDomain, Bundle>
}

export interface SyncOptions {
  readonly trustDomain: TrustDomain
  /** False: fetch everything each time, for servers without SyncAuthorizedEntries. */
  readonly useSyncAuthorizedEntries: boolean
  readonly log: Log
}

const TIMEOUT = { timeoutMs: RPC_TIMEOUT_MS }
const MAX_PARALLEL_FETCHES = 10
const MAX_ROUNDS = 5

/**
 * Brings what is known in step with the server. A federated bundle that is new is read twice, with the entries between: an entry that
 * federated with a trust domain before must not be given a bundle that came after it was dissociated.
 * @throws StatusError as the server gave it, with `failed to fetch authorized entries: ` or like words in front
 */
export async function synchronise(
  connection: GrpcChannel,
  known: SyncResult,
  options: SyncOptions,
): Promise<SyncResult> {
  let before = known
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const after = await exchange(connection, before, options)
    const news = [...after.bundles.values()].some(
      (bundle) => bundle.trustDomain !== options.trustDomain && before.bundles.get(bundle.trustDomain) !== bundle,
    )
    if (!news) return after
    before = after
  }
  throw new StatusError('ABORTED', 'federated bundles change faster than they can be read')
}

/**
 * One exchange with the server: entries by revision (only what is new or changed travels), then the bundles that they need.
 * @see agent.md 7.2
 */
async function exchange(connection: GrpcChannel, known: SyncResult, options: SyncOptions): Promise<SyncResult> {
  const entries = await failingWith(
    'failed to fetch authorized entries',
    options.useSyncAuthorizedEntries
      ? syncEntries(connection, known.entries, options.log)
      : fetchEntries(connection, known.entries, options.log),
  )
  const bundles = new Map<TrustDomain, Bundle>()
  const own = bundleOf(
    options.trustDomain,
    await failingWith('failed to fetch bundle', connection.unary(SERVER.getBundle, { outputMask: undefined }, TIMEOUT)),
  )
  bundles.set(options.trustDomain, kept(known.bundles, own))
  const federated = new Set<TrustDomain>()
  for (const entry of entries.values()) for (const trustDomain of entry.federatesWith) federated.add(trustDomain)
  federated.delete(options.trustDomain)
  const names = [...federated]
  for (let start = 0; start < names.length; start += MAX_PARALLEL_FETCHES) {
    await Promise.all(
      names.slice(start, start + MAX_PARALLEL_FETCHES).map(async (trustDomain) => {
        const bundle = await fetchFederated(connection, trustDomain, options.log)
        if (bundle) bundles.set(trustDomain, kept(known.bundles, bundle))
      }),
    )
  }
  return { entries, bundles }
}

/** Reads the answer to a question for the bundle of a trust domain. @throws StatusError INTERNAL if it is another one's */
function bundleOf(trustDomain: TrustDomain, answer: WireBundle): Bundle {
  const bundle = parseBundle(answer)
  if (bundle.trustDomain === trustDomain) return bundle
  throw new StatusError(
    'INTERNAL',
    `the server sent the bundle of "${bundle.trustDomain}" instead of the one of "${trustDomain}"`,
  )
}

function kept(known: ReadonlyMap<TrustDomain, Bundle>, fresh: Bundle): Bundle {
  const before = known.get(fresh.trustDomain)
  return before && sameBundle(before, fresh) ? before : fresh
}

async function fetchFederated(
  connection: GrpcChannel,
  trustDomain: TrustDomain,
  log: Log,
): Promise<Bundle | undefined> {
  try {
    return bundleOf(
      trustDomain,
      await connection.unary(SERVER.getFederatedBundle, { trustDomain, outputMask: undefined }, TIMEOUT),
    )
  } catch (error) {
    if (error instanceof StatusError && error.code === 'NOT_FOUND') {
      log.warn('Federated bundle not found', { trust_domain_id: trustDomain })
      return undefined
    }
    throw error
  }
}

async function syncEntries(
  connection: GrpcChannel,
  known: ReadonlyMap<string, AgentEntry>,
  log: Log,
): Promise<ReadonlyMap<string, AgentEntry>> {
  const call = connection.bidi(SERVER.syncAuthorizedEntries, TIMEOUT)
  await call.send({ outputMask: ENTRY_MASK, ids: [] })
  const messages = call.messages[Symbol.asyncIterator]()
  let reply = await next(messages)
  if (reply.entryRevisions.length === 0) {
    call.end()
    return collect(reply.entries, known, log)
  }
  const pageSize = reply.entryRevisions.length
  const revisions: EntryRevision[] = [...reply.entryRevisions]
  while (reply.more) {
    reply = await next(messages)
    revisions.push(...reply.entryRevisions)
  }
  const entries = new Map<string, AgentEntry>()
  const needed: string[] = []
  for (const revision of revisions) {
    if (revision.id === '' || revision.revisionNumber < 0) {
      log.warn('Received malformed entry revision from SPIRE server; are the server and agent versions compatible?', {
        entry: revision.id,
      })
      continue
    }
    const before = known.get(revision.id)
    const current =
      before?.revisionNumber === revision.revisionNumber &&
      (revision.createdAt === 0 || before.createdAt === revision.createdAt)
    if (current) entries.set(revision.id, before)
    else needed.push(revision.id)
  }
  needed.sort()
  for (let start = 0; start < needed.length; start += pageSize) {
    await call.send({ outputMask: undefined, ids: needed.slice(start, start + pageSize) })
    do {
      reply = await next(messages)
      // Over HTTP the server answers from the start each time: with more pages of revisions if entries were added meanwhile.
      if (reply.entryRevisions.length > 0) throw new StatusError('ABORTED', 'entries changed while they were read')
      for (const entry of collect(reply.entries, known, log).values()) entries.set(entry.id, entry)
    } while (reply.more)
  }
  call.end()
  return entries
}

async function next<T>(messages: AsyncIterator<T>): Promise<T> {
  const { done, value } = await messages.next()
  if (done) throw new StatusError('UNKNOWN', 'EOF')
  return value
}

async function fetchEntries(
  connection: GrpcChannel,
  known: ReadonlyMap<string, AgentEntry>,
  log: Log,
): Promise<ReadonlyMap<string, AgentEntry>> {
  const reply = await connection.unary(SERVER.getAuthorizedEntries, { outputMask: ENTRY_MASK }, TIMEOUT)
  return collect(reply.entries, known, log)
}

function collect(
  wire: readonly WireEntry[],
  known: ReadonlyMap<string, AgentEntry>,
  log: Log,
): Map<string, AgentEntry> {
  const entries = new Map<string, AgentEntry>()
  for (const item of wire) {
    try {
      const entry = parseEntry(item)
      const before = known.get(entry.id)
      entries.set(entry.id, before && sameEntry(before, entry) ? before : entry)
    } catch (error) {
      log.warn('Received malformed entry from SPIRE server; are the server and agent versions compatible?', {
        entry: item.id,
        error: errorMessage(error),
      })
    }
  }
  return entries
}

async function failingWith<T>(message: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (error instanceof StatusError) {
      throw new StatusError(error.code, `${message}: ${error.message}`, { cause: error, details: error.details })
    }
    throw error
  }
}
