import type { ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { afterAll, expect, test } from 'vitest'
import { Cluster, exitCode } from '../support/cluster.ts'
import { programOf, type Runtime, skipNote } from '../support/runtimes.ts'

const clusters: Cluster[] = []
afterAll(async () => {
  for (const cluster of clusters) await cluster.stop()
}, 30_000)

/** Ports on which a process listens over TCP. */
function listening(pid: number): string[] {
  const own = new Set<string>()
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      own.add(/^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? '')
    } catch {
      // Closed meanwhile.
    }
  }
  return ['tcp', 'tcp6']
    .flatMap((family) => readFileSync(`/proc/${pid}/net/${family}`, 'utf8').split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => columns[3] === '0A' && own.has(columns[9]!))
    .map((columns) => columns[1]!)
    .sort()
}

const HARMLESS = ['SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGCHLD', 'SIGURG', 'SIGCONT', 'SIGPIPE'] as const

for (const runtime of ['node', 'deno', 'bun'] satisfies Runtime[]) {
  test.skipIf(programOf(runtime) === undefined)(
    `no signal opens a port or ends a server or an agent on ${runtime}, but those that are to end it${skipNote(runtime)}`,
    async () => {
      const cluster = new Cluster({ TURRET_RUNTIME: runtime })
      clusters.push(cluster)
      const files = await cluster.serverFiles('server')
      const server = await cluster.startServer(files)
      const agentFiles = cluster.agentFiles('agent', files)
      const agent = await cluster.startAgent(agentFiles, files, await cluster.token(files, 'agent'))
      const before = new Map<ChildProcess, string[]>([server, agent].map((child) => [child, listening(child.pid!)]))
      expect(before.get(server)).toHaveLength(1)
      // A crash leaves no file with the keys in it.
      for (const { pid } of before.keys()) {
        expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/^Max core file size +0 +/m)
      }
      for (const signal of HARMLESS) {
        for (const child of [server, agent]) child.kill(signal)
        // Both answer again: they have got over it.
        expect((await cluster.server(files, 'healthcheck')).code).toBe(0)
        expect((await cluster.agent(agentFiles, 'healthcheck')).code).toBe(0)
        for (const [child, ports] of before) expect(listening(child.pid!)).toEqual(ports)
      }
      for (const child of [agent, server]) child.kill('SIGTERM')
      expect(await Promise.all([exitCode(agent), exitCode(server)])).toEqual([0, 0])
    },
    60_000,
  )
}

test('a server does not start with a debugger in its environment', async () => {
  const cluster = new Cluster({ NODE_OPTIONS: '--report-on-signal' })
  clusters.push(cluster)
  const files = await cluster.serverFiles('server')
  const { code, stderr } = await cluster.processes.run('turret-server', ['run', '-config', files.config])
  expect(code).toBe(1)
  expect(stderr).toContain('--report-on-signal in the variable NODE_OPTIONS')
})
