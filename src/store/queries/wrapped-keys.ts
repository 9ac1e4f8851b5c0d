import type { KeyType } from '../../core/key-type.ts'
import type { WrappedKey, WrappedKeyStore } from '../../core/store.ts'
import { bytesOf, type Database, type Row } from '../database.ts'

const SELECT = 'SELECT id, key_type, public_key, wrapped, kek_version FROM wrapped_keys'
const UPSERT = `INSERT INTO wrapped_keys (id, key_type, public_key, wrapped, kek_version) VALUES (?1, ?2, ?3, ?4, ?5)
  ON CONFLICT (id) DO UPDATE SET key_type = excluded.key_type, public_key = excluded.public_key,
  wrapped = excluded.wrapped, kek_version = excluded.kek_version`

/** Wrapped private keys; what opens them is not here. */
export function wrappedKeyStore(database: Database): WrappedKeyStore {
  return {
    async get(id) {
      const [row] = await database.run({ sql: `${SELECT} WHERE id = ?1`, args: [id] })
      return row && decode(row)
    },

    async list() {
      return (await database.run({ sql: `${SELECT} ORDER BY id`, args: [] })).map(decode)
    },

    save: ({ id, keyType, publicKey, wrapped, kekVersion }) =>
      database.write(async () => ({
        statements: [{ sql: UPSERT, args: [id, keyType, publicKey, wrapped, kekVersion] }],
        changes: [],
        result: undefined,
      })),

    delete: (id) =>
      database.write(async () => ({
        statements: [{ sql: 'DELETE FROM wrapped_keys WHERE id = ?1', args: [id] }],
        changes: [],
        result: undefined,
      })),
  }
}

function decode(row: Row): WrappedKey {
  return {
    id: row.id as string,
    keyType: row.key_type as KeyType,
    publicKey: bytesOf(row.public_key),
    wrapped: bytesOf(row.wrapped),
    kekVersion: row.kek_version as string,
  }
}
