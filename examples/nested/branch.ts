import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type AgentOptions, readAgentConfig } from '../../src/config/agent.ts'
import { expandEnv } from '../../src/config/expand-env.ts'
import { plainObject } from '../../src/config/plain.ts'
import type { PluginConfig } from '../../src/config/plugins.ts'
import { readServerConfig, type ServerOptions } from '../../src/config/server.ts'
import type { machineAuthority } from './certificates.ts'
import type { Processes, User } from './processes.ts'

/** One server and the agent below it. What the demo must know of them is read from their configuration files. */
export interface Branch {
  readonly name: string
  readonly serverFile: string
  readonly agentFile: string
  readonly server: ServerOptions
  readonly agent: AgentOptions
  readonly logs: { readonly server: string; readonly agent: string }
  /** Under whom the server runs. */
  readonly user: User
}

/** Reads `<folder>/<name>/server.conf` and `agent.conf`, from a folder each. @throws ConfigError */
export function readBranch(
  name: string,
  folders: { readonly server: string; readonly agent: string },
  demo: string,
  environment: Readonly<Record<string, string>>,
  user: User,
): Branch {
  const serverFile = join(folders.server, name, 'server.conf')
  const agentFile = join(folders.agent, name, 'agent.conf')
  const text = (file: string) => expandEnv(readFileSync(file, 'utf8'), { ...process.env, ...environment })
  return {
    name,
    serverFile,
    agentFile,
    server: readServerConfig(text(serverFile), serverFile),
    agent: readAgentConfig(text(agentFile), agentFile),
    logs: { server: join(demo, `${name}-server.log`), agent: join(demo, `${name}-agent.log`) },
    user,
  }
}

/** Starts the server of a branch and waits until it is healthy. */
export async function startServer(branch: Branch, processes: Processes, machines: Machines): Promise<void> {
  const { server, serverFile, name, user } = branch
  for (const folder of [server.dataDir, dirname(server.socketPath)]) makeFolder(folder, user)
  for (const path of pluginPaths(server.plugins, 'ca_bundle_path')) {
    makeFolder(dirname(path), user)
    if (!existsSync(path)) writeFileSync(path, machines.pem, { mode: 0o644 })
  }
  processes.start(
    `${name} server`,
    'turret-server',
    ['run', '-config', serverFile, '-expandEnv'],
    branch.logs.server,
    user,
  )
  await healthy(processes, 'turret-server', server.socketPath)
}

type Machines = Awaited<ReturnType<typeof machineAuthority>>

/** Starts the agent of a branch, gives it what its configuration says it has, and returns its SPIFFE ID. */
export async function startAgent(branch: Branch, processes: Processes, machines: Machines): Promise<string> {
  const { agent, agentFile, name } = branch
  const { trustDomain } = agent
  for (const folder of [agent.dataDir, dirname(agent.socketPath)]) makeFolder(folder, undefined)
  if (agent.bootstrap.kind === 'file' && !existsSync(agent.bootstrap.path)) {
    makeFolder(dirname(agent.bootstrap.path), undefined)
    const format = agent.bootstrap.format
    const bundle = await processes.must('turret-server', [
      'bundle',
      'show',
      '-format',
      format,
      '-socketPath',
      branch.server.socketPath,
    ])
    writeFileSync(agent.bootstrap.path, bundle)
  }
  const args = ['run', '-config', agentFile, '-expandEnv']
  let id: string
  const attestor = agent.plugins.find((plugin) => plugin.type === 'NodeAttestor' && plugin.enabled)
  if (attestor?.name === 'x509pop') {
    const data = plainObject(attestor.data)
    const certificate = await machines.issue(name)
    writeFileSync(String(data.certificate_path), certificate.certificatePem)
    writeFileSync(String(data.private_key_path), certificate.privateKeyPem, { mode: 0o600 })
    id = `spiffe://${trustDomain}/spire/agent/x509pop/${certificate.fingerprint}`
  } else {
    id = `spiffe://${trustDomain}/${name}/agent`
    const out = await processes.must('turret-server', [
      'token',
      'generate',
      '-spiffeID',
      id,
      '-socketPath',
      branch.server.socketPath,
    ])
    args.push('-joinToken', /Token: (\S+)/.exec(out)![1]!)
  }
  processes.start(`${name} agent`, 'turret-agent', args, branch.logs.agent, undefined)
  await healthy(processes, 'turret-agent', agent.socketPath)
  return id
}

const HEALTHY_WITHIN_MS = 20_000

async function healthy(processes: Processes, program: 'turret-server' | 'turret-agent', socket: string): Promise<void> {
  const deadline = performance.now() + HEALTHY_WITHIN_MS
  for (;;) {
    if (existsSync(socket) && (await processes.run(program, ['healthcheck', '-socketPath', socket])).code === 0) return
    const dead = processes.obituary()
    if (dead) throw new Error(dead)
    if (performance.now() > deadline) throw new Error(`${program} at ${socket} did not get healthy within 20 s`)
    await new Promise((done) => setTimeout(done, 50))
  }
}

function pluginPaths(plugins: readonly PluginConfig[], key: string): string[] {
  return plugins.flatMap((plugin) => {
    const value = plainObject(plugin.data)[key]
    return typeof value === 'string' ? [value] : []
  })
}

export function makeFolder(path: string, user: User): void {
  mkdirSync(path, { recursive: true, mode: 0o755 })
  if (user !== undefined) chownSync(path, user, user)
}
