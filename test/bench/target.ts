import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../examples/nested/free-ports.ts'

const run = promisify(execFile)
const TRUST_DOMAIN = 'example.org'
const START_TIMEOUT_MS = 20_000

/** Commands of a server and an agent that take SPIRE's configuration and flags. */
export interface Programs {
  readonly name: string
  readonly server: string
  readonly agent: string
}

/** A running server or agent. */
export interface Running {
  readonly pid: number
  /** Path of the socket that administrators or workloads use. */
  readonly socket: string
  /** From the start of the process until its health check said 200. */
  readonly startSeconds: number
  rssMiB(): number
  stop(): Promise<void>
}

/** A running server, with where its TCP listener is. */
export interface RunningServer extends Running {
  readonly address: string
}

/** Starts a server on loopback with an empty SQLite database below `folder`, without rate limits. */
export async function startServer(programs: Programs, folder: string): Promise<RunningServer> {
  mkdirSync(folder, { recursive: true })
  const [port, healthPort] = [await freePort(), await freePort()]
  const socket = join(folder, 'server.sock')
  const config = join(folder, 'server.conf')
  writeFileSync(
    config,
    `server {
  bind_address = "127.0.0.1"
  bind_port = ${port}
  trust_domain = "${TRUST_DOMAIN}"
  data_dir = "${folder}/server"
  socket_path = "${socket}"
  log_level = "WARN"
  ratelimit { attestation = false signing = false }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${folder}/datastore.sqlite3" } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
}
${healthChecks(healthPort)}`,
  )
  const started = await start(programs.server, ['run', '-config', config], folder, 'server', healthPort)
  return { ...started, socket, address: `127.0.0.1:${port}` }
}

/** Starts an agent below a server, with one entry that the load generator of this user matches. */
export async function startAgent(programs: Programs, server: RunningServer, folder: string): Promise<Running> {
  const admin = ['-socketPath', server.socket]
  const parent = `spiffe://${TRUST_DOMAIN}/bench-agent`
  const { stdout } = await run(programs.server, ['token', 'generate', ...admin, '-spiffeID', parent])
  const token = /^Token: (\S+)/m.exec(stdout)?.[1]
  if (token === undefined) throw new Error(`${programs.name}: no join token in ${JSON.stringify(stdout)}`)
  const workload = [
    '-spiffeID',
    `spiffe://${TRUST_DOMAIN}/bench-workload`,
    '-selector',
    `unix:uid:${process.getuid!()}`,
  ]
  await run(programs.server, ['entry', 'create', ...admin, '-parentID', parent, ...workload])
  const healthPort = await freePort()
  const socket = join(folder, 'agent.sock')
  const config = join(folder, 'agent.conf')
  writeFileSync(
    config,
    `agent {
  data_dir = "${folder}/agent"
  log_level = "WARN"
  server_address = "127.0.0.1"
  server_port = ${server.address.split(':')[1]}
  socket_path = "${socket}"
  trust_domain = "${TRUST_DOMAIN}"
  insecure_bootstrap = true
  join_token = "${token}"
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
${healthChecks(healthPort)}`,
  )
  const started = await start(programs.agent, ['run', '-config', config], folder, 'agent', healthPort)
  await firstSvid(programs, socket)
  return { ...started, socket }
}

function healthChecks(port: number): string {
  return `health_checks {
  listener_enabled = true
  bind_address = "127.0.0.1"
  bind_port = "${port}"
  live_path = "/live"
  ready_path = "/ready"
}
`
}

async function start(program: string, args: string[], folder: string, name: string, healthPort: number) {
  const logPath = join(folder, `${name}.log`)
  const log = openSync(logPath, 'a')
  const startedAt = performance.now()
  const child = spawn(program, args, { stdio: ['ignore', log, log] })
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  while (!(await isReady(healthPort))) {
    if (child.exitCode !== null || child.pid === undefined) {
      throw new Error(`${program} did not start: ${readFileSync(logPath, 'utf8')}`)
    }
    if (performance.now() - startedAt > START_TIMEOUT_MS) {
      child.kill('SIGKILL')
      throw new Error(`${program} was not healthy in time: ${readFileSync(logPath, 'utf8')}`)
    }
    await pause(5)
  }
  return {
    pid: child.pid!,
    startSeconds: (performance.now() - startedAt) / 1000,
    rssMiB: () => residentMiB(child.pid!),
    stop: () => end(child, ended),
  }
}

async function isReady(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/ready`)).status === 200
  } catch {
    return false // Nobody listens yet.
  }
}

async function end(child: ChildProcess, ended: Promise<void>): Promise<void> {
  child.kill('SIGTERM')
  const forced = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(forced)
}

/** Waits until the workload's entry has reached the agent: SPIRE's agent asks every five seconds. */
async function firstSvid(programs: Programs, socket: string): Promise<void> {
  const until = performance.now() + START_TIMEOUT_MS
  for (;;) {
    try {
      await run(programs.agent, ['api', 'fetch', 'x509', '-socketPath', socket])
      return
    } catch (error) {
      if (performance.now() > until) throw error
      await pause(200)
    }
  }
}

function residentMiB(pid: number): number {
  const line = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1] ?? 0) / 1024
}
