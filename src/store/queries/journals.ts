import type { JournalStore } from '../../core/store.ts'
import { bytesOf, type Database, recordNotFound } from '../database.ts'

/** CA journals, one row a server. */
export function journalStore(database: Database): JournalStore {
  return {
    async list() {
      const rows = await database.run({
        sql: 'SELECT id, data, active_x509_authority_id FROM ca_journals ORDER BY id',
        args: [],
      })
      return rows.map((row) => ({
        id: Number(row.id),
        activeX509AuthorityId: row.active_x509_authority_id as string,
        data: bytesOf(row.data),
      }))
    },

    save: ({ id, activeX509AuthorityId, data }) =>
      database.write(async (run) => {
        if (id === 0) {
          const [row] = await run({ sql: 'SELECT coalesce(max(id), 0) + 1 AS id FROM ca_journals', args: [] })
          const fresh = Number(row!.id)
          const sql = 'INSERT INTO ca_journals (id, data, active_x509_authority_id) VALUES (?1, ?2, ?3)'
          return { statements: [{ sql, args: [fresh, data, activeX509AuthorityId] }], changes: [], result: fresh }
        }
        const [row] = await run({ sql: 'SELECT id FROM ca_journals WHERE id = ?1', args: [id] })
        if (!row) throw recordNotFound()
        const sql = 'UPDATE ca_journals SET data = ?1, active_x509_authority_id = ?2 WHERE id = ?3'
        return { statements: [{ sql, args: [data, activeX509AuthorityId, id] }], changes: [], result: id }
      }),

    delete: (id) =>
      database.write(async () => ({
        statements: [{ sql: 'DELETE FROM ca_journals WHERE id = ?1', args: [id] }],
        changes: [],
        result: undefined,
      })),
  }
}
