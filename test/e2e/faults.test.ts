import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { X509BundlesRequest, X509BundlesResponse } from '../../proto/spiffe/workload.ts'
import { connect } from '../../src/transport/grpc-client.ts'
import { Cluster, eventually } from '../support/cluster.ts'
import { commandOf, programOf, type Runtime, skipNote } from '../support/runtimes.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const clusters: Cluster[] = []
afterAll(async () => {
  for (const cluster of clusters) await cluster.stop()
}, 30_000)

/** The program itself, with bugs in two of its calls, and work that fails with nobody waiting whenever SIGWINCH comes. */
const faulty = (program: string, table: string, unary: string, stream: string) => `
import * as tables from ${JSON.stringify(join(ROOT, table))}
const bug = () => Object.assign(new TypeError('a bug'), { request: { token: 'the-secret' } })
const rowOf = (path) => Object.values(tables).filter(Array.isArray).flat().filter((row) => row.path.endsWith(path))
for (const row of rowOf(${JSON.stringify(unary)})) row.handle = () => { throw bug() }
for (const row of rowOf(${JSON.stringify(stream)})) {
  const { handle } = row
  row.handle = async function* (...args) {
    for await (const answer of handle(...args)) {
      yield answer
      throw bug()
    }
  }
}
process.on('SIGWINCH', () => { Promise.reject(bug()); Promise.reject(Object.create(null)) })
await import(${JSON.stringify(join(ROOT, 'src/cli', program, 'main.ts'))})
`

const BUNDLES = {
  path: '/SpiffeWorkloadAPI/FetchX509Bundles',
  request: X509BundlesRequest,
  response: X509BundlesResponse,
}

for (const runtime of ['node', 'deno', 'bun'] satisfies Runtime[]) {
  test.skipIf(programOf(runtime) === undefined)(
    `a bug in one call, or in work that nobody waits for, is no end of a server or an agent on ${runtime}, and prints no secret${skipNote(runtime)}`,
    async () => {
      const cluster = new Cluster()
      clusters.push(cluster)
      const [program, ...switches] = commandOf(runtime)
      // Deno looks for it beside the script.
      if (runtime === 'deno') switches.push('--config', join(ROOT, 'deno.json'))
      const start = (name: string, script: string, args: readonly string[]) => {
        const path = cluster.path(`${name}.ts`)
        writeFileSync(path, script)
        return cluster.processes.start(
          name,
          program,
          [...switches, path, 'run', ...args],
          cluster.path(`${name}.log`),
          undefined,
        )
      }
      const files = await cluster.serverFiles('server')
      const server = start(
        'server',
        faulty('server', 'src/server/methods.ts', '/CountEntries', '/SyncAuthorizedEntries'),
        ['-config', files.config],
      )
      const healthy = async () => {
        for (const { code, stderr } of [
          await cluster.server(files, 'healthcheck'),
          await cluster.agent(agentFiles, 'healthcheck'),
        ])
          if (code !== 0) throw new Error(stderr)
      }
      const agentFiles = cluster.agentFiles('agent', files)
      await eventually(async () => expect((await cluster.server(files, 'healthcheck')).code).toBe(0))
      writeFileSync(cluster.path('server-bundle.pem'), await cluster.must(files, 'bundle', 'show'))
      await cluster.entry(files, 'agent', 'workload')
      const agent = start('agent', faulty('agent', 'agent/workload-api.ts', '/FetchJWTSVID', '/FetchX509Bundles'), [
        '-config',
        agentFiles.config,
        '-joinToken',
        await cluster.token(files, 'agent'),
      ])
      await eventually(healthy)
      const logs = () => cluster.log('server') + cluster.log('agent')
      const pids = [server.pid, agent.pid]

      const count = await cluster.server(files, 'entry', 'count')
      expect(count.code).toBe(1)
      expect(count.stderr).toContain('internal error')
      const jwt = await cluster.agent(agentFiles, 'api', 'fetch', 'jwt', '-audience', 'a')
      expect(jwt.stderr).toContain('internal error')

      const channel = await connect({ target: `unix://${agentFiles.socket}` })
      const metadata = { 'workload.spiffe.io': 'true' }
      let answers = 0
      const follow = async () => {
        for await (const _ of channel.serverStream(BUNDLES, {}, { metadata })) answers += 1
      }
      await expect(follow()).rejects.toMatchObject({ code: 'INTERNAL', message: 'internal error' })
      expect(answers).toBe(1)
      channel.close()

      for (const child of [server, agent]) child.kill('SIGWINCH')
      await eventually(async () => {
        for (const name of ['server', 'agent']) {
          expect(cluster.log(name)).toMatch(/msg="Unexpected error" error="a bug" stack=/)
          expect(cluster.log(name)).toMatch(/msg="Unexpected error" error=object/)
        }
      })
      await eventually(healthy)
      expect((await cluster.agent(agentFiles, 'api', 'fetch', 'x509')).code).toBe(0)
      expect([server.exitCode, agent.exitCode, server.pid, agent.pid]).toEqual([null, null, ...pids])
      expect(logs() + count.stderr + jwt.stderr).not.toContain('the-secret')
    },
    60_000,
  )
}
