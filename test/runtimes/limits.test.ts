import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build, type Plugin } from 'esbuild'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SERVER } from '../../agent/server-methods.ts'
import { createCsr } from '../../src/core/csr.ts'
import { SVID_SUBJECT } from '../../src/core/x509-svid.ts'
import { generateSigner } from '../../src/plugins/signer.ts'
import { attestByToken, channelTo, createEntry, type Place, seed } from '../support/edge.ts'
import { besideWorker, type RunningWorker, startWorker } from '../support/worker.ts'

// What the Worker may weigh and cost. CPU time, not time on the wall: other work on the machine does not count.

const ROOT = resolve(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'turret-limits-'))
let bundle: string

beforeAll(() => {
  const wrangler = join(ROOT, 'node_modules/wrangler/bin/wrangler.js')
  const args = [wrangler, 'deploy', '--dry-run', '--outdir', join(folder, 'out')]
  const env = { ...process.env, WRANGLER_SEND_METRICS: 'false' }
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, env, encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  bundle = join(folder, 'out/index.js')
}, 60_000)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('the bundle is less than 160 KB when compressed, and needs nothing of Node', () => {
  const code = readFileSync(bundle)
  const bytes = gzipSync(code, { level: 9 }).length
  console.log(`the Worker weighs ${(bytes / 1000).toFixed(1)} KB`)
  expect(bytes).toBeLessThan(160_000)
  expect(code.toString()).not.toMatch(/from\s*"node:/)
})

/** What a server is configured for or not: the exchange and its doors, operators by OIDC, fronts, and node attestors but join tokens. */
const OPTIONAL =
  /src\/(server\/exchange\/|http\/(exchange|token-endpoint)|plugins\/(oidc|nodeattestor)\/|transport\/front\.ts$)/

test('without what is optional it is less than 100 KB', async () => {
  const withoutOptional: Plugin = {
    name: 'without-optional',
    setup: ({ onLoad }) => onLoad({ filter: OPTIONAL }, () => ({ contents: 'module.exports = {}', loader: 'js' })),
  }
  const { outputFiles } = await build({
    entryPoints: [join(ROOT, 'workers/index.ts')],
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2024',
    conditions: ['workerd', 'worker', 'browser'],
    external: ['node:*', 'cloudflare:*'],
    plugins: [withoutOptional],
    logLevel: 'silent',
    write: false,
  })
  const bytes = gzipSync(outputFiles[0]!.contents, { level: 9 }).length
  console.log(`without what is optional the Worker weighs ${(bytes / 1000).toFixed(1)} KB`)
  expect(bytes).toBeLessThan(100_000)
})

test('it is evaluated in less than 50 ms', () => {
  const script = `const before = process.cpuUsage(); await import(${JSON.stringify(bundle)}); const { user, system } = process.cpuUsage(before); console.log((user + system) / 1000)`
  const args = ['--no-warnings', '--input-type=module', '-e', script]
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  expect(stderr).toBe('')
  console.log(`the Worker is evaluated in ${Number(stdout).toFixed(1)} ms of CPU`)
  expect(Number(stdout)).toBeLessThan(50)
})

/** What an empty answer takes in workerd, through wrangler's proxy, on a machine that does nothing else. */
const QUIET_EMPTY_MS = 2.8

test('an issuance takes less than 5 ms of CPU in workerd', async () => {
  const seeds = await besideWorker(folder, seed)
  const worker: RunningWorker = await startWorker(folder)
  try {
    const place: Place = { url: worker.url, roots: seeds.roots, audience: 'https://id.example.org' }
    const agent = await attestByToken(place, seeds.tokens.pop()!)
    const entryId = await createEntry(place, seeds.admin, agent.id, '/web')
    const channel = channelTo(place, agent.identity)
    const csr = await createCsr({ subject: SVID_SUBJECT }, await generateSigner('ec-p256'))
    const params = Array.from({ length: 50 }, () => ({ entryId, csr }))

    // What wrangler's proxy takes for any request, and what the simulated D1 takes for the same queries, is not ours.
    const empty = await cpuMsOf(async () => void (await (await fetch(`${place.url}/live`)).text()))
    const reading = await cpuMsOf(() => channel.unary(SERVER.getAuthorizedEntries, { outputMask: undefined }))
    const x509 = await cpuMsOf(() => channel.unary(SERVER.batchNewX509Svid, { params: params.slice(0, 1) }))
    const jwt = await cpuMsOf(() => channel.unary(SERVER.newJwtSvid, { entryId, audience: ['db'] }))
    const fifty = await cpuMsOf(() => channel.unary(SERVER.batchNewX509Svid, { params }), 20)
    const text = (ms: number) => `${ms.toFixed(2)} ms`
    console.log(
      `CPU of workerd: an empty answer ${text(empty)}, entries of an agent ${text(reading)}, an X509-SVID ${text(x509)}, a JWT-SVID ${text(jwt)}, fifty X509-SVIDs ${text(fifty)}`,
    )
    // Work beside this makes the same instructions take longer. An empty answer on a quiet machine is the measure.
    const strain = Math.max(1, empty / QUIET_EMPTY_MS)
    expect((fifty - x509) / 49).toBeLessThan(1 * strain)
    expect(Math.max(x509, jwt) - reading).toBeLessThan(5 * strain)
    // With signatures of request and answer, authorization, and the simulation of D1.
    expect(Math.max(x509, jwt) - empty).toBeLessThan(10 * strain)
  } finally {
    await worker.stop()
  }
}, 60_000)

/** CPU time of workerd for one call, after it got warm: the least of three rounds, since what runs beside it makes processors slower. */
async function cpuMsOf(call: () => Promise<unknown>, times = 50): Promise<number> {
  for (let count = 0; count < times; count += 1) await call()
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < 3; round += 1) {
    const before = workerdCpuMs()
    for (let count = 0; count < times; count += 1) await call()
    least = Math.min(least, (workerdCpuMs() - before) / times)
  }
  expect(least).toBeGreaterThan(0)
  return least
}

/** CPU time of all workerd processes below this one. */
function workerdCpuMs(): number {
  const parents = new Map<string, string>()
  const spent = new Map<string, number>()
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      parents.set(pid, fields[1]!)
      if (stat.includes('(workerd)')) spent.set(pid, (Number(fields[11]) + Number(fields[12])) * 10)
    } catch {
      // It ended meanwhile.
    }
  }
  const mine = String(process.pid)
  let sum = 0
  for (const [pid, ms] of spent) {
    let ancestor: string | undefined = pid
    while (ancestor !== undefined && ancestor !== mine) ancestor = parents.get(ancestor)
    if (ancestor === mine) sum += ms
  }
  return sum
}
