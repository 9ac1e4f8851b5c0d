import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AgentFiles, Cluster, eventually, exitCode, holdX509, type ServerFiles } from '../support/cluster.ts'

const cluster = new Cluster()
let server: ServerFiles
let agent: AgentFiles
let serverProcess: Awaited<ReturnType<Cluster['startServer']>>
let agentProcess: typeof serverProcess

beforeAll(async () => {
  server = await cluster.serverFiles('server')
  serverProcess = await cluster.startServer(server)
  agent = cluster.agentFiles('agent', server)
  agentProcess = await cluster.startAgent(agent, server, await cluster.token(server, 'agent'))
  await cluster.entry(server, 'agent', 'workload')
}, 60_000)

afterAll(() => cluster.stop(), 30_000)

test('a restarted server goes on with its authorities, and its agents and workloads notice nothing', async () => {
  const stream = await holdX509(agent.socket)
  await eventually(async () => {
    if (stream.updates.length === 0) throw new Error('no update yet')
  })
  const before = await cluster.must(server, 'bundle', 'show')
  const token = await cluster.jwt(agent, 'them')
  serverProcess.kill('SIGTERM')
  expect(await exitCode(serverProcess)).toBe(0)
  expect(cluster.log('server')).toContain('Server stopped gracefully')

  // While the server is away the agent serves what it has.
  const served = await cluster.agent(agent, 'api', 'fetch', 'x509')
  expect(served.code).toBe(0)
  const valid = await cluster.agent(agent, 'api', 'validate', 'jwt', '-audience', 'them', '-svid', token)
  expect(valid.code).toBe(0)

  serverProcess = await cluster.startServer(server)
  expect(await cluster.must(server, 'bundle', 'show')).toBe(before)
  expect(await cluster.must(server, 'entry', 'count')).toBe('2 registration entries\n')
  expect(await cluster.must(server, 'agent', 'count')).toBe('1 attested agent\n')
  // A new entry reaches the agent again, and so the stream that was open all the time.
  await cluster.entry(server, 'agent', 'second')
  await eventually(async () => {
    const last = stream.updates[stream.updates.length - 1]!
    if (last.svids.length !== 2) throw new Error('the new identity is not there yet')
  })
  expect(stream.ended()).toBeUndefined()
  await stream.stop()
}, 60_000)

test('a restarted agent keeps its SVID and does not attest again', async () => {
  const state = readFileSync(`${agent.data}/agent-data.json`, 'utf8')
  agentProcess.kill('SIGTERM')
  expect(await exitCode(agentProcess)).toBe(0)
  agentProcess = await cluster.startAgent(agent, server)
  expect(JSON.parse(readFileSync(`${agent.data}/agent-data.json`, 'utf8')).svid).toEqual(JSON.parse(state).svid)
  expect(cluster.log('agent').match(/Node attestation was successful/g)).toHaveLength(1)
  expect((await cluster.agent(agent, 'api', 'fetch', 'x509')).code).toBe(0)
}, 30_000)
