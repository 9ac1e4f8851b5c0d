import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, eventually, exitCode } from '../support/cluster.ts'

/**
 * What SPIRE 1.15 logs at DEBUG in the nested tutorial, and ours of the same: whoever follows a page that was written for it sees what it
 * promises. `log-lines.tsv` has every line of SPIRE's with the names of its fields, and why we leave it out where we do.
 */

interface Line {
  readonly level: string
  readonly message: string
  readonly fields: readonly string[]
}

interface Wanted extends Line {
  readonly process: string
  readonly leftOut: string
}

const WANTED: readonly Wanted[] = readFileSync(join(import.meta.dirname, 'log-lines.tsv'), 'utf8')
  .trim()
  .split('\n')
  .slice(1)
  .map((row) => {
    const [process, level, message, fields, leftOut = ''] = row.split('\t')
    return { process: process!, level: level!, message: message!, fields: fields ? fields.split(',') : [], leftOut }
  })

const cluster = new Cluster()
const logs = new Map<string, readonly Line[]>()

beforeAll(async () => {
  const settings = { server: 'log_format = "json"' }
  const pair = async (name: string, plugins: string) => {
    const server = await cluster.serverFiles(`${name}-server`, { ...settings, plugins })
    const serverProcess = await cluster.startServer(server)
    const agent = cluster.agentFiles(`${name}-agent`, server, { agent: 'log_format = "json"' })
    const agentProcess = await cluster.startAgent(agent, server, await cluster.token(server, `${name}/agent`))
    return { server, agent, processes: [agentProcess, serverProcess] }
  }
  const root = await pair('root', '')
  await cluster.entry(root.server, 'root/agent', 'nested', '-downstream')
  const nested = await pair(
    'nested',
    `UpstreamAuthority "spire" { plugin_data { server_address = "127.0.0.1" server_port = "${root.server.port}" workload_api_socket = "${root.agent.socket}" } }`,
  )
  // Nobody is registered yet.
  await cluster.agent(nested.agent, 'api', 'fetch', 'x509')
  await cluster.entry(nested.server, 'nested/agent', 'workload')
  await eventually(async () => expect((await cluster.agent(nested.agent, 'api', 'fetch', 'x509')).code).toBe(0))
  const token = await cluster.jwt(nested.agent, 'them')
  for (const audience of ['them', 'others'])
    await cluster.agent(nested.agent, 'api', 'validate', 'jwt', '-audience', audience, '-svid', token)
  // A second key of JWT-SVIDs: a bundle that the agents hold changes.
  await cluster.must(root.server, 'localauthority', 'jwt', 'prepare')
  await eventually(async () => {
    for (const name of ['nested-agent', 'root-agent']) expect(cluster.log(name)).toContain('Bundle updated')
  })
  for (const one of [...nested.processes, ...root.processes]) {
    one.kill('SIGTERM')
    await exitCode(one)
  }
  for (const [process, name] of [
    ['root server', 'root-server'],
    ['agent above the nested servers', 'root-agent'],
    ['nested server', 'nested-server'],
    ['agent', 'nested-agent'],
  ] as const)
    logs.set(process, linesOf(cluster.log(name)))
}, 60_000)

afterAll(() => cluster.stop(), 30_000)

function linesOf(log: string): readonly Line[] {
  return log
    .trim()
    .split('\n')
    .map((text) => {
      const { level, msg, time: _, ...fields } = JSON.parse(text)
      return { level, message: msg, fields: Object.keys(fields) }
    })
}

test.each(['root server', 'agent above the nested servers', 'nested server', 'agent'])(
  'the %s tells what SPIRE tells',
  (process) => {
    const own = logs.get(process)!
    const missing = WANTED.filter((line) => line.process === process && line.leftOut === '').filter(
      ({ level, message, fields }) =>
        !own.some(
          (line) =>
            line.level === level && line.message === message && fields.every((name) => line.fields.includes(name)),
        ),
    )
    const near = missing.map(({ level, message, fields }) => ({
      level,
      message,
      fields: fields.join(','),
      ours: own.filter((line) => line.message === message).map((line) => `${line.level} ${line.fields.join(',')}`)[0],
    }))
    expect(near).toEqual([])
  },
)

test('few lines are left out, each with its reason', () => {
  expect(WANTED.filter(({ leftOut }) => leftOut === '').length).toBeGreaterThanOrEqual(130)
})
