import type { JournalStore } from '../../core/store.ts'
import { type Database, recordNotFound } from '../database.ts'

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
        const statement =
          id === 0
            ? {
                sql: 'INSERT INTO ca_journals (data, active_x509_authority_id) VALUES (?1, ?2)',
                args: [data, activeX509AuthorityId],
              }
            : {
                sql: 'UPDATE ca_journals SET data = ?1, active_x509_authority_id = ?2 WHERE id = ?3',
                args: [data, activeX509AuthorityId, id],
              }
        const [row] = await run({ ...statement, sql: `${statement.sql} RETURNING id` })
        if (!row) throw recordNotFound()
        return { statements: [], changes: [], result: Number(row.id) }
      }),

    delete: (id) =>
      database.write(async () => ({
        statements: [{ sql: 'DELETE FROM ca_journals WHERE id = ?1', args: [id] }],
        changes: [],
        result: undefined,
      })),
  }
}

/** Drivers return ArrayBuffer or Buffer. */
function bytesOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  return new Uint8Array(value as ArrayBuffer)
}
