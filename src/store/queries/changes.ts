import type { ChangeLog } from '../../core/store.ts'
import { type Database, readChanges, readHead } from '../database.ts'

/** The change log, read side; writes append to it through `Database.write`. */
export function changeLog(database: Database): ChangeLog {
  return {
    head: () => readHead(database.run),

    since: (sequence, limit) => readChanges(database.run, sequence, limit),
    subscribe: (listener, reload) => database.subscribe(listener, reload),
    catchUp: () => database.catchUp(),

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
