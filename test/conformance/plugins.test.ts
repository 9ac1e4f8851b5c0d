import { type ChildProcess, execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { externalKind } from '../../src/plugins/external/kinds.ts'
import type { Side } from '../../src/plugins/plugin.ts'
import {
  type AgentFiles,
  Cluster,
  eventually,
  Final,
  type ServerFiles,
  spiffe,
  TRUST_DOMAIN,
  UID,
} from '../support/cluster.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const bin = process.env.SPIRE_BIN ?? ''
const there = bin !== '' && existsSync(join(bin, 'spire-server'))
if (!there) console.warn('SPIRE_BIN is not set: plugins are NOT tried under SPIRE')

type Host = 'spire' | 'turret'
const HOSTS: readonly Host[] = ['spire', 'turret']

/** Kinds that a host starts out of process. */
function starts(host: Host, side: Side, kind: string): boolean {
  // The TLS of Node wants to have the key of an agent that speaks gRPC.
  if (host === 'turret' && side === 'agent' && kind === 'KeyManager') return false
  return host === 'spire' || externalKind(side, kind as never) !== undefined
}

/** The block of a plugin out of process: a program of `examples/plugins`. */
function external(type: string, name: string, program: string, data: string, ...more: readonly string[]): string {
  const args = [join(ROOT, 'examples/plugins', program), ...more]
  return `${type} "${name}" {
    plugin_cmd = "${join(ROOT, 'bin/with-node')}"
    plugin_args = ${JSON.stringify(args)}
    plugin_data { ${data} }
  }`
}

/** A server and an agent with plugins out of process, and the commands to speak with them. */
class Pair {
  readonly cluster = new Cluster({ TURRET_ROLE: 'tested' })
  readonly server: ServerFiles
  readonly agent: AgentFiles
  readonly #host: Host
  serverProcess!: ChildProcess
  agentProcess!: ChildProcess

  constructor(host: Host, port: number) {
    this.#host = host
    const files = (name: string) => ({
      name,
      socket: this.cluster.path(`${name}.sock`),
      config: this.cluster.path(`${name}.conf`),
      data: this.cluster.path(`${name}-data`),
    })
    this.server = { ...files('server'), port }
    this.agent = files('agent')
    for (const { data } of [this.server, this.agent]) mkdirSync(data)
  }

  async startServer(plugins: readonly string[]): Promise<void> {
    const { name, config, socket, data, port } = this.server
    writeFileSync(
      config,
      `server {
  bind_address = "127.0.0.1"
  bind_port = "${port}"
  socket_path = "${socket}"
  trust_domain = "${TRUST_DOMAIN}"
  data_dir = "${data}"
  log_level = "DEBUG"
  ca_subject { country = ["DE"] organization = ["Tests"] common_name = "" }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${data}/datastore.sqlite3" } }
  ${plugins.join('\n  ')}
}
`,
    )
    this.serverProcess = await this.#start(name, 'server', config, () =>
      this.cluster.server(this.server, 'healthcheck'),
    )
    writeFileSync(this.cluster.path('bundle.pem'), await this.cluster.must(this.server, 'bundle', 'show'))
  }

  async startAgent(plugins: readonly string[]): Promise<void> {
    const { name, config, socket, data } = this.agent
    writeFileSync(
      config,
      `agent {
  data_dir = "${data}"
  server_address = "127.0.0.1"
  server_port = "${this.server.port}"
  socket_path = "${socket}"
  trust_bundle_path = "${this.cluster.path('bundle.pem')}"
  trust_domain = "${TRUST_DOMAIN}"
  log_level = "DEBUG"
}
plugins {
  ${plugins.join('\n  ')}
}
`,
    )
    this.agentProcess = await this.#start(name, 'agent', config, () => this.cluster.agent(this.agent, 'healthcheck'))
  }

  async #start(
    name: string,
    part: 'server' | 'agent',
    config: string,
    check: () => Promise<{ readonly code: number; readonly stderr: string }>,
  ): Promise<ChildProcess> {
    const program = this.#host === 'turret' ? `turret-${part}` : join(bin, `spire-${part}`)
    const log = this.cluster.path(`${name}.log`)
    const child = this.cluster.processes.start(name, program, ['run', '-config', config], log, undefined)
    await eventually(async () => {
      if (child.exitCode !== null) throw new Final(`${name} ended: ${this.cluster.log(name).slice(-2000)}`)
      const { code, stderr } = await check()
      if (code !== 0) throw new Error(`${stderr}${this.cluster.log(name).slice(-1000)}`)
    }, 60_000)
    return child
  }

  async entry(agentId: string, id: string, ...args: readonly string[]): Promise<void> {
    await this.cluster.must(this.server, 'entry', 'create', '-parentID', agentId, '-spiffeID', spiffe(id), ...args)
  }
}

