import type { EntryStore } from '../core/store.ts'
import type { EntryLookup } from './deps.ts'
import type { EntryIndex } from './entry-index.ts'

/** Looks entries up in the database, one statement a question. */
export function entriesInStore(entries: EntryStore): EntryLookup {
  return {
    entriesFor: (agentId, selectors) => entries.authorized(agentId, selectors),
    bySpiffeId: async (spiffeId) => (await entries.list({ spiffeId }, { size: 0, token: '' })).items,
  }
}

/**
 * Looks entries up in memory, and in the database while the index is being read: an agent that were told of some of its entries only would
 * take the others from its workloads.
 */
export function entriesInMemory(index: EntryIndex, entries: EntryStore): EntryLookup {
  const stored = entriesInStore(entries)
  return {
    get byId() {
      return index.stands ? index.byId : undefined
    },
    entriesFor: (agentId, selectors) => (index.stands ? index : stored).entriesFor(agentId, selectors),
    bySpiffeId: (spiffeId) => (index.stands ? index : stored).bySpiffeId(spiffeId),
  }
}
