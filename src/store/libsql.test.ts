import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { createClient } from '@libsql/client'
import { afterAll, describe, expect, test } from 'vitest'
import { sharedStoreSuite } from '../../test/contract/shared-store.ts'
import { storeSuite } from '../../test/contract/store.ts'
import { silentLog } from '../core/log.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { openLibsqlStore } from './libsql.ts'

const opened: Awaited<ReturnType<typeof openLibsqlStore>>[] = []
afterAll(() => Promise.all(opened.map((store) => store.close())))

const newPath = () => join(mkdtempSync(join(tmpdir(), 'turret-store-')), 'd.sqlite3')
async function open(path?: string) {
  const store = await openLibsqlStore({ ...(path === undefined ? {} : { path }), log: silentLog })
  opened.push(store)
  return store
}

describe('in memory', () => storeSuite(() => open()))
describe('in a file', () => storeSuite(() => open(newPath())))
describe('two on one file', () =>
  sharedStoreSuite(async () => {
    const path = newPath()
    return [await open(path), await open(path)]
  }))

const TD = parseTrustDomainName('example.org')

test('what was written is there after a restart, for its owner only', async () => {
  const path = newPath()
  const first = await open(path)
  await first.joinTokens.create({ value: 't', expiresAt: 5 })
  await first.bundles.append({ trustDomain: TD, jwtAuthorities: [] })
  await first.close()
  opened.pop()
  expect(statSync(path).mode & 0o777).toBe(0o600)
  const second = await open(path)
  expect(await second.joinTokens.consume('t')).toEqual({ value: 't', expiresAt: 5 })
})

test('replicas that open a new file at the same time all find it ready', async () => {
  const path = newPath()
  const stores = await Promise.all([open(path), open(path), open(path)])
  await stores[0]!.joinTokens.create({ value: 't', expiresAt: 5 })
  expect(await stores[2]!.joinTokens.consume('t')).toEqual({ value: 't', expiresAt: 5 })
})

test('two processes that write one file do not lose writes', async () => {
  const path = newPath()
  const [one, two] = [await open(path), await open(path)]
  const key = (keyId: string) => ({ keyId, publicKey: new Uint8Array([1]), expiresAt: 0, tainted: false })
  for (let round = 0; round < 5; round += 1) {
    await Promise.all([
      one.bundles.append({ trustDomain: TD, jwtAuthorities: [key(`a${round}`)] }),
      two.bundles.append({ trustDomain: TD, jwtAuthorities: [key(`b${round}`)] }),
    ])
  }
  expect((await one.bundles.get(TD))!.jwtAuthorities).toHaveLength(10)
})

async function foreignDatabase(path: string): Promise<void> {
  const client = createClient({ url: pathToFileURL(path).href })
  await client.execute('CREATE TABLE migrations (version INTEGER)')
  client.close()
}

test.each<[string, (path: string) => void | Promise<void>, string]>([
  ['a folder', (path) => mkdirSync(path), 'failed to open database'],
  ['a file that is no database', (path) => writeFileSync(path, 'x'.repeat(5000)), 'file is not a database'],
  ['a database of another program', foreignDatabase, 'database of another program'],
])('%s is refused and left as it is', async (_, make, message) => {
  const path = newPath()
  await make(path)
  const before = statSync(path).isFile() ? readFileSync(path) : undefined
  await expect(open(path)).rejects.toThrow(message)
  if (before) expect(readFileSync(path).equals(before)).toBe(true)
})

test('a database with broken pages is refused', async () => {
  const path = newPath()
  const store = await open(path)
  const entry = {
    trustDomain: TD,
    jwtAuthorities: Array.from({ length: 200 }, (_, index) => ({
      keyId: `k${index}`,
      publicKey: new Uint8Array(100),
      expiresAt: 0,
      tainted: false,
    })),
  }
  await store.bundles.append(entry)
  await store.close()
  opened.pop()
  const bytes = readFileSync(path)
  bytes.fill(0x5a, 4096, bytes.length)
  writeFileSync(path, bytes)
  for (const side of ['-wal', '-shm']) rmSync(`${path}${side}`, { force: true })
  await expect(open(path)).rejects.toThrow(/failed to open database .*(corrupt|malformed)/s)
})

test('a schema that is newer than this program is refused', async () => {
  const path = newPath()
  await (await open(path)).close()
  opened.pop()
  const client = createClient({ url: pathToFileURL(path).href })
  await client.execute('INSERT INTO schema_version (version) VALUES (99)')
  client.close()
  await expect(open(path)).rejects.toThrow('its schema version 99 is newer than')
})

test('a missing folder is not made', async () => {
  const path = join(mkdtempSync(join(tmpdir(), 'turret-store-')), 'none/d.sqlite3')
  await expect(open(path)).rejects.toThrow('failed to open database')
  expect(existsSync(join(path, '..'))).toBe(false)
})