describe.each(HOSTS)('plugins of examples/plugins under %s', (host) => {
  const skipped = host === 'spire' && !there
  const has = (side: Side, ...kinds: readonly string[]) => kinds.every((kind) => starts(host, side, kind))
  /** Blocks of plugins that the host starts. */
  const started = (side: Side, blocks: readonly string[]) =>
    blocks.filter((block) => has(side, block.slice(0, block.indexOf(' '))))
  let pair: Pair
  let claims: unknown
  let svid: X509Certificate
  const published: unknown[] = []
  const publisher = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      published.push(JSON.parse(body))
      response.end()
    })
  })

  beforeAll(async () => {
    if (skipped) return
    pair = new Pair(host, await freePort())
    const path = (name: string) => pair.cluster.path(name)
    await new Promise<void>((done) => publisher.listen(0, '127.0.0.1', done))
    writeFileSync(path('secrets'), 'one s3cret\n')
    writeFileSync(path('secret'), 's3cret\n')
    mkdirSync(path('svids'))
    certify(path('ca'))
    const { port } = publisher.address() as AddressInfo
    const upstream = `cert_path = "${path('ca.pem')}" key_path = "${path('ca.key')}"`
    await pair.startServer(
      started('server', [
        external('KeyManager', 'files', 'key-manager.ts', `folder = "${path('server-keys')}"`),
        external('NodeAttestor', 'machine_secret', 'node-attestor-server.ts', `secrets_path = "${path('secrets')}"`),
        external('UpstreamAuthority', 'openssl', 'upstream-authority.ts', upstream),
        external('Notifier', 'pem_file', 'notifier.ts', `path = "${path('roots.pem')}"`),
        external('BundlePublisher', 'put', 'bundle-publisher.ts', `url = "http://127.0.0.1:${port}/"`),
        external('CredentialComposer', 'environment', 'credential-composer.ts', 'environment = "staging"'),
      ]),
    )
    const secret = `machine = "one" secret_path = "${path('secret')}"`
    await pair.startAgent([
      ...(has('agent', 'KeyManager') ? [] : ['KeyManager "memory" { plugin_data {} }']),
      ...started('agent', [
        external('KeyManager', 'files', 'key-manager.ts', `folder = "${path('agent-keys')}"`, 'agent'),
        external('NodeAttestor', 'machine_secret', 'node-attestor-agent.ts', secret),
        external('WorkloadAttestor', 'environ', 'workload-attestor.ts', 'variables = ["TURRET_ROLE"]'),
        external('SVIDStore', 'folder', 'svid-store.ts', `folder = "${path('svids')}"`),
      ]),
    ])
    const agentId = spiffe('spire/agent/machine_secret/one')
    await pair.entry(agentId, 'workload', '-selector', 'environ:variable:TURRET_ROLE:tested')
    await pair.entry(agentId, 'stored', '-storeSVID', '-selector', 'folder:name:first')
  }, 150_000)

  afterAll(async () => {
    publisher.close()
    await pair?.cluster.stop()
  }, 30_000)

  test.skipIf(skipped)(
    'an agent attests by its secret, a workload by its environment, below a CA that openssl signed',
    async () => {
      claims = JSON.parse(
        Buffer.from((await pair.cluster.jwt(pair.agent, 'them')).split('.')[1]!, 'base64url').toString(),
      )
      expect(claims).toMatchObject({ sub: spiffe('workload') })
      const out = pair.cluster.path('svid')
      mkdirSync(out)
      const fetched = await pair.cluster.agent(pair.agent, 'api', 'fetch', 'x509', '-write', out)
      expect(fetched.stdout).toContain(spiffe('workload'))
      svid = new X509Certificate(readFileSync(join(out, 'svid.0.pem')))
      expect(new X509Certificate(readFileSync(join(out, 'bundle.0.pem'))).subject).toBe('CN=upstream')
      expect(readdirSync(pair.cluster.path('server-keys')).length).toBe(2)
    },
    60_000,
  )

  test.skipIf(skipped || !has('server', 'CredentialComposer'))('credentials are composed', () => {
    expect(claims).toMatchObject({ environment: 'staging' })
    expect(svid.subject).toContain('OU=staging')
  })

  test.skipIf(skipped || !has('server', 'Notifier', 'BundlePublisher'))(
    'the bundle is written and published',
    async () => {
      await eventually(async () => {
        expect(new X509Certificate(readFileSync(pair.cluster.path('roots.pem'))).subject).toBe('CN=upstream')
        expect(published.at(-1)).toMatchObject({
          keys: expect.arrayContaining([expect.objectContaining({ kty: 'EC' })]),
        })
      })
    },
    60_000,
  )

  test.skipIf(skipped || !has('agent', 'SVIDStore'))(
    'SVIDs are stored',
    async () => {
      await eventually(async () => {
        const stored = JSON.parse(readFileSync(pair.cluster.path('svids/first.json'), 'utf8'))
        expect(stored.spiffeId).toBe(spiffe('stored'))
        expect(new X509Certificate(Buffer.from(stored.certificates[0], 'base64')).subjectAltName).toBe(
          `URI:${spiffe('stored')}`,
        )
      })
    },
    60_000,
  )

  test.skipIf(skipped)('what plugins log is in the log of the host, with its level and fields', () => {
    expect(pair.cluster.log('server')).toMatch(/level=info msg="CA signed".* subject=/)
    expect(pair.cluster.log('agent')).toMatch(/level=debug msg="Environment read".* found=1 /)
  })
})

