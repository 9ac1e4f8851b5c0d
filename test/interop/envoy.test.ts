import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { openSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { type AgentFiles, Cluster, eventually, type ServerFiles, spiffe } from '../support/cluster.ts'

// Two Envoys that take certificates and trust from our agent, and nothing else: one in front of a service, one beside its client.

const FOLDER = resolve(import.meta.dirname, '../../node_modules/.cache/turret/envoy')
const hasPython = spawnSync('python3', ['-m', 'venv', '--help']).status === 0
const NOTE = hasPython ? '' : ' (skipped: there is no python3 to install Envoy with)'

const cluster = new Cluster()
let server: ServerFiles
let agent: AgentFiles
const envoys: ChildProcess[] = []
const ports = { service: 0, right: 0, wrong: 0, validator: 0, admin: 0 }

const sds = (name: string) => `{ name: "${name}", sds_config: { resource_api_version: V3, api_config_source: {
  api_type: GRPC, transport_api_version: V3, grpc_services: [{ envoy_grpc: { cluster_name: spire_agent } }] } } }`
const agentCluster = () => `
  - name: spire_agent
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: spire_agent
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: "${agent.socket}" } } } }] }]`
/** Whom a peer must be, under the roots of a secret. */
const peer = (id: string, roots: string) => `combined_validation_context:
            default_validation_context:
              match_typed_subject_alt_names: [{ san_type: URI, matcher: { exact: "${id}" } }]
            validation_context_sds_secret_config: ${sds(roots)}`
const manager = (name: string, route: string, transport = '') => `
      filter_chains:
      - filters:
        - name: envoy.filters.network.http_connection_manager
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: ${name}
            codec_type: AUTO
            route_config:
              virtual_hosts: [{ name: all, domains: ["*"], routes: [{ match: { prefix: "/" }, ${route} }] }]
            http_filters:
            - name: envoy.filters.http.router
              typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }${transport}`
const listener = (name: string, port: number, chains: string) => `
    - name: ${name}
      address: { socket_address: { address: 127.0.0.1, port_value: ${port} } }${chains}`

function serviceConfig(): string {
  const transport = `
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
            require_client_certificate: true
            common_tls_context:
              tls_certificate_sds_secret_configs: [${sds('default')}]
              ${peer(spiffe('proxy'), 'ROOTCA').replaceAll('\n', '\n    ')}`
  return `node: { id: service, cluster: service }
static_resources:
  listeners:${listener('service', ports.service, manager('service', 'direct_response: { status: 200, body: { inline_string: "hello" } }', transport))}
  clusters:${agentCluster()}
`
}

function clientConfig(): string {
  const upstream = (name: string, id: string, roots: string) => `
  - name: ${name}
    type: STATIC
    load_assignment:
      cluster_name: ${name}
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${ports.service} } } } }] }]
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_certificate_sds_secret_configs: [${sds(spiffe('proxy'))}]
          ${peer(id, roots)}`
  return `node: { id: client, cluster: client }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: ${ports.admin} } } }
static_resources:
  listeners:${(['right', 'wrong', 'validator'] as const).map((name) => listener(name, ports[name], manager(name, `route: { cluster: ${name} }`))).join('')}
  clusters:${upstream('right', spiffe('proxy'), spiffe(''))}${upstream('wrong', spiffe('somebody-else'), 'ROOTCA')}${upstream('validator', spiffe('proxy'), 'ALL')}${agentCluster()}
`
}

function startEnvoy(name: string, config: string, id: number): void {
  const path = cluster.path(`${name}.yaml`)
  // The name of the trust domain's own roots has no path.
  writeFileSync(path, config.replaceAll('example.org/"', 'example.org"'))
  const log = openSync(cluster.path(`${name}.log`), 'w')
  const args = ['-c', path, '--concurrency', '1', '--base-id', String(id), '--disable-hot-restart', '-l', 'warning']
  envoys.push(spawn(join(FOLDER, 'bin/envoy'), args, { stdio: ['ignore', log, log] }))
}

const connections = new Agent({ keepAlive: true, maxSockets: 16 })

function get(port: number, path = '/'): Promise<{ status: number; body: string }> {
  return new Promise((done, fail) => {
    request({ host: '127.0.0.1', port, path, agent: connections }, (response) => {
      let body = ''
      response.on('data', (piece) => {
        body += piece
      })
      response.on('end', () => done({ status: response.statusCode!, body }))
    })
      .on('error', fail)
      .end()
  })
}

beforeAll(async () => {
  if (!hasPython) return
  const setup = spawnSync(resolve(import.meta.dirname, '../support/envoy/setup'), [FOLDER], { encoding: 'utf8' })
  if (setup.status !== 0) throw new Error(setup.stderr)
  for (const name of Object.keys(ports) as (keyof typeof ports)[]) ports[name] = await freePort()
  const pair = await cluster.startPair('envoy')
  server = pair.server
  agent = pair.agent
  await cluster.entry(server, 'envoy/agent', 'proxy', '-x509SVIDTTL', '10')
  await cluster.jwt(agent, 'warm-up')
  const base = 100 + (process.pid % 30_000) * 2
  startEnvoy('service', serviceConfig(), base)
  startEnvoy('client', clientConfig(), base + 1)
}, 120_000)

afterAll(async () => {
  connections.destroy()
  for (const envoy of envoys) envoy.kill('SIGKILL')
  await cluster.stop()
}, 30_000)

test.skipIf(!hasPython)(
  `Envoys trust each other by what our agent says, through rotations, and nobody with another name${NOTE}`,
  async () => {
    const answers = async (port: number) =>
      eventually(async () => {
        const answer = await get(port)
        if (answer.status !== 200)
          throw new Error(`${answer.status} ${answer.body} ${cluster.log('client').slice(-500)}`)
        return answer.body
      })
    expect(await answers(ports.right)).toBe('hello')
    expect(await answers(ports.validator)).toBe('hello')
    // The same server, but not whom this route is for.
    const refused = await get(ports.wrong)
    expect(refused.status).toBe(503)
    const { body: stats } = await get(ports.admin, '/stats?filter=cluster.wrong.ssl.fail_verify')
    expect(stats).toMatch(/fail_verify_san: [1-9]/)

    // The certificate lives ten seconds: it is renewed while requests go on.
    const renewals = () =>
      cluster.log(agent.name).match(/Sending StreamSecrets response.*version_info=[2-9]/g)?.length ?? 0
    const before = renewals()
    const deadline = Date.now() + 30_000
    let count = 0
    while (renewals() < before + 4 || count < 4_000) {
      const round = await Promise.all(Array.from({ length: 16 }, () => get(ports.right)))
      for (const { status, body } of round) expect([status, body]).toEqual([200, 'hello'])
      count += round.length
      if (Date.now() > deadline) throw new Error(`${count} requests, but ${renewals() - before} renewals`)
    }
    console.log(`${count} requests through two Envoys, ${renewals() - before} renewals sent`)
  },
  90_000,
)
