import type { Entry } from '../core/entry.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'
import type { ServerDeps } from './deps.ts'
import { orInternal } from './outcome.ts'

/** The ID of the agent that calls. */
export function agentIdOf(call: Call): SpiffeId {
  if (call.caller.kind !== 'agent') throw failure(call.log, 'INTERNAL', 'caller ID missing from request context')
  return call.caller.spiffeId
}

/** All entries that the calling agent may get SVIDs for. */
export async function authorizedEntries(deps: ServerDeps, call: Call): Promise<readonly Entry[]> {
  const agentId = agentIdOf(call)
  return orInternal(call, 'failed to fetch entries', async () => {
    const node = (await deps.nodes.get(agentId)) ?? (await deps.store.nodes.get(agentId))
    return deps.entries.entriesFor(agentId, node?.selectors ?? [])
  })
}

const indexes = new WeakMap<readonly Entry[], ReadonlyMap<string, Entry>>()

/** Entries by id; kept as long as the list is, which an index hands out again while nothing changed. */
export function byId(entries: readonly Entry[]): ReadonlyMap<string, Entry> {
  let index = indexes.get(entries)
  if (index === undefined) {
    index = new Map(entries.map((entry) => [entry.id, entry]))
    indexes.set(entries, index)
  }
  return index
}
