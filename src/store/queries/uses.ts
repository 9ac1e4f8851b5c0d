import { StatusError } from '../../core/error.ts'
import type { UseStore } from '../../core/store.ts'
import type { Database } from '../database.ts'

const MAX_KEY_LENGTH = 512
const TAKE = `INSERT INTO uses (key, expires_at) VALUES (?1, ?2)
  ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at WHERE uses.expires_at <= ?3 RETURNING key`

/** Marks of what may happen once. */
export function useStore(database: Database): UseStore {
  return {
    async take(key, expiresAt, now) {
      if (key.length > MAX_KEY_LENGTH) throw new StatusError('INVALID_ARGUMENT', 'the key of a use is too long')
      return database.write(async (run) => {
        const rows = await run({ sql: TAKE, args: [key, expiresAt, now] })
        return { statements: [], changes: [], result: rows.length > 0 }
      })
    },

    prune: (now) =>
      database.write(async () => ({
        statements: [{ sql: 'DELETE FROM uses WHERE expires_at <= ?1', args: [now] }],
        changes: [],
        result: undefined,
      })),
  }
}
