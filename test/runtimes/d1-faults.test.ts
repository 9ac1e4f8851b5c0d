import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { getPlatformProxy } from 'wrangler'
import { parseBundleDocument } from '../../src/core/bundle-document.ts'
import { type D1Binding, openD1Store } from '../../src/store/d1.ts'
import { optionsFrom } from '../../workers/environment.ts'
import { turret } from '../../workers/turret.ts'
import { attestByToken, createEntry, KEK, type Place, seed, TRUST_DOMAIN } from '../support/edge.ts'
import { HOST_VARIABLES } from '../support/host.ts'

// The whole server on workerd's D1, whose batches break in the middle.

const DATABASES = 32
const folder = mkdtempSync(join(tmpdir(), 'turret-d1-faults-'))
let platform: Awaited<ReturnType<typeof getPlatformProxy<Record<string, D1Binding>>>>

beforeAll(async () => {
  process.env.CLOUDFLARE_CF_FETCH_ENABLED ??= 'false'
  const configPath = join(folder, 'wrangler.json')
  const d1_databases = Array.from({ length: DATABASES }, (_, index) => `DB${index}`).map((binding) => ({
    binding,
    database_name: binding,
    database_id: binding,
  }))
  writeFileSync(configPath, JSON.stringify({ name: 't', compatibility_date: '2026-11-01', d1_databases }))
  platform = await getPlatformProxy<Record<string, D1Binding>>({ configPath, persist: false })
}, 60_000)
afterAll(async () => {
  await platform?.dispose()
  rmSync(folder, { recursive: true, force: true })
})

/** A server on a database whose batches fail after their first statement whenever `fails` says so. */
function serverOn(binding: D1Binding, fails: () => boolean) {
  const clock = { ms: Date.now(), nowMs: () => clock.ms }
  const lines: string[] = []
  const log = {
    debug: () => {},
    info: () => {},
    warn: (message: string, fields?: object) => void lines.push(`${message} ${JSON.stringify(fields)}`),
    error: (message: string, fields?: object) => void lines.push(`${message} ${JSON.stringify(fields)}`),
    child: () => log,
    debugEnabled: false,
  }
  const breaking: D1Binding = {
    prepare: (sql) => binding.prepare(sql),
    batch: (statements) =>
      binding.batch(
        fails() ? [...statements.slice(0, 1), binding.prepare('INSERT INTO no_table VALUES (1)')] : statements,
      ),
  }
  const server = turret({
    ...optionsFrom(HOST_VARIABLES),
    store: (storeLog) => openD1Store({ binding: breaking, log: storeLog, clock }),
    log,
    clock,
  })
  /** Answers once what goes on behind the answer has ended, too. */
  const get = async (path: string) => {
    const behind: Promise<unknown>[] = []
    const waitUntil = (work: Promise<unknown>) => void behind.push(work)
    const response = await server.fetch(new Request(`https://id.example.org${path}`), { waitUntil })
    await Promise.all(behind)
    return response
  }
  return { server, clock, lines, get }
}

test('a first start that breaks anywhere is taken up again, and ends with one authority of each kind', async () => {
  let broken = 0
  for (const binding of Object.values(platform.env).slice(1)) {
    // The first of these databases breaks the first batch, the second one the second, and so on.
    const breaksAt = broken + 1
    let batches = 0
    const { clock, get, lines } = serverOn(binding, () => {
      batches += 1
      return batches === breaksAt
    })
    const first = await get('/')
    clock.ms += 60_000
    const response = first.ok ? first : await get('/')
    expect(`${response.status} when batch ${breaksAt} broke`).toBe(`200 when batch ${breaksAt} broke`)
    const bundle = parseBundleDocument(TRUST_DOMAIN, await response.text())
    expect(bundle.jwtAuthorities).toHaveLength(1)
    expect(bundle.x509Authorities).toHaveLength(1)
    expect(lines.join('\n')).not.toContain(KEK)
    if (batches < breaksAt) break
    expect(lines.join('\n')).toContain('no such table: no_table')
    broken += 1
  }
  // Migrations, keys, journal and bundle for each kind of authority.
  expect(broken).toBeGreaterThan(8)
  expect(broken).toBeLessThan(DATABASES - 1)
}, 60_000)

test('a write that breaks is an error without its text for strangers, writes nothing, and works the next time', async () => {
  let failing = false
  const { server, lines } = serverOn(platform.env.DB0!, () => failing)
  const seeds = await seed(server)
  const { deps } = await server.server()
  const place: Place = { url: 'https://id.example.org', roots: seeds.roots, fetch: server.fetch as typeof fetch }
  const agent = await attestByToken(place, seeds.tokens.pop()!)

  failing = true
  const head = await deps.store.changes.head()
  await expect(createEntry(place, seeds.admin, agent.id, '/web')).rejects.toThrow()
  await expect(attestByToken(place, seeds.tokens.pop()!)).rejects.toMatchObject({ code: 'INTERNAL' })
  expect(await deps.store.changes.head()).toBe(head)
  expect(await deps.store.entries.count({})).toBe(0)
  expect(await deps.store.nodes.count({})).toBe(1)

  failing = false
  await createEntry(place, seeds.admin, agent.id, '/web')
  expect(await deps.store.entries.count({})).toBe(1)
  const text = lines.join('\n')
  expect(text).toContain('no such table: no_table')
  for (const secret of [KEK, ...seeds.tokens]) expect(text).not.toContain(secret)
})
