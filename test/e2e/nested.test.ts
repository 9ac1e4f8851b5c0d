import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { JWTBundlesRequest, JWTBundlesResponse } from '../../proto/spiffe/workload.ts'
import { parseCertificates } from '../../src/core/certificate.ts'
import { verifyX509Svid } from '../../src/core/path-validation.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'
import { connect } from '../../src/transport/grpc-client.ts'
import { type AgentFiles, Cluster, eventually, holdX509, type ServerFiles } from '../support/cluster.ts'

const FETCH_JWT_BUNDLES = {
  path: '/SpiffeWorkloadAPI/FetchJWTBundles',
  request: JWTBundlesRequest,
  response: JWTBundlesResponse,
}
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

test('a JWT key made in one branch is in the hands of the workloads of the other within a second', async () => {
  const channel = await connect({ target: `unix://${branches[1]!.agent.socket}` })
  const stop = new AbortController()
  const arrived = new Map<string, number>()
  const reading = (async () => {
    const metadata = { 'workload.spiffe.io': 'true' }
    for await (const { bundles } of channel.serverStream(FETCH_JWT_BUNDLES, {}, { metadata, signal: stop.signal })) {
      for (const { kid } of JSON.parse(Buffer.from(bundles['spiffe://example.org']!).toString()).keys) {
        if (!arrived.has(kid)) arrived.set(kid, Date.now())
      }
    }
  })().catch((error) => {
    if (!stop.signal.aborted) throw error
  })
  // A third branch makes a key, publishes it to the root, and from there it comes down.
  const plugins = `UpstreamAuthority "spire" { plugin_data { server_address = "127.0.0.1" server_port = "${root.server.port}" workload_api_socket = "${root.agent.socket}" } }`
  const third = await cluster.serverFiles('c-server', { plugins, server: 'log_format = "text"' })
  await cluster.startServer(third)
  const line = cluster
    .log('c-server')
    .split('\n')
    .find((text) => text.includes('JWT key prepared'))!
  const published = Date.parse(/time="([^"]+)"/.exec(line)![1]!)
  const kid = /local_authority_id=(\w+)/.exec(line)![1]!
  const seen = await eventually(
    async () => arrived.get(kid) ?? Promise.reject(new Error('the key is not there yet')),
    5_000,
  )
  stop.abort()
  await reading
  channel.close()
  console.log(`a key of one branch is with the workloads of another ${seen - published} ms after it was published`)
  expect(seen - published).toBeLessThan(1_000)
}, 30_000)