describe.skipIf(!there)('the plugins of Turret under spire', () => {
  let pair: Pair

  beforeAll(async () => {
    pair = new Pair('spire', await freePort())
    const path = (name: string) => pair.cluster.path(name)
    const { data: serverData } = pair.server
    const { data: agentData } = pair.agent
    certify(path('nodes'), path('node'))
    certify(path('upstream'))
    await pair.startServer([
      external(
        'KeyManager',
        'turret',
        'built-in.ts',
        `keys_path = "${serverData}/keys.json"`,
        'server/KeyManager',
        'disk',
      ),
      external(
        'NodeAttestor',
        'x509pop',
        'built-in.ts',
        `ca_bundle_path = "${path('nodes')}.pem"`,
        'server/NodeAttestor',
        'x509pop',
      ),
      external(
        'UpstreamAuthority',
        'turret',
        'built-in.ts',
        `cert_file_path = "${path('upstream')}.pem" key_file_path = "${path('upstream')}.key"`,
        'server/UpstreamAuthority',
        'disk',
      ),
    ])
    await pair.startAgent([
      external('KeyManager', 'turret', 'built-in.ts', `directory = "${agentData}"`, 'agent/KeyManager', 'disk'),
      external(
        'NodeAttestor',
        'x509pop',
        'built-in.ts',
        `private_key_path = "${path('node')}.key" certificate_path = "${path('node')}.pem"`,
        'agent/NodeAttestor',
        'x509pop',
      ),
      external('WorkloadAttestor', 'unix', 'built-in.ts', '', 'agent/WorkloadAttestor', 'unix'),
    ])
  }, 150_000)

  afterAll(() => pair.cluster.stop(), 30_000)

  test('key managers, x509pop, an upstream authority and the attestor of unix processes work together', async () => {
    const { stdout } = await pair.cluster.server(pair.server, 'agent', 'list')
    const agentId = /SPIFFE ID +: (\S+x509pop\S+)/.exec(stdout)![1]!
    await pair.entry(agentId, 'workload', '-selector', `unix:uid:${UID}`)
    const token = await pair.cluster.jwt(pair.agent, 'them')
    expect(JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())).toMatchObject({
      sub: spiffe('workload'),
    })
    expect(Object.keys(JSON.parse(readFileSync(join(pair.server.data, 'keys.json'), 'utf8')).keys).length).toBe(2)
    const validated = await pair.cluster.agent(
      pair.agent,
      'api',
      'validate',
      'jwt',
      '-audience',
      'them',
      '-svid',
      token,
    )
    expect(validated.stdout).toContain(spiffe('workload'))
  }, 60_000)

  test('plugins end with their host, however it ends, and leave no socket behind that they could remove', async () => {
    // A child is its thread's, and Go starts them from any.
    const children = (pid: number) =>
      readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
        readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
      )
    const gone = (pids: readonly number[]) =>
      eventually(async () => {
        expect(pids.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([])
      })
    const socketsOf = (log: string) => [...log.matchAll(/address=(\/\S+plugin\S+)/g)].map(([, path]) => path!)

    const agents = children(pair.agentProcess.pid!)
    expect(agents.length).toBe(3)
    const sockets = socketsOf(pair.cluster.log('agent'))
    expect(sockets.length).toBe(3)
    pair.agentProcess.kill('SIGTERM')
    await gone(agents)
    expect(sockets.filter((path) => existsSync(path))).toEqual([])
    expect(pair.cluster.log('agent')).not.toContain('plugin failed to exit gracefully')

    const servers = children(pair.serverProcess.pid!)
    expect(servers.length).toBe(3)
    pair.serverProcess.kill('SIGKILL')
    await gone(servers)
  }, 60_000)
})

/** A CA that signs itself, and a leaf below it. Files `<name>.pem` and `<name>.key`. */
function certify(ca: string, leaf?: string): void {
  const openssl = (...args: readonly string[]) => execFileSync('openssl', args, { stdio: 'ignore' })
  const key = (name: string) => [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    `${name}.key`,
  ]
  openssl('req', '-x509', '-subj', '/CN=upstream', '-days', '2', ...key(ca), '-out', `${ca}.pem`)
  if (leaf === undefined) return
  const below = ['-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-addext', 'basicConstraints=critical,CA:FALSE']
  const usage = ['-addext', 'keyUsage=critical,digitalSignature']
  openssl('req', '-x509', '-subj', '/CN=node', '-days', '2', ...below, ...usage, ...key(leaf), '-out', `${leaf}.pem`)
}
