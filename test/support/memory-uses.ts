import type { UseStore } from '../../src/core/store.ts'

/** One-time uses without a database. Uses that ended are forgotten as new ones come. */
export function memoryUses(): UseStore {
  const ends = new Map<string, number>()
  let nextSweep = 0
  const sweep = (now: number) => {
    for (const [key, end] of ends) if (end < now) ends.delete(key)
  }
  return {
    async take(key, expiresAt, now) {
      if (now >= nextSweep) {
        sweep(now)
        nextSweep = now + 10
      }
      if ((ends.get(key) ?? Number.NEGATIVE_INFINITY) >= now) return false
      ends.set(key, expiresAt)
      return true
    },
    prune: async (now) => sweep(now),
  }
}
