import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { getPlatformProxy } from 'wrangler'
import { sharedAuthoritiesSuite } from '../../test/contract/shared-authorities.ts'
import { storeSuite } from '../../test/contract/store.ts'
import { silentLog } from '../core/log.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { type D1Binding, openD1Store } from './d1.ts'

/** As many databases as there are tests, and some. */
const DATABASES = 80
const folder = mkdtempSync(join(tmpdir(), 'turret-d1-'))
let platform: Awaited<ReturnType<typeof getPlatformProxy<Record<string, D1Binding>>>>
let taken = 0

beforeAll(async () => {
  const configPath = join(folder, 'wrangler.json')
  const d1_databases = Array.from({ length: DATABASES }, (_, index) => ({
    binding: `DB${index}`,
    database_name: `d${index}`,
    database_id: `d${index}`,
  }))
  writeFileSync(configPath, JSON.stringify({ name: 't', compatibility_date: '2026-11-01', d1_databases }))
  platform = await getPlatformProxy<Record<string, D1Binding>>({ configPath, persist: false })
}, 60_000)
afterAll(async () => {
  await platform?.dispose()
  rmSync(folder, { recursive: true, force: true })
})

/** An empty database of workerd. */
function database(): D1Binding {
  const binding = platform.env[`DB${taken}`]
  taken += 1
  if (!binding) throw new Error(`there are more than ${DATABASES} tests`)
  return binding
}

const open = (binding = database()) => openD1Store({ binding, log: silentLog })

storeSuite(() => open())
sharedAuthoritiesSuite(async () => {
  const binding = database()
  return () => open(binding)
})

const TD = parseTrustDomainName('example.org')
const key = (keyId: string) => ({ keyId, publicKey: Uint8Array.of(1), expiresAt: 0, tainted: false })

test('two isolates that write at once do not lose writes', async () => {
  const binding = database()
  const [one, two] = [await open(binding), await open(binding)]
  for (const round of [1, 2, 3]) {
    await Promise.all([
      one.bundles.append({ trustDomain: TD, jwtAuthorities: [key(`a${round}`)] }),
      two.bundles.append({ trustDomain: TD, jwtAuthorities: [key(`b${round}`)] }),
    ])
  }
  expect((await one.bundles.get(TD))!.jwtAuthorities).toHaveLength(6)
})

test('two isolates that start at once both find the schema', async () => {
  const binding = database()
  const stores = await Promise.all([1, 2, 3].map(() => open(binding)))
  for (const store of stores) expect(await store.keys.list()).toEqual([])
})

test('an error in the middle of a batch leaves nothing behind', async () => {
  const binding = database()
  const store = await open(binding)
  let failing = true
  const other = await open({
    prepare: (sql) => binding.prepare(sql),
    batch: (statements) => {
      const bad = binding.prepare('INSERT INTO no_table VALUES (1)')
      return binding.batch(failing ? [...statements.slice(0, 1), bad] : statements)
    },
  })
  const write = () => other.bundles.append({ trustDomain: TD, jwtAuthorities: [key('a')] })
  await expect(write()).rejects.toMatchObject({ code: 'UNKNOWN', message: 'datastore-sql: no such table: no_table' })
  expect(await store.changes.head()).toBe(0)
  expect(await store.bundles.get(TD)).toBeUndefined()
  failing = false
  await write()
  expect((await store.bundles.get(TD))!.jwtAuthorities).toHaveLength(1)
})
