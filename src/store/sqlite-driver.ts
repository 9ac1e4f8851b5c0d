import type Database from 'libsql'
import { databaseError, type Row, type SqlDriver, type Statement } from './database.ts'

/** More than the store has texts; those of listings with filters differ without end. */
const KEPT_STATEMENTS = 256

interface Prepared {
  readonly statement: Database.Statement
  /** Names of what it returns; undefined if it only writes. */
  readonly columns: readonly string[] | undefined
}

/**
 * A connection to a database file, or to one in memory, as a driver. Statements are prepared once: SQLite reads a text in twice the time in
 * which it then finds a row. Everything happens in one turn, so that nothing comes between the statements of a batch.
 * @param beforeClose what is done as the last thing on the connection
 */
export function sqliteDriver(database: Database.Database, beforeClose: () => void = () => {}): SqlDriver {
  const kept = new Map<string, Prepared>()

  function prepare(sql: string): Prepared {
    const known = kept.get(sql)
    const prepared = known ?? prepareAnew(database, sql)
    if (known) kept.delete(sql)
    kept.set(sql, prepared)
    if (kept.size > KEPT_STATEMENTS) kept.delete(kept.keys().next().value!)
    return prepared
  }

  function execute({ sql, args }: Statement): readonly Row[] {
    // A statement of a closed connection would end the process.
    if (!database.open) throw new Error('the database is closed')
    const { statement, columns } = prepare(sql)
    if (columns) return statement.all(args).map((values) => rowOf(columns, values as readonly unknown[]))
    statement.run(args)
    return []
  }

  return {
    async run(statement) {
      try {
        return execute(statement)
      } catch (error) {
        throw databaseError(error)
      }
    },
    async batch(statements) {
      try {
        execute(BEGIN)
        try {
          const results = statements.map(execute)
          execute(COMMIT)
          return results
        } finally {
          // Some failures roll back by themselves.
          if (database.inTransaction) execute(ROLLBACK)
        }
      } catch (error) {
        throw databaseError(error)
      }
    },
    async close() {
      if (!database.open) return
      beforeClose()
      kept.clear()
      database.close()
    },
  }
}

const BEGIN: Statement = { sql: 'BEGIN IMMEDIATE', args: [] }
const COMMIT: Statement = { sql: 'COMMIT', args: [] }
const ROLLBACK: Statement = { sql: 'ROLLBACK', args: [] }

function prepareAnew(database: Database.Database, sql: string): Prepared {
  const statement = database.prepare(sql)
  try {
    statement.raw(true)
  } catch {
    // It says so of what returns nothing.
    return { statement, columns: undefined }
  }
  return { statement, columns: statement.columns().map(({ name }) => name) }
}

function rowOf(columns: readonly string[], values: readonly unknown[]): Row {
  const row: Record<string, unknown> = {}
  for (let index = 0; index < columns.length; index++) row[columns[index]!] = values[index]
  return row
}
