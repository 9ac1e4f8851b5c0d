import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { unstable_startWorker } from 'wrangler'
import { havePostgres, PostgresServer } from '../support/postgres/postgres.ts'

if (!havePostgres) console.warn('PostgreSQL is not installed: its tests are skipped')

describe.skipIf(!havePostgres)('a store on PostgreSQL inside workerd', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-pg-worker-'))
  let database: PostgresServer
  let worker: Awaited<ReturnType<typeof unstable_startWorker>>

  beforeAll(async () => {
    database = await PostgresServer.start()
    const config = join(folder, 'wrangler.json')
    const settings = {
      name: 'postgres',
      main: resolve(import.meta.dirname, 'postgres-worker.ts'),
      compatibility_date: '2026-11-01',
      compatibility_flags: ['nodejs_compat'],
      vars: { CONNECTION: database.connection() },
    }
    writeFileSync(config, JSON.stringify(settings))
    const server = { hostname: '127.0.0.1', port: 0 }
    const dev = { server, inspector: false, logLevel: 'error', watch: false, persist: false } as const
    worker = await unstable_startWorker({ config, dev })
  }, 60_000)
  afterAll(async () => {
    await worker?.dispose()
    await database?.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  test('is good for one request after the other, and for several at once', async () => {
    const ask = async (keyId: string) => (await fetch(new URL(`/${keyId}`, await worker.url))).json()
    expect(await ask('a')).toEqual({ keys: [['a', [1, 2, 255]]], sequenceNumber: 0, entries: 0, fence: 1 })
    expect(await ask('b')).toMatchObject({ sequenceNumber: 1 })
    await Promise.all(['c', 'd', 'e'].map(ask))
    expect(await ask('a')).toMatchObject({ keys: { length: 5 }, sequenceNumber: 4, fence: 2 })
  })
})
