import { StatusError } from '../../core/error.ts'
import type { Lease, LeaseStore } from '../../core/store.ts'
import type { Database } from '../database.ts'

const TAKE = `INSERT INTO leases (name, owner, expires_at, fence) VALUES (?1, ?2, ?3, 1)
  ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, fence = leases.fence + 1
  WHERE leases.owner = excluded.owner OR leases.expires_at <= ?4 RETURNING fence`
const RELEASE = 'UPDATE leases SET expires_at = 0 WHERE name = ?1 AND owner = ?2 AND fence = ?3'
/** A row without fence, which the table refuses, wherever the lease is not held as it should be. */
const HELD = `INSERT INTO leases (name, owner, expires_at, fence) SELECT ?1, ?2, 0, NULL
  WHERE NOT EXISTS (SELECT 1 FROM leases WHERE name = ?1 AND owner = ?2 AND fence = ?3 /* held until the end of the batch */)`
const NOT_HELD = 'NOT NULL constraint failed: leases.fence'

/** Leases, one row a name for ever: its fence only grows. */
export function leaseStore(database: Database): LeaseStore {
  return {
    take: (name, owner, now, seconds) =>
      database.write(async (run) => {
        const [row] = await run({ sql: TAKE, args: [name, owner, now + seconds, now] })
        const lease = row && { name, owner, fence: Number(row.fence) }
        return { statements: [], changes: [], result: lease }
      }),

    release: ({ name, owner, fence }) =>
      database.write(async () => ({
        statements: [{ sql: RELEASE, args: [name, owner, fence] }],
        changes: [],
        result: undefined,
      })),
  }
}

/** A database whose writes fail as a whole once the lease is somebody else's, or taken again. */
export function guardedByLease(database: Database, { name, owner, fence }: Lease): Database {
  return database.guarded({ sql: HELD, args: [name, owner, fence] }, (error) =>
    error.message.includes(NOT_HELD)
      ? new StatusError('ABORTED', `the lease ${JSON.stringify(name)} is held by another server by now`, {
          cause: error,
        })
      : undefined,
  )
}
