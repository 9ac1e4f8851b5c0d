import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Cluster, eventually, exitCode, holdX509, type ServerFiles, spiffe } from '../support/cluster.ts'
import { havePostgres, PostgresServer } from '../support/postgres/postgres.ts'

if (!havePostgres) console.warn('PostgreSQL is not installed: its tests are skipped')

describe.skipIf(!havePostgres)('two servers on one PostgreSQL, each with keys of its own', () => {
  const cluster = new Cluster()
  let database: PostgresServer
  let one: ServerFiles
  let two: ServerFiles

  beforeAll(async () => {
    database = await PostgresServer.start()
    one = await replica('one')
    two = await replica('two')
  }, 60_000)
  afterAll(async () => {
    await cluster.stop()
    await database?.stop()
  }, 30_000)

  async function replica(name: string): Promise<ServerFiles> {
    const files = await cluster.serverFiles(name)
    const before = `database_type = "sqlite3" connection_string = "${files.data}/datastore.sqlite3"`
    const text = readFileSync(files.config, 'utf8')
    if (!text.includes(before)) throw new Error('the configuration has changed')
    const after = `database_type = "postgres" connection_string = ${JSON.stringify(database.connection())}`
    writeFileSync(files.config, text.replace(before, after))
    return files
  }

  test('they start together; what is done at one is with the agents of the other within seconds', async () => {
    const [first] = await Promise.all([cluster.startServer(one), cluster.startServer(two)])
    // Only the feed is quick enough: the agent asks by itself once a minute.
    const agent = cluster.agentFiles('agent', two, { agent: 'experimental { sync_interval = "1m" }' })
    await cluster.startAgent(agent, two, await cluster.token(one, 'node'))
    await cluster.entry(two, 'node', 'first')
    await cluster.jwt(agent, 'anybody')
    const stream = await holdX509(agent.socket)
    const ids = () => (stream.updates.at(-1)?.svids ?? []).map(({ spiffeId }) => spiffeId)

    const entryId = await cluster.entry(one, 'node', 'workload')
    const created = performance.now()
    await eventually(async () => expect(ids()).toContain(spiffe('workload')))
    expect(performance.now() - created).toBeLessThan(10_000)

    // Roots of both, at both: whoever signs is trusted.
    const bundles = await Promise.all([one, two].map((server) => cluster.must(server, 'bundle', 'show')))
    expect(bundles[0]!.match(/BEGIN CERTIFICATE/g)).toHaveLength(2)
    expect(bundles[1]).toBe(bundles[0])

    await cluster.must(one, 'entry', 'delete', '-entryID', entryId)
    await eventually(async () => expect(ids()).toEqual([spiffe('first')]))
    await stream.stop()

    // A ban at the one holds at the other; the one may end, the other goes on.
    const [agentId] = /spiffe:\S+\/join_token\/\S+/.exec(await cluster.must(one, 'agent', 'list'))!
    await cluster.must(one, 'agent', 'ban', '-spiffeID', agentId!)
    first.kill('SIGTERM')
    expect(await exitCode(first)).toBe(0)
    let asked = 0
    await eventually(async () => {
      asked += 1
      const { code } = await cluster.agent(agent, 'api', 'fetch', 'jwt', '-audience', `new-${asked}`)
      expect(code).not.toBe(0)
    })
    expect(await cluster.must(two, 'agent', 'list', '-banned', 'true')).toContain(agentId!)

    for (const name of ['one', 'two']) expect(cluster.log(name)).not.toContain('pass word')
  }, 60_000)

  test('a server outlives its database, refuses what it cannot write, and goes on when it is back', async () => {
    await database.halt()
    const create = [
      'entry',
      'create',
      '-parentID',
      spiffe('node'),
      '-spiffeID',
      spiffe('back'),
      '-selector',
      'unix:uid:0',
    ]
    const { code, stdout, stderr } = await cluster.server(two, ...create)
    expect(code).not.toBe(0)
    expect(stdout + stderr).not.toContain('pass word')
    await eventually(async () => expect(cluster.log('two')).toContain('Could not read what other servers wrote'))
    await database.resume()
    expect(await eventually(() => cluster.must(two, ...create))).toContain('Entry ID')
    expect(cluster.log('two')).not.toContain('pass word')
  }, 60_000)
})
