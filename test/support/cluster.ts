import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../examples/nested/free-ports.ts'
import { type Output, Processes } from '../../examples/nested/processes.ts'
import { X509SVIDRequest, X509SVIDResponse } from '../../proto/spiffe/workload.ts'
import { connect } from '../../src/transport/grpc-client.ts'

export const TRUST_DOMAIN = 'example.org'
export const UID = process.getuid!()

export interface ServerFiles {
  readonly name: string
  readonly port: number
  readonly socket: string
  readonly config: string
  readonly data: string
}

export interface AgentFiles {
  readonly name: string
  readonly socket: string
  readonly config: string
  readonly data: string
}

export interface ServerSettings {
  /** More lines of the `server` block. */
  readonly server?: string
  /** More plugins. */
  readonly plugins?: string
  readonly keyManager?: string
}

/** Real servers and agents in a folder of their own, ended and removed with the test. */
export class Cluster {
  readonly folder = mkdtempSync(join(tmpdir(), 'turret-e2e-'))
  readonly processes: Processes

  /** @param environment of its processes, beside ours */
  constructor(environment: Readonly<Record<string, string>> = {}) {
    this.processes = new Processes(environment)
  }

  async stop(): Promise<void> {
    await this.processes.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  log(name: string): string {
    const file = this.path(`${name}.log`)
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  async serverFiles(name: string, settings: ServerSettings = {}): Promise<ServerFiles> {
    const port = await freePort()
    const data = this.path(`${name}-data`)
    const socket = this.path(`${name}.sock`)
    const config = this.path(`${name}.conf`)
    writeFileSync(
      config,
      `server {
  bind_address = "127.0.0.1"
  bind_port = "${port}"
  socket_path = "${socket}"
  trust_domain = "${TRUST_DOMAIN}"
  data_dir = "${data}"
  log_level = "DEBUG"
  ${settings.server ?? ''}
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${data}/datastore.sqlite3" } }
  ${settings.keyManager ?? `KeyManager "disk" { plugin_data { keys_path = "${data}/keys.json" } }`}
  NodeAttestor "join_token" { plugin_data {} }
  ${settings.plugins ?? ''}
}
`,
    )
    return { name, port, socket, config, data }
  }

  /** Starts a server and waits until it is healthy. @returns its process */
  async startServer(files: ServerFiles): Promise<ChildProcess> {
    const child = this.processes.start(
      files.name,
      'turret-server',
      ['run', '-config', files.config],
      this.path(`${files.name}.log`),
      undefined,
    )
    await this.#healthy(files.name, child, () => this.server(files, 'healthcheck'))
    return child
  }

  agentFiles(
    name: string,
    server: ServerFiles,
    settings: {
      readonly agent?: string
      readonly keyManager?: string
      readonly nodeAttestor?: string
      /** More plugins. */
      readonly plugins?: string
    } = {},
  ): AgentFiles {
    const data = this.path(`${name}-data`)
    const socket = this.path(`${name}.sock`)
    const config = this.path(`${name}.conf`)
    const address = settings.agent?.includes('server_url')
      ? ''
      : `server_address = "127.0.0.1"\n  server_port = "${server.port}"`
    writeFileSync(
      config,
      `agent {
  data_dir = "${data}"
  ${address}
  socket_path = "${socket}"
  trust_bundle_path = "${this.path(`${server.name}-bundle.pem`)}"
  trust_domain = "${TRUST_DOMAIN}"
  log_level = "DEBUG"
  ${settings.agent ?? ''}
}
plugins {
  ${settings.nodeAttestor ?? 'NodeAttestor "join_token" { plugin_data {} }'}
  ${settings.keyManager ?? `KeyManager "disk" { plugin_data { directory = "${data}" } }`}
  WorkloadAttestor "unix" { plugin_data {} }
  ${settings.plugins ?? ''}
}
`,
    )
    return { name, socket, config, data }
  }

  /** Starts an agent with a join token, and waits until it serves workloads. */
  async startAgent(files: AgentFiles, server: ServerFiles, token?: string): Promise<ChildProcess> {
    writeFileSync(this.path(`${server.name}-bundle.pem`), await this.must(server, 'bundle', 'show'))
    const args = ['run', '-config', files.config, ...(token === undefined ? [] : ['-joinToken', token])]
    const child = this.processes.start(files.name, 'turret-agent', args, this.path(`${files.name}.log`), undefined)
    await this.#healthy(files.name, child, () => this.agent(files, 'healthcheck'))
    return child
  }

  async token(server: ServerFiles, id: string): Promise<string> {
    return /Token: (\S+)/.exec(await this.must(server, 'token', 'generate', '-spiffeID', spiffe(id)))![1]!
  }

  /** A server with an agent named `<name>/agent` below it. */
  async startPair(name: string, settings: ServerSettings = {}): Promise<{ server: ServerFiles; agent: AgentFiles }> {
    const server = await this.serverFiles(`${name}-server`, settings)
    await this.startServer(server)
    const agent = this.agentFiles(`${name}-agent`, server)
    await this.startAgent(agent, server, await this.token(server, `${name}/agent`))
    return { server, agent }
  }

  /** Creates an entry for processes of this user. @returns its id */
  async entry(server: ServerFiles, parent: string, id: string, ...more: readonly string[]): Promise<string> {
    const args = [
      'entry',
      'create',
      '-parentID',
      spiffe(parent),
      '-spiffeID',
      spiffe(id),
      '-selector',
      `unix:uid:${UID}`,
      ...more,
    ]
    return /Entry ID +: (\S+)/.exec(await this.must(server, ...args))![1]!
  }

  server(files: ServerFiles, ...args: readonly string[]): Promise<Output> {
    return this.processes.run('turret-server', [...args, '-socketPath', files.socket])
  }

  must(files: ServerFiles, ...args: readonly string[]): Promise<string> {
    return this.processes.must('turret-server', [...args, '-socketPath', files.socket])
  }

  agent(files: AgentFiles, ...args: readonly string[]): Promise<Output> {
    return this.processes.run('turret-agent', [...args, '-socketPath', files.socket])
  }

  /** A JWT-SVID for an audience, as soon as one is issued. */
  async jwt(files: AgentFiles, audience: string): Promise<string> {
    const { stdout } = await eventually(async () => {
      const output = await this.agent(files, 'api', 'fetch', 'jwt', '-audience', audience)
      if (output.code !== 0) throw new Error(output.stderr)
      return output
    })
    return /\n\t(eyJ\S+)/.exec(stdout)![1]!
  }

  async #healthy(name: string, child: ChildProcess, check: () => Promise<Output>): Promise<void> {
    await eventually(async () => {
      if (child.exitCode !== null) throw new Final(`${name} ended: ${this.log(name).split('\n').slice(-4).join('\n')}`)
      const { code, stderr } = await check()
      if (code !== 0) throw new Error(`${name} is not healthy: ${stderr}`)
    })
  }
}

/** Ends the trying: no later try can mend it. */
export class Final extends Error {}

/** Tries until it works, with a deadline. What is waited for is another process: there is no clock to turn. */
export async function eventually<T>(attempt: () => Promise<T>, withinMs = 20_000): Promise<T> {
  const deadline = performance.now() + withinMs
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (error instanceof Final || performance.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
}

export function spiffe(path: string): string {
  return `spiffe://${TRUST_DOMAIN}/${path}`
}

const FETCH_X509_SVID = {
  path: '/SpiffeWorkloadAPI/FetchX509SVID',
  request: X509SVIDRequest,
  response: X509SVIDResponse,
}

/** Holds an X.509-SVID stream open like a workload. */
export async function holdX509(socket: string): Promise<{
  readonly updates: X509SVIDResponse[]
  /** Why the stream ended, if it did. */
  ended(): unknown
  stop(): Promise<void>
}> {
  const channel = await connect({ target: `unix://${socket}` })
  const stop = new AbortController()
  const updates: X509SVIDResponse[] = []
  let end: unknown
  const reading = (async () => {
    try {
      const metadata = { 'workload.spiffe.io': 'true' }
      for await (const update of channel.serverStream(FETCH_X509_SVID, {}, { metadata, signal: stop.signal }))
        updates.push(update)
      end = new Error('the stream ended')
    } catch (error) {
      end = error
    }
  })()
  return {
    updates,
    ended: () => end,
    async stop() {
      stop.abort()
      await reading
      channel.close()
    },
  }
}

/** Resolves with the exit code of a process. */
export function exitCode(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode)
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)))
}
