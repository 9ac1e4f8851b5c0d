import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { Cluster, eventually, exitCode, type ServerFiles, spiffe, UID } from '../support/cluster.ts'

// Nested servers without an agent beside them: each attests to the root by itself.

const cluster = new Cluster()
let root: ServerFiles
let url: string

beforeAll(async () => {
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  root = await cluster.serverFiles('root', {
    server: `experimental { http { bind_port = ${port} audiences = ["${url}"] } }`,
  })
  await cluster.startServer(root)
  writeFileSync(cluster.path('root.pem'), await cluster.must(root, 'bundle', 'show'))
}, 30_000)

afterAll(() => cluster.stop(), 30_000)

const upstream = (data: string) => ({ plugins: `UpstreamAuthority "spire" { plugin_data { ${data} } }` })

/** A node ID with a token for it, and a downstream entry below it. */
async function downstream(name: string): Promise<string> {
  const token = await cluster.token(root, `${name}/node`)
  await cluster.entry(root, `${name}/node`, `${name}/server`, '-downstream')
  return token
}

test.each([
  ['grpc', () => `server_address = "127.0.0.1" server_port = "${root.port}"`],
  ['http', () => `server_url = "${url}"`],
])(
  'over %s a nested server attests by itself, and goes on after a restart without its token',
  async (name, where) => {
    const tokenFile = cluster.path(`${name}.token`)
    writeFileSync(tokenFile, await downstream(name))
    const nested = await cluster.serverFiles(
      `nested-${name}`,
      upstream(
        `${where()} trust_bundle_path = "${cluster.path('root.pem')}" node_attestor "join_token" { join_token_file = "${tokenFile}" }`,
      ),
    )
    const child = await cluster.startServer(nested)
    expect(await cluster.must(nested, 'bundle', 'show')).toBe(await cluster.must(root, 'bundle', 'show'))
    await cluster.must(nested, 'x509', 'mint', '-spiffeID', spiffe('w'), '-write', cluster.path(''))
    // Its JWT key is published upward before it signs.
    const key = /"kid": "([^"]+)"/.exec(await cluster.must(nested, 'bundle', 'show', '-format', 'spiffe'))![1]!
    await eventually(async () => expect(await cluster.must(root, 'bundle', 'show', '-format', 'spiffe')).toContain(key))
    child.kill('SIGTERM')
    expect(await exitCode(child)).toBe(0)
    await cluster.startServer(nested)
    expect(await cluster.must(nested, 'healthcheck')).toContain('Server is healthy')
  },
  60_000,
)

test('an entry that comes later is enough', async () => {
  const token = await cluster.token(root, 'late/node')
  const nested = await cluster.serverFiles(
    'nested-late',
    upstream(
      `server_address = "127.0.0.1" server_port = "${root.port}" trust_bundle_path = "${cluster.path('root.pem')}" node_attestor "join_token" { join_token = "${token}" }`,
    ),
  )
  const starting = cluster.startServer(nested)
  await eventually(async () => expect(cluster.log('nested-late')).toContain('Waiting for a downstream entry'))
  const entry = await cluster.entry(root, 'late/node', 'late/server', '-downstream')
  await starting
  expect(await cluster.must(nested, 'bundle', 'show')).toBe(await cluster.must(root, 'bundle', 'show'))
  // One that is not for servers any more is let go of.
  const selector = `unix:uid:${UID}`
  const now = ['-parentID', spiffe('late/node'), '-spiffeID', spiffe('late/workload'), '-selector', selector]
  await cluster.must(root, 'entry', 'update', '-entryID', entry, ...now)
  await eventually(async () =>
    expect(cluster.log('nested-late').split('Waiting for a downstream entry')).toHaveLength(3),
  )
}, 60_000)

test.each([
  ['a token that is none', 'node_attestor "join_token" { join_token = "nothing" }', 'join token does not exist'],
  ['an attestor that is not known', 'node_attestor "guess" {}', 'node_attestor \\"guess\\" is not known'],
  [
    'both ways',
    'workload_api_socket = "/x" node_attestor "join_token" { join_token = "t" }',
    'only one of workload_api_socket or',
  ],
  ['neither way', '', 'workload_api_socket is required'],
])(
  'with %s it does not start, and says why',
  async (name, data, reason) => {
    const nested = await cluster.serverFiles(
      `bad-${name.replaceAll(' ', '-')}`,
      upstream(`server_address = "127.0.0.1" server_port = "${root.port}" insecure_bootstrap = true ${data}`),
    )
    const child = cluster.processes.start(
      nested.name,
      'turret-server',
      ['run', '-config', nested.config],
      cluster.path(`${nested.name}.log`),
      undefined,
    )
    await eventually(async () => expect(cluster.log(nested.name)).toContain(reason))
    child.kill('SIGTERM')
    await exitCode(child)
  },
  30_000,
)
