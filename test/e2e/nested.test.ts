import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseCertificates } from '../../src/core/certificate.ts'
import { verifyX509Svid } from '../../src/core/path-validation.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'
import { type AgentFiles, Cluster, eventually, freePort, holdX509, type ServerFiles } from '../support/cluster.ts'

const cluster = new Cluster()
let root: { server: ServerFiles; agent: AgentFiles }
const branches: { server: ServerFiles; agent: AgentFiles }[] = []

beforeAll(async () => {
  const httpPort = await freePort()
  const url = `http://127.0.0.1:${httpPort}`
  root = await cluster.startPair('root', {
    server: `experimental { http { bind_port = ${httpPort} audiences = ["${url}"] } }`,
  })
  await cluster.entry(root.server, 'root/agent', 'nested', '-downstream')
  // Branch a reaches the root over gRPC, branch b over HTTP.
  for (const [name, upstream] of [
    ['a', `server_address = "127.0.0.1" server_port = "${root.server.port}"`],
    ['b', `server_url = "${url}"`],
  ] as const) {
    const plugins = `UpstreamAuthority "spire" { plugin_data { ${upstream} workload_api_socket = "${root.agent.socket}" } }`
    const branch = await cluster.startPair(name, { plugins })
    await cluster.entry(branch.server, `${name}/agent`, `${name}/workload`)
    branches.push(branch)
  }
}, 60_000)

afterAll(() => cluster.stop(), 30_000)

test.each([
  [0, 1],
  [1, 0],
])('a JWT-SVID of branch %i is valid in branch %i, for its audience only', async (from, to) => {
  const token = await cluster.jwt(branches[from]!.agent, 'them')
  const valid = await cluster.agent(branches[to]!.agent, 'api', 'validate', 'jwt', '-audience', 'them', '-svid', token)
  expect(valid).toMatchObject({ code: 0, stderr: '' })
  expect(valid.stdout).toContain(`/${from === 0 ? 'a' : 'b'}/workload`)
  const wrong = await cluster.agent(
    branches[to]!.agent,
    'api',
    'validate',
    'jwt',
    '-audience',
    'others',
    '-svid',
    token,
  )
  expect(wrong).toMatchObject({
    code: 1,
    stderr: 'SVID is not valid: expected audience in ["others"] (audience=["them"])\n',
  })
})

test.each([0, 1])('the chain of a workload in branch %i leads to the root over one intermediate', async (index) => {
  const stream = await holdX509(branches[index]!.agent.socket)
  const update = await eventually(
    async () => stream.updates[0] ?? Promise.reject(stream.ended() ?? new Error('no update yet')),
  )
  await stream.stop()
  const svid = update.svids[0]!
  const chain = parseCertificates(svid.x509Svid)
  const roots = parseCertificates(svid.bundle)
  expect(chain).toHaveLength(2)
  expect(chain[1]!.isCa).toBe(true)
  const { path } = await verifyX509Svid({
    chain: chain.map(({ der }) => der),
    rootsOf: () => roots,
    at: Math.floor(Date.now() / 1000),
    verify: nodeVerifier(),
  })
  expect(path).toHaveLength(3)
})

test('a JWT key made in one branch is good in the other within a second', async () => {
  // A restarted server with a KeyManager in memory makes a new key, which travels up to the root and down again.
  const { server, agent } = branches[0]!
  const plugins = `UpstreamAuthority "spire" { plugin_data { server_address = "127.0.0.1" server_port = "${root.server.port}" workload_api_socket = "${root.agent.socket}" } }`
  const third = await cluster.startPair('c', { plugins, keyManager: 'KeyManager "memory" { plugin_data {} }' })
  await cluster.entry(third.server, 'c/agent', 'c/workload')
  const token = await cluster.jwt(third.agent, 'them')
  const started = performance.now()
  await eventually(async () => {
    const { code, stderr } = await cluster.agent(agent, 'api', 'validate', 'jwt', '-audience', 'them', '-svid', token)
    if (code !== 0) throw new Error(stderr)
  }, 1_000)
  console.log(`token of a new branch valid in another after ${Math.round(performance.now() - started)} ms`)
  expect(server.name).toBe('a-server')
}, 30_000)
