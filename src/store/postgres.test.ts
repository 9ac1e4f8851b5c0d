import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sharedAuthoritiesSuite } from '../../test/contract/shared-authorities.ts'
import { sharedStoreSuite } from '../../test/contract/shared-store.ts'
import { storeSuite } from '../../test/contract/store.ts'
import { eventually } from '../../test/support/cluster.ts'
import { havePostgres, PostgresServer } from '../../test/support/postgres/postgres.ts'
import { silentLog } from '../core/log.ts'
import type { Store } from '../core/store.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { openPostgresStore, transaction } from './postgres.ts'
import { parsePostgresConnection } from './postgres-connection.ts'

if (!havePostgres) console.warn('PostgreSQL is not installed: its tests are skipped')

describe.skipIf(!havePostgres)('on PostgreSQL', () => {
  let server: PostgresServer
  let admin: ReturnType<typeof client>
  const opened: Store[] = []

  beforeAll(async () => {
    server = await PostgresServer.start()
    admin = client()
  }, 60_000)
  afterAll(async () => {
    await Promise.all(opened.map((store) => store.close()))
    await admin?.end()
    await server?.stop()
  })

  function client(schema = 'public') {
    const pool = new pg.Pool({ ...parsePostgresConnection(server.connection(schema)), max: 2 })
    // The server ends before the last connection is closed.
    return pool.on('error', () => {}).on('connect', (one) => one.on('error', () => {}))
  }

  async function newSchema(): Promise<string> {
    const schema = server.newSchema()
    await admin.query(`CREATE SCHEMA ${schema}`)
    return schema
  }

  async function open(schema?: string, perCall = false): Promise<Store> {
    const connection = server.connection(schema ?? (await newSchema()))
    const store = await openPostgresStore({ connection, maxConnections: 3, perCall, log: silentLog })
    opened.push(store)
    return store
  }

  storeSuite(() => open())
  sharedAuthoritiesSuite(async () => {
    const schema = await newSchema()
    return () => open(schema)
  })
  describe('two on one database', () =>
    sharedStoreSuite(async () => {
      const schema = await newSchema()
      return [await open(schema), await open(schema, true)]
    }))

  const TD = parseTrustDomainName('example.org')
  const key = (keyId: string) => ({ keyId, publicKey: Uint8Array.of(1), expiresAt: 0, tainted: false })

  test('servers that start at once on an empty database all find it ready', async () => {
    const schema = await newSchema()
    const stores = await Promise.all([1, 2, 3].map(() => open(schema)))
    await stores[0]!.joinTokens.create({ value: 't', expiresAt: 5 })
    expect(await stores[2]!.joinTokens.consume('t')).toEqual({ value: 't', expiresAt: 5 })
  })

  test('servers that write at once neither lose nor reorder writes', async () => {
    const schema = await newSchema()
    const stores = await Promise.all([1, 2, 3].map(() => open(schema)))
    for (const round of [1, 2, 3, 4]) {
      await Promise.all(
        stores.map((store, index) =>
          store.bundles.append({ trustDomain: TD, jwtAuthorities: [key(`${index}.${round}`)] }),
        ),
      )
    }
    const bundle = (await stores[0]!.bundles.get(TD))!
    expect(bundle.jwtAuthorities).toHaveLength(12)
    expect(bundle.sequenceNumber).toBe(11)
    expect((await stores[1]!.changes.since(0, 100)).map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 12 }, (_, index) => index + 1),
    )
  })

  test('of many servers that write as fast as they can none is starved', async () => {
    const schema = await newSchema()
    const stores = await Promise.all(Array.from({ length: 6 }, (_, index) => open(schema, index === 5)))
    await Promise.all(
      stores.flatMap((store, index) =>
        Array.from({ length: 15 }, (_, number) =>
          store.bundles.append({ trustDomain: TD, jwtAuthorities: [key(`${index}.${number}`)] }),
        ),
      ),
    )
    expect((await stores[0]!.bundles.get(TD))!.jwtAuthorities).toHaveLength(90)
    expect(await stores[0]!.changes.head()).toBe(90)
  })

  test('a lease cannot be taken over while a batch that it guards is under way', async () => {
    const schema = await newSchema()
    const store = await open(schema)
    const lease = (await store.leases.take('l', 'one', 100, 30))!
    const other = client(schema)
    const connection = await other.connect()
    const held = Promise.withResolvers<void>()
    const end = Promise.withResolvers<void>()
    // A batch that stops before its end.
    const writing = transaction(
      {
        async query(...args: unknown[]) {
          if (args[0] === 'COMMIT') {
            held.resolve()
            await end.promise
          }
          return (connection.query as (...args: unknown[]) => Promise<unknown>).apply(connection, args)
        },
      } as never,
      [
        {
          sql: `SELECT 1 FROM leases WHERE name = ?1 AND fence = ?2 /* held until the end of the batch */`,
          args: [lease.name, lease.fence],
        },
        { sql: 'DELETE FROM uses', args: [] },
      ],
    )
    await held.promise
    const impatient = await openPostgresStore({
      connection: `${server.connection(schema)} lock_timeout=50`,
      log: silentLog,
    })
    opened.push(impatient)
    await expect(impatient.leases.take('l', 'two', 130, 30)).rejects.toThrow('lock timeout')
    end.resolve()
    await writing
    expect(await impatient.leases.take('l', 'two', 130, 30)).toMatchObject({ fence: 2 })
    connection.release()
    await other.end()
  })

  test('a connection that ends in the middle of a batch leaves nothing behind, and the next call has a new one', async () => {
    const schema = await newSchema()
    const store = await open(schema)
    await store.bundles.append({ trustDomain: TD, jwtAuthorities: [key('a')] })
    // The row of the bundle is held here, so that the batch stops after the row of its change.
    const other = client(schema)
    const holder = await other.connect()
    await holder.query('BEGIN')
    await holder.query('SELECT 1 FROM bundles FOR UPDATE')
    const writing = store.bundles.append({ trustDomain: TD, jwtAuthorities: [key('b')] }).catch((error) => error)
    const kill = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'`
    await eventually(async () => expect((await admin.query(kill)).rows).toHaveLength(1))
    expect(await writing).toMatchObject({ code: 'UNKNOWN', message: expect.stringContaining('datastore-sql: ') })
    await holder.query('ROLLBACK')
    holder.release()
    expect(await store.changes.head()).toBe(1)
    await store.bundles.append({ trustDomain: TD, jwtAuthorities: [key('c')] })
    expect((await store.bundles.get(TD))!.jwtAuthorities.map(({ keyId }) => keyId)).toEqual(['a', 'c'])
    await other.end()
  })

  test('a secret is in no error', async () => {
    const store = await open()
    await store.joinTokens.create({ value: 'very-secret', expiresAt: 5 })
    const error = await store.joinTokens.create({ value: 'very-secret', expiresAt: 5 }).catch((thrown) => thrown)
    expect(error).toMatchObject({
      code: 'ALREADY_EXISTS',
      message: 'datastore-sql: UNIQUE constraint failed: join_tokens.token',
    })
    expect(`${error.stack} ${JSON.stringify(error.cause, Object.getOwnPropertyNames(error.cause))}`).not.toContain(
      'very-secret',
    )
    const wrong = server.connection().replace('pass word', 'wrong-secret')
    const refused = await openPostgresStore({ connection: wrong, log: silentLog }).catch((thrown) => thrown)
    expect(refused.message).toBe(
      'failed to open database "postgres": datastore-sql: password authentication failed for user "turret"',
    )
  })

  test.each([
    [
      'a URL',
      () => `postgres://turret:${encodeURIComponent("pass word'\\")}@127.0.0.1:${server.port}/postgres?sslmode=disable`,
      undefined,
    ],
    [
      'a socket',
      () => server.connection().replace('host=127.0.0.1', `host=${server.folder}`).replace('sslmode=disable', ''),
      undefined,
    ],
    [
      'TLS, which this server does not have',
      () => server.connection().replace('sslmode=disable', ''),
      /SSL|ssl|TLS|disconnected|closed/,
    ],
    [
      'a database that is not there',
      () => server.connection().replace('dbname=postgres', 'dbname=none'),
      'database "none" does not exist',
    ],
  ])('a connection by %s', async (_, connection, refusal) => {
    const opening = openPostgresStore({ connection: connection(), log: silentLog })
    if (refusal !== undefined) return void (await expect(opening).rejects.toThrow(refusal))
    opened.push(await opening)
  })

  test('a database with tables of another program is refused and left as it is', async () => {
    const schema = await newSchema()
    await admin.query(`CREATE TABLE ${schema}.bundles (id integer)`)
    await expect(open(schema)).rejects.toThrow('relation "bundles" already exists')
    const tables = await admin.query(`SELECT tablename FROM pg_tables WHERE schemaname = '${schema}'`)
    expect(tables.rows.map((row) => row.tablename)).toEqual(['bundles'])
  })
})
