import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AgentFiles, Cluster, eventually, exitCode, holdX509, type ServerFiles } from '../support/cluster.ts'

const cluster = new Cluster()
let server: ServerFiles

beforeAll(async () => {
  server = await cluster.serverFiles('server')
  await cluster.startServer(server)
}, 30_000)

afterAll(() => cluster.stop(), 30_000)

async function attested(
  name: string,
): Promise<{ files: AgentFiles; child: Awaited<ReturnType<Cluster['startAgent']>>; id: string }> {
  const files = cluster.agentFiles(name, server)
  const token = await cluster.token(server, name)
  const child = await cluster.startAgent(files, server, token)
  return { files, child, id: `spiffe://example.org/spire/agent/join_token/${token}` }
}

test('a workload without an entry gets nothing, and loses what it had when its entry goes', async () => {
  const { files } = await attested('lonely')
  const before = await cluster.agent(files, 'api', 'fetch', 'x509')
  expect(before).toMatchObject({
    code: 1,
    stdout: '',
    stderr: 'rpc error: code = PermissionDenied desc = no identity issued\n',
  })
  const entry = await cluster.entry(server, 'lonely', 'workload')
  const stream = await eventually(async () => {
    const held = await holdX509(files.socket)
    await eventually(async () => {
      if (held.updates.length === 0) throw held.ended() ?? new Error('no update yet')
    }, 500).catch(async (error) => {
      await held.stop()
      throw error
    })
    return held
  })
  await cluster.must(server, 'entry', 'delete', '-entryID', entry)
  const end = await eventually(async () => stream.ended() ?? Promise.reject(new Error('the stream is still open')))
  expect(end).toMatchObject({ code: 'PERMISSION_DENIED', message: 'no identity issued' })
  await stream.stop()
}, 30_000)

test('what would break the list of entries, or a certificate, is refused, and the agent goes on', async () => {
  const { files, id } = await attested('steady')
  const create = (name: string, ...more: string[]) =>
    cluster.server(
      server,
      ...['entry', 'create', '-parentID', id, '-spiffeID', `spiffe://example.org/${name}`],
      ...['-selector', `unix:uid:${process.getuid!()}`, ...more],
    )
  for (const [name, flag, value, reason] of [
    ['past', '-entryExpiry', '-5', 'expiry is out of range'],
    ['late', '-entryExpiry', '9007199254740991', 'expiry is out of range'],
    ['named', '-dns', 'example.org\n', 'disallowed rune U+000A'],
  ] as const) {
    const { code, stdout, stderr } = await create(name, `${flag}=${value}`)
    expect(code).toBe(1)
    expect(stdout + stderr).toContain(reason)
  }
  expect(await create('after')).toMatchObject({ code: 0 })
  const { stdout } = await cluster.server(server, 'entry', 'show', '-parentID', id)
  // The other one is the alias that came with the agent's join token.
  expect(
    stdout
      .match(/^SPIFFE ID .*$/gm)
      ?.map((line) => line.slice(line.lastIndexOf('/') + 1))
      .sort(),
  ).toEqual(['after', 'steady'])
  await eventually(async () => {
    const fetched = await cluster.agent(files, 'api', 'fetch', 'x509')
    if (!fetched.stdout.includes('spiffe://example.org/after')) throw new Error('not there yet')
  })
}, 30_000)

test('a join token is good once', async () => {
  const token = await cluster.token(server, 'once')
  const first = cluster.agentFiles('first', server)
  await cluster.startAgent(first, server, token)
  const second = cluster.agentFiles('second', server)
  const child = cluster.processes.start(
    'second',
    'turret-agent',
    ['run', '-config', second.config, '-joinToken', token],
    cluster.path('second.log'),
    undefined,
  )
  await eventually(async () => {
    if (!cluster.log('second').includes('join token does not exist or has already been used'))
      throw new Error('not refused yet')
  })
  child.kill('SIGTERM')
  await exitCode(child)
  expect(await cluster.must(server, 'agent', 'count')).toContain('attested agent')
}, 30_000)

test.each([
  ['ban', 'Agent is banned: removing SVID and shutting down'],
  ['evict', 'Agent failed re-attestation; removing SVID and shutting down'],
])(
  'an agent that was hit by %s ends and forgets its SVID',
  async (verb, line) => {
    const { files, child, id } = await attested(`victim-${verb}`)
    await cluster.must(server, 'agent', verb, '-spiffeID', id)
    expect(await exitCode(child)).toBe(1)
    expect(cluster.log(files.name)).toContain(line)
    expect(JSON.parse(readFileSync(`${files.data}/agent-data.json`, 'utf8'))).toMatchObject({
      svid: null,
      reattestable: false,
    })
    // It cannot come back with what it had.
    const again = cluster.processes.start(
      'again',
      'turret-agent',
      ['run', '-config', files.config],
      cluster.path('again.log'),
      undefined,
    )
    await eventually(async () => {
      if (!cluster.log('again').includes('join token was not provided')) throw new Error('not refused yet')
    })
    again.kill('SIGTERM')
    await exitCode(again)
  },
  40_000,
)
