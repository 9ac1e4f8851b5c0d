import { StatusError } from '../../src/core/error.ts'
import type { Lease, Store } from '../../src/core/store.ts'
import type { AuthorityStore } from '../../src/server/ca-manager.ts'
import { memoryWrappedKeys } from './wrapped-keys.ts'

/** Adds lease, wrapped keys and guarded writes, in this process, to a store that has none. */
export function sharedStore(store: Store): AuthorityStore & { readonly keys: ReturnType<typeof memoryWrappedKeys> } {
  const keys = memoryWrappedKeys()
  let held = { owner: '', until: 0, fence: 0 }
  return {
    bundles: store.bundles,
    journals: store.journals,
    keys,
    leases: {
      async take(name, owner, now, seconds) {
        if (held.owner !== owner && now < held.until) return undefined
        held = { owner, until: now + seconds, fence: held.fence + 1 }
        return { name, owner, fence: held.fence }
      },
      async release(lease) {
        if (lease.fence === held.fence) held = { ...held, until: 0 }
      },
    },
    guarded(lease: Lease) {
      const guard = <A extends unknown[], R>(write: (...args: A) => Promise<R>) => {
        return async (...args: A): Promise<R> => {
          if (lease.fence !== held.fence) throw new StatusError('ABORTED', 'the lease is somebody else by now')
          return write(...args)
        }
      }
      return {
        bundles: { ...store.bundles, append: guard(store.bundles.append), change: guard(store.bundles.change) },
        journals: { ...store.journals, save: guard(store.journals.save) },
        keys: { ...keys, save: guard(keys.save) },
      }
    },
  }
}
