import type { WatchRequest, WatchResponse } from '../../proto/turret/changes/v1.ts'
import type { Entry } from '../core/entry.ts'
import type { Change } from '../core/store.ts'
import type { Call } from '../rpc/method.ts'
import type { ServerDeps } from './deps.ts'

/**
 * Tells an agent or a server below that it should look again: at its entries, if the set that it may serve changed, and at the
 * bundles. Changes that come while a message is on its way are told together in the next one.
 */
export async function* watchChanges(deps: ServerDeps, _: WatchRequest, call: Call): AsyncGenerator<WatchResponse> {
  let pending: Change[] = []
  let wake = () => {}
  const stop = deps.store.changes.subscribe((changes) => {
    pending.push(...changes)
    wake()
  })
  try {
    let entries = await entriesOf(deps, call)
    yield { bundle: true, entries: true }
    while (!call.signal.aborted) {
      if (pending.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve
          call.signal.addEventListener('abort', () => resolve(), { once: true })
        })
        continue
      }
      const changes = pending
      pending = []
      const bundle = changes.some((change) => change.kind === 'bundle')
      let entriesChanged = false
      if (changes.some((change) => change.kind === 'entry' || change.kind === 'node')) {
        const now = await entriesOf(deps, call)
        entriesChanged = !sameEntries(entries, now)
        entries = now
      }
      if (bundle || entriesChanged) yield { bundle, entries: entriesChanged }
    }
  } finally {
    stop()
  }
}

/** What the agent may serve; nothing for a server below, which only cares for bundles. */
async function entriesOf(deps: ServerDeps, call: Call): Promise<readonly Entry[]> {
  if (call.caller.kind !== 'agent') return []
  const node = await deps.nodes.get(call.caller.spiffeId)
  return deps.entries.entriesFor(call.caller.spiffeId, node?.selectors ?? [])
}

function sameEntries(a: readonly Entry[], b: readonly Entry[]): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  const known = new Set(a)
  return b.every((entry) => known.has(entry))
}
