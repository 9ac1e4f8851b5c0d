import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, eventually, exitCode, holdX509, type ServerFiles, spiffe, UID } from '../support/cluster.ts'
import { programOf, type Runtime, skipNote } from '../support/runtimes.ts'

const inside = new Cluster()
let server: ServerFiles

beforeAll(async () => {
  server = await inside.serverFiles('server')
  await inside.startServer(server)
}, 30_000)
afterAll(() => inside.stop(), 30_000)

for (const runtime of ['deno', 'bun'] satisfies Runtime[]) {
  test.skipIf(programOf(runtime) === undefined)(
    `an agent on ${runtime} serves workloads of a server on Node, hears of news, and stops when told${skipNote(runtime)}`,
    async () => {
      const there = new Cluster({ TURRET_RUNTIME: runtime })
      try {
        const name = `${runtime}/agent`
        const agent = there.agentFiles('agent', server)
        const child = await there.startAgent(agent, server, await inside.token(server, name))
        const entry = await inside.entry(server, name, `${runtime}/workload`)
        const token = await inside.jwt(agent, 'them')
        const validated = await inside.agent(agent, 'api', 'validate', 'jwt', '-audience', 'them', '-svid', token)
        expect(validated.stdout).toContain(spiffe(`${runtime}/workload`))

        const stream = await holdX509(agent.socket)
        await eventually(async () => expect(stream.updates).toHaveLength(1))
        const names = ['-parentID', spiffe(name), '-spiffeID', spiffe(`${runtime}/renamed`)]
        await inside.must(server, 'entry', 'update', '-entryID', entry, ...names, '-selector', `unix:uid:${UID}`)
        await eventually(async () => expect(stream.updates.at(-1)?.svids[0]?.spiffeId).toBe(names[3]))

        child.kill('SIGTERM')
        expect(await exitCode(child)).toBe(0)
        expect(there.log('agent')).toContain('Agent stopped gracefully')
        await stream.stop()
      } finally {
        await there.stop()
      }
    },
    60_000,
  )
}
