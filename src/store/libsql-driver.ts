import type { Client } from '@libsql/client'
import { databaseError, type Row, type SqlDriver } from './database.ts'

/** A libsql client as a driver. @param close what closing means beside closing the client */
export function libsqlDriver(client: Client, close: () => Promise<void> = async () => {}): SqlDriver {
  return {
    async run({ sql, args }) {
      try {
        return (await client.execute({ sql, args: [...args] })).rows as unknown as readonly Row[]
      } catch (error) {
        throw databaseError(error)
      }
    },
    async batch(statements) {
      try {
        const batch = statements.map(({ sql, args }) => ({ sql, args: [...args] }))
        return (await client.batch(batch, 'write')).map((result) => result.rows as unknown as readonly Row[])
      } catch (error) {
        throw databaseError(error)
      }
    },
    async close() {
      await close()
      client.close()
    },
  }
}
