import type { JoinTokenStore } from '../../core/store.ts'
import type { Database } from '../database.ts'

/** Join tokens: rows that are gone once they were shown. */
export function joinTokenStore(database: Database): JoinTokenStore {
  return {
    create: ({ value, expiresAt }) =>
      database.write(async () => ({
        statements: [{ sql: 'INSERT INTO join_tokens (token, expiry) VALUES (?1, ?2)', args: [value, expiresAt] }],
        changes: [],
        result: undefined,
      })),

    async startingWith(text, atMost) {
      const sql = 'SELECT token FROM join_tokens WHERE substr(token, 1, length(?1)) = ?1 LIMIT ?2'
      return (await database.run({ sql, args: [text, atMost] })).map(({ token }) => token as string)
    },

    async consume(value) {
      const sql = 'DELETE FROM join_tokens WHERE token = ?1 RETURNING expiry'
      // Inside the write queue, though one statement: a batch of another write must not wrap around it.
      const row = await database.write(async (run) => {
        const [taken] = await run({ sql, args: [value] })
        return { statements: [], changes: [], result: taken }
      })
      return row && { value, expiresAt: Number(row.expiry) }
    },

    prune: (endedBefore) =>
      database.write(async () => ({
        statements: [{ sql: 'DELETE FROM join_tokens WHERE expiry < ?1', args: [endedBefore] }],
        changes: [],
        result: undefined,
      })),
  }
}
