import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, eventually, holdX509, type ServerFiles, spiffe } from '../support/cluster.ts'

// Two servers on one SQLite file: what one writes, the other and its agents know.

const cluster = new Cluster()
let one: ServerFiles
let two: ServerFiles

beforeAll(async () => {
  one = await cluster.serverFiles('one')
  two = await cluster.serverFiles('two')
  writeFileSync(two.config, readFileSync(two.config, 'utf8').replace(`${two.data}/datastore`, `${one.data}/datastore`))
  await cluster.startServer(one)
  await cluster.startServer(two)
}, 60_000)
afterAll(() => cluster.stop(), 30_000)

test('an entry made at one is with the agents of the other within seconds, and a ban at one holds at the other', async () => {
  // Only the feed is quick enough: the agent asks by itself once a minute.
  const agent = cluster.agentFiles('agent', two, { agent: 'experimental { sync_interval = "1m" }' })
  await cluster.startAgent(agent, two, await cluster.token(one, 'node'))
  await cluster.entry(two, 'node', 'first')
  await cluster.jwt(agent, 'anybody')
  const stream = await holdX509(agent.socket)
  await cluster.entry(one, 'node', 'workload')
  await eventually(async () => {
    expect(stream.updates.at(-1)?.svids.map(({ spiffeId }) => spiffeId)).toContain(spiffe('workload'))
  }, 10_000)
  await stream.stop()

  const bundles = await Promise.all([one, two].map((server) => cluster.must(server, 'bundle', 'show')))
  expect(bundles[0]!.match(/BEGIN CERTIFICATE/g)).toHaveLength(2)
  expect(bundles[1]).toBe(bundles[0])

  const [agentId] = /spiffe:\S+\/join_token\/\S+/.exec(await cluster.must(one, 'agent', 'list'))!
  await cluster.must(one, 'agent', 'ban', '-spiffeID', agentId!)
  let asked = 0
  await eventually(async () => {
    asked += 1
    expect((await cluster.agent(agent, 'api', 'fetch', 'jwt', '-audience', `new-${asked}`)).code).not.toBe(0)
  }, 10_000)
}, 60_000)
