import type { KeyManager } from '../../core/plugin.ts'

/** Never the name of a wrapped key. */
const NO_KEY = ''

/**
 * Says of a manager whose keys lie in a service that several servers use them under one name. No lease reaches into the service;
 * what can be done is to see that it is still held right before a key is made. Should it end in the instant between, the
 * journal and the key no longer fit, and whoever rotates next makes that authority anew.
 * @param scope names the service and the name in it: servers of the same scope take turns
 */
export function sharedByName(manager: KeyManager, scope: string): KeyManager {
  return {
    ...manager,
    shared: {
      scope,
      needsRewrap: false,
      rewrap: async () => {},
      through: (keys) => ({
        ...manager,
        async generateKey(id, type) {
          // Deletes nothing, and fails without the lease.
          await keys.delete(NO_KEY)
          return manager.generateKey(id, type)
        },
      }),
    },
  }
}
