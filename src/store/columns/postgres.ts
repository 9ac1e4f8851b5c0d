import { bigint, customType, index, pgTable, primaryKey, smallint, text, uniqueIndex } from 'drizzle-orm/pg-core'
import type { ColumnKit } from '../schema.ts'

const bytes = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => 'bytea' })

/** Column kit of PostgreSQL. Truth is 0 or 1 and JSON is text, as in SQLite, so that queries and their answers are the same. */
export const postgres = {
  table: pgTable,
  /** Row number, never used again after a delete: tokens of pages rely on it. */
  rowId: (name: string) => bigint(name, { mode: 'number' }).generatedByDefaultAsIdentity().primaryKey(),
  text: (name: string) => text(name),
  integer: (name: string) => bigint(name, { mode: 'number' }),
  boolean: (name: string) => smallint(name),
  json: (name: string) => text(name),
  bytes: (name: string) => bytes(name),
  index,
  uniqueIndex,
  primaryKey,
} as unknown as ColumnKit
