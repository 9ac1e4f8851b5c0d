import { customType, index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'

/** Bytes come back as Buffer from some drivers; everybody gets a plain view. */
const bytes = customType<{ data: Uint8Array; driverData: Uint8Array }>({
  dataType: () => 'blob',
  fromDriver: (value) => new Uint8Array(value.buffer, value.byteOffset, value.byteLength),
})

/** Column kit of SQLite, libsql and D1. */
export const sqlite = {
  table: sqliteTable,
  /** Row number, never used again after a delete: tokens of pages rely on it. */
  rowId: (name: string) => integer(name).primaryKey({ autoIncrement: true }),
  text: (name: string) => text(name),
  integer: (name: string) => integer(name),
  boolean: (name: string) => integer(name, { mode: 'boolean' }),
  json: (name: string) => text(name),
  bytes: (name: string) => bytes(name),
  index,
  uniqueIndex,
  primaryKey,
}
