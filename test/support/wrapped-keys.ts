import type { WrappedKey, WrappedKeyStore } from '../../src/core/store.ts'

/** Wrapped keys in memory, shared by whoever holds it. */
export function memoryWrappedKeys(): WrappedKeyStore & { readonly rows: Map<string, WrappedKey> } {
  const rows = new Map<string, WrappedKey>()
  return {
    rows,
    get: async (id) => rows.get(id),
    list: async () => [...rows.values()],
    async save(key) {
      rows.set(key.id, key)
    },
    async delete(id) {
      rows.delete(id)
    },
  }
}
