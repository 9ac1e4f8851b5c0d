import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { encodePem } from '../../src/core/pem.ts'
import { spiffeId } from '../../src/core/spiffe-id.ts'
import { type AgentFiles, Cluster, eventually, exitCode, holdX509, UID } from '../support/cluster.ts'
import { createEntry, type Place, type Seed, seed, TRUST_DOMAIN } from '../support/edge.ts'
import { besideWorker, type RunningWorker, startWorker } from '../support/worker.ts'

// Agents and a nested server, real processes, below a server that runs in workerd on D1.

const cluster = new Cluster()
let worker: RunningWorker
let seeds: Seed
let place: Place

beforeAll(async () => {
  seeds = await besideWorker(cluster.path('d1'), seed)
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  worker = await startWorker(cluster.path('d1'), { AUDIENCES: url }, port)
  place = { url, roots: seeds.roots }
  writeFileSync(cluster.path('root.pem'), seeds.roots.map(({ der }) => encodePem('CERTIFICATE', der)).join(''))
}, 60_000)

afterAll(async () => {
  await cluster.stop()
  await worker?.stop()
}, 30_000)

interface Published {
  readonly keys: readonly { readonly use: string; readonly kid?: string }[]
}

const agentId = (token: string) => spiffeId(TRUST_DOMAIN, `/spire/agent/join_token/${token}`)

/** An agent of the Worker. */
function agentFiles(name: string): AgentFiles {
  return cluster.agentFiles(
    name,
    { name: 'root', port: 0, socket: '', config: '', data: '' },
    { agent: `server_url = "${place.url}"` },
  )
}

function startAgent(files: AgentFiles, token?: string) {
  const args = ['run', '-config', files.config, ...(token === undefined ? [] : ['-joinToken', token])]
  return cluster.processes.start(files.name, 'turret-agent', args, cluster.path(`${files.name}.log`), undefined)
}

test('an agent attests to workerd, its workloads get SVIDs, and a change reaches them within two seconds', async () => {
  const files = agentFiles('agent')
  writeFileSync(cluster.path('root-bundle.pem'), seeds.roots.map(({ der }) => encodePem('CERTIFICATE', der)).join(''))
  const token = seeds.tokens.pop()!
  await createEntry(place, seeds.admin, agentId(token), '/web', { uid: UID })
  const child = startAgent(files, token)
  await eventually(async () => expect((await cluster.agent(files, 'healthcheck')).code).toBe(0))
  const workload = await holdX509(files.socket)
  const identities = () => workload.updates.at(-1)?.svids.map(({ spiffeId: id }) => id)
  await eventually(async () => expect(identities()).toEqual(['spiffe://example.org/web']))
  expect(await cluster.jwt(files, 'db')).toMatch(/^eyJ/)

  const changedAtMs = performance.now()
  await createEntry(place, seeds.admin, agentId(token), '/later', { uid: UID })
  await eventually(async () => expect(identities()).toHaveLength(2))
  const tookMs = performance.now() - changedAtMs
  console.log(`an entry made in workerd is with the workload after ${Math.round(tookMs)} ms`)
  expect(tookMs).toBeLessThan(2_500)

  await workload.stop()
  child.kill('SIGTERM')
  expect(await exitCode(child)).toBe(0)
  startAgent(files)
  await eventually(async () => expect((await cluster.agent(files, 'healthcheck')).code).toBe(0))
}, 60_000)

test('a nested server takes its CA from workerd, and what it signs leads there', async () => {
  const token = seeds.tokens.pop()!
  await createEntry(place, seeds.admin, agentId(token), '/nested', { downstream: true })
  const nested = await cluster.serverFiles('nested', {
    plugins: `UpstreamAuthority "spire" { plugin_data { server_url = "${place.url}"
      trust_bundle_path = "${cluster.path('root.pem')}" node_attestor "join_token" { join_token = "${token}" } } }`,
  })
  await cluster.startServer(nested)
  const bundle = await cluster.must(nested, 'bundle', 'show', '-format', 'spiffe')
  const { keys } = JSON.parse(bundle) as Published
  const own = keys.filter(({ use }) => use === 'jwt-svid').map(({ kid }) => kid)
  expect(own.length).toBeGreaterThan(0)
  await eventually(async () => {
    const now = (await (await fetch(`${place.url}/`)).json()) as Published
    expect(now.keys.map(({ kid }) => kid)).toEqual(expect.arrayContaining(own))
  })
  const agent = cluster.agentFiles('below', nested)
  await cluster.startAgent(agent, nested, await cluster.token(nested, 'below'))
  await cluster.entry(nested, 'below', 'deep')
  // As soon as the agent knows of the entry: a stream of somebody without one ends.
  await cluster.jwt(agent, 'anybody')
  const workload = await holdX509(agent.socket)
  await eventually(async () =>
    expect(workload.updates.at(-1)?.svids.map(({ spiffeId: id }) => id)).toEqual(['spiffe://example.org/deep']),
  )
  await workload.stop()
}, 60_000)
