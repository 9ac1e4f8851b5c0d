import type { Change, ChangeLog } from '../../core/store.ts'
import { type Database, readHead } from '../database.ts'

/** The change log, read side; writes append to it through `Database.write`. */
export function changeLog(database: Database): ChangeLog {
  return {
    head: () => readHead(database.run),

    async since(sequence, limit) {
      const rows = await database.run({
        sql: 'SELECT sequence, kind, key FROM changes WHERE sequence > ?1 ORDER BY sequence LIMIT ?2',
        args: [sequence, limit],
      })
      return rows.map((row) => ({
        sequence: Number(row.sequence),
        kind: row.kind as Change['kind'],
        key: row.key as string,
      }))
    },

    subscribe: (listener) => database.subscribe(listener),

    async prune(keepAfter) {
      // The newest row stays: the next number is counted from it.
      const sql = 'DELETE FROM changes WHERE created_at < ?1 AND sequence < (SELECT max(sequence) FROM changes)'
      await database.write(async () => ({
        statements: [{ sql, args: [keepAfter] }],
        changes: [],
        result: undefined,
      }))
    },
  }
}
