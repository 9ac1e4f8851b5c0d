import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLocalJWKSet, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { spiffeId } from '../../src/core/spiffe-id.ts'
import { Cluster, spiffe } from '../support/cluster.ts'
import { TRUST_DOMAIN } from '../support/edge.ts'
import { PLAIN_ENTRY } from '../support/entry.ts'
import { type PlatformIssuer, platformIssuer } from '../support/platform-issuer.ts'
import { PLATFORM_TOKENS } from '../support/platform-tokens.ts'
import { programOf, type Runtime, skipNote } from '../support/runtimes.ts'
import { besideWorker, startWorker } from '../support/worker.ts'

// Tokens of platforms for SVIDs on each runtime: it fetches keys, verifies, and marks what was used in its own store. Node has test/e2e/exchange.test.ts.

const GITHUB = PLATFORM_TOKENS.find(({ type }) => type === 'github_actions')!
const SELECTOR = { type: 'github_actions', value: 'repository_id:74' }

let issuer: PlatformIssuer
beforeAll(async () => {
  issuer = await platformIssuer()
})
afterAll(() => issuer.stop())

interface Started {
  readonly url: string
  stop(): Promise<void>
}

/** A server with a source `ci` and an entry for it. */
async function fullServer(runtime: Runtime): Promise<Started> {
  const cluster = new Cluster({ TURRET_RUNTIME: runtime })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const source = `type = "github_actions" issuer = "${issuer.url}" audience = "turret" allow { repository_owner_id = ["65"] }`
  const files = await cluster.serverFiles('server', {
    server: `experimental { http { bind_port = ${port} audiences = ["${url}"] exchange { "ci" { ${source} } } } }`,
  })
  await cluster.startServer(files)
  const ids = ['-parentID', spiffe('spire/exchange/ci'), '-spiffeID', spiffe('ci')]
  await cluster.must(files, 'entry', 'create', ...ids, '-selector', `${SELECTOR.type}:${SELECTOR.value}`)
  return { url, stop: () => cluster.stop() }
}

async function workerdServer(): Promise<Started> {
  const folder = mkdtempSync(join(tmpdir(), 'turret-exchange-'))
  await besideWorker(folder, async (turret) => {
    const { deps } = await turret.server()
    const entry = {
      id: '',
      spiffeId: spiffeId(TRUST_DOMAIN, '/ci'),
      parentId: spiffeId(TRUST_DOMAIN, '/spire/exchange/ci'),
      selectors: [SELECTOR],
      ...PLAIN_ENTRY,
    }
    await deps.store.entries.create([entry], 0)
  })
  const source = { name: 'ci', type: 'github_actions', issuer: issuer.url, audience: 'turret' }
  const EXCHANGE = JSON.stringify([{ ...source, allow: { repository_owner_id: ['65'] } }])
  const worker = await startWorker(folder, { EXCHANGE })
  return {
    url: worker.url,
    async stop() {
      await worker.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

let count = 0
function token(header: Parameters<PlatformIssuer['sign']>[1] = {}, claims: object = {}): Promise<string> {
  const iat = Math.floor(Date.now() / 1000)
  const times = { jti: `r${count++}`, iss: issuer.url, aud: 'turret', iat, exp: iat + 300 }
  return issuer.sign({ ...GITHUB.claims, ...times, ...claims }, header)
}

async function exchange(url: string, text: string) {
  const body = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
    assertion: text,
    audience: 'db',
  })
  const response = await fetch(`${url}/v1/token`, { method: 'POST', body })
  return { status: response.status, body: (await response.json()) as Record<string, string> }
}

function suite(start: () => Promise<Started>): void {
  test('exchanges a token once, and refuses what is not good', async () => {
    const { url, stop } = await start()
    try {
      const text = await token()
      const answers = await Promise.all(Array.from({ length: 5 }, () => exchange(url, text)))
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400, 400, 400])
      const good = answers.find(({ status }) => status === 200)!
      const keys = createLocalJWKSet(await (await fetch(`${url}/keys`)).json())
      await jwtVerify(good.body.access_token!, keys, { audience: 'db', subject: spiffe('ci') })
      const second = await exchange(url, await token({ alg: 'ES256' }))
      expect(second.status).toBe(200)
      for (const [bad, reason] of [
        [text, 'used before'],
        [await token({ kid: 'made-up' }), 'has no key'],
        [await token({ kid: 'es' }), 'does not verify'],
        [await token({}, { aud: 'other' }), 'not known'],
        [await token({}, { repository_owner_id: '66' }), 'not allowed'],
        [await token({}, { repository_id: '75' }), 'no entry below'],
      ] as const) {
        const { status, body } = await exchange(url, bad)
        expect([status, body.error]).toEqual([400, 'invalid_grant'])
        expect(body.error_description).toContain(reason)
      }
    } finally {
      await stop()
    }
  }, 60_000)
}

for (const runtime of ['deno', 'bun'] satisfies Runtime[]) {
  describe.skipIf(programOf(runtime) === undefined)(`${runtime}${skipNote(runtime)}`, () =>
    suite(() => fullServer(runtime)),
  )
}
describe('workerd', () => suite(workerdServer))
