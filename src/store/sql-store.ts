import { type Clock, epochSeconds } from '../core/clock.ts'
import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { Store } from '../core/store.ts'
import { createDatabase, type SqlDriver } from './database.ts'
import { bundleStore } from './queries/bundles.ts'
import { withValues } from './queries/changed-values.ts'
import { changeLog } from './queries/changes.ts'
import { entryStore } from './queries/entries.ts'
import { joinTokenStore } from './queries/join-tokens.ts'
import { journalStore } from './queries/journals.ts'
import { guardedByLease, leaseStore } from './queries/leases.ts'
import { nodeStore } from './queries/nodes.ts'
import { relationshipStore } from './queries/relationships.ts'
import { useStore } from './queries/uses.ts'
import { wrappedKeyStore } from './queries/wrapped-keys.ts'

/** All stores on one driver. */
export function createStore(driver: SqlDriver, clock: Clock, log: Log): Store {
  const database = createDatabase(driver, {
    nowSeconds: () => epochSeconds(clock),
    onListenerError: (error) => log.error('A listener of the change log failed', { error: errorMessage(error) }),
    withValues,
  })
  return {
    entries: entryStore(database),
    nodes: nodeStore(database),
    bundles: bundleStore(database),
    joinTokens: joinTokenStore(database),
    relationships: relationshipStore(database),
    journals: journalStore(database),
    uses: useStore(database),
    leases: leaseStore(database),
    keys: wrappedKeyStore(database),
    changes: changeLog(database),
    guarded(lease) {
      const guarded = guardedByLease(database, lease)
      return { bundles: bundleStore(guarded), journals: journalStore(guarded), keys: wrappedKeyStore(guarded) }
    },
    close: () => database.close(),
  }
}
