import { createClient } from '@libsql/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sharedStoreSuite } from '../../test/contract/shared-store.ts'
import { storeSuite } from '../../test/contract/store.ts'
import { hasSqld, type Sqld, startSqld } from '../../test/support/sqld/sqld.ts'
import { silentLog } from '../core/log.ts'
import { openLibsqlHttpStore } from './libsql-http.ts'

if (!hasSqld) console.warn('sqld cannot be had here: its tests are skipped')

describe.skipIf(!hasSqld)('on a libsql server', () => {
  let server: Sqld

  beforeAll(async () => {
    server = await startSqld()
  }, 120_000)
  afterAll(() => server?.stop())

  /** Empties the one database of the server. */
  async function clean(): Promise<void> {
    const client = createClient({ url: server.url })
    const { rows } = await client.execute(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    )
    const drop = rows.map((row) => `DROP TABLE IF EXISTS "${String(row.name)}"`)
    await client.migrate(drop.length === 0 ? ['SELECT 1'] : drop)
    client.close()
  }

  const open = () => openLibsqlHttpStore({ url: server.url, log: silentLog })

  storeSuite(async () => {
    await clean()
    return open()
  })
  sharedStoreSuite(async () => {
    await clean()
    return [await open(), await open()]
  })

  test('a server that is not there is an error, without the token', async () => {
    const options = { url: 'http://127.0.0.1:1', authToken: 'very-secret', log: silentLog }
    const error = await openLibsqlHttpStore(options).catch((thrown) => thrown)
    expect(error.message).toMatch(/^failed to open database "http:\/\/127\.0\.0\.1:1": /)
    expect(error.message).not.toContain('very-secret')
  })
})

test.each([
  '',
  'postgres://me:very-secret@db/d',
  'http://[very-secret',
  'http://me:very-secret@127.0.0.1:1/?authToken=very-secret',
])('an error about the URL %j shows no more than its host', async (url) => {
  const error = await openLibsqlHttpStore({ url, log: silentLog }).catch((thrown) => thrown)
  expect(error.message).toMatch(/^failed to open database/)
  expect(error.message).not.toContain('very-secret')
})
