import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type AgentFiles, Cluster, eventually, type ServerFiles } from '../support/cluster.ts'

const bin = process.env.SPIRE_BIN ?? ''
const there = bin !== '' && existsSync(join(bin, 'spire-server'))
if (!there) console.warn('SPIRE_BIN is not set: servers and agents are NOT mixed with those of SPIRE')

type Side = 'turret' | 'spire'
const program = (side: Side, part: 'server' | 'agent') =>
  side === 'turret' ? `turret-${part}` : join(bin, `spire-${part}`)

const cluster = new Cluster()
afterAll(() => cluster.stop(), 30_000)

async function startServer(side: Side, files: ServerFiles): Promise<void> {
  cluster.processes.start(
    files.name,
    program(side, 'server'),
    ['run', '-config', files.config],
    cluster.path(`${files.name}.log`),
    undefined,
  )
  await eventually(async () => {
    if ((await cluster.server(files, 'healthcheck')).code !== 0) throw new Error(cluster.log(files.name).slice(-400))
  })
}

async function startAgent(side: Side, files: AgentFiles, server: ServerFiles, name: string): Promise<void> {
  writeFileSync(cluster.path(`${server.name}-bundle.pem`), await cluster.must(server, 'bundle', 'show'))
  const token = await cluster.token(server, name)
  cluster.processes.start(
    files.name,
    program(side, 'agent'),
    ['run', '-config', files.config, '-joinToken', token],
    cluster.path(`${files.name}.log`),
    undefined,
  )
  await eventually(async () => {
    if ((await cluster.agent(files, 'healthcheck')).code !== 0) throw new Error(cluster.log(files.name).slice(-400))
  })
}

describe.skipIf(!there)('beside a real SPIRE', () => {
  // Root, the agent beside it, the nested server below, and the agent below that.
  test.each<[Side, Side, Side, Side]>([
    ['turret', 'spire', 'spire', 'spire'],
    ['spire', 'turret', 'turret', 'turret'],
    ['turret', 'turret', 'spire', 'turret'],
    ['spire', 'spire', 'turret', 'spire'],
  ])(
    'root %s, its agent %s, nested server %s, its agent %s: identities of below are good at the top',
    async (rootSide, rootAgentSide, nestedSide, nestedAgentSide) => {
      const name = `${rootSide}-${rootAgentSide}-${nestedSide}-${nestedAgentSide}`
      const root = await cluster.serverFiles(`${name}-root`)
      await startServer(rootSide, root)
      const rootAgent = cluster.agentFiles(`${name}-root-agent`, root)
      await startAgent(rootAgentSide, rootAgent, root, 'root/agent')
      await cluster.entry(root, 'root/agent', 'nested', '-downstream')
      await cluster.jwt(rootAgent, 'ready')
      const plugins = `UpstreamAuthority "spire" { plugin_data { server_address = "127.0.0.1" server_port = "${root.port}" workload_api_socket = "${rootAgent.socket}" } }`
      const nested = await cluster.serverFiles(`${name}-nested`, { plugins })
      await startServer(nestedSide, nested)
      const nestedAgent = cluster.agentFiles(`${name}-nested-agent`, nested)
      await startAgent(nestedAgentSide, nestedAgent, nested, 'nested/agent')
      await cluster.entry(nested, 'nested/agent', 'workload')
      const token = await cluster.jwt(nestedAgent, 'them')
      // The agent at the top learns the key of the server below through the root.
      await eventually(async () => {
        const { code, stdout, stderr } = await cluster.agent(
          rootAgent,
          'api',
          'validate',
          'jwt',
          '-audience',
          'them',
          '-svid',
          token,
        )
        if (code !== 0) throw new Error(stderr)
        expect(stdout).toContain('spiffe://example.org/workload')
      })
      const fetched = await cluster.agent(nestedAgent, 'api', 'fetch', 'x509')
      expect(fetched.stdout).toContain('Intermediate #1 Valid After')
    },
    120_000,
  )
})
