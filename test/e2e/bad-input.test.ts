import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterAll, expect, test, vi } from 'vitest'
import type { Output } from '../../examples/nested/processes.ts'
import { Cluster, type ServerFiles } from '../support/cluster.ts'

// Each test starts processes, which takes long on a machine that has much to do.
vi.setConfig({ testTimeout: 20_000 })

const cluster = new Cluster()
afterAll(() => cluster.stop(), 30_000)

let count = 0
const nextName = () => `case-${++count}`

function run(files: { config: string }, program: 'turret-server' | 'turret-agent' = 'turret-server'): Promise<Output> {
  return cluster.processes.run(program, ['run', '-config', files.config])
}

function change(file: string, from: string | RegExp, to: string): void {
  writeFileSync(file, readFileSync(file, 'utf8').replace(from, to))
}

test.each<[string, (files: ServerFiles) => void, string]>([
  [
    'an unknown key',
    ({ config }) => change(config, 'log_level', 'bogus = 1\n  log_level'),
    'unknown configuration detected',
  ],
  [
    'a missing trust domain',
    ({ config }) => change(config, /trust_domain = .*/, ''),
    'trust_domain must be configured',
  ],
  [
    'a wrong type',
    ({ config }) => change(config, 'log_level', 'audit_log_enabled = "yes"\n  log_level'),
    'root.server.audit_log_enabled: unknown type *ast.LiteralType',
  ],
  ['a syntax error', ({ config }) => change(config, /\}\s*$/, ''), 'object expected closing RBRACE got: EOF'],
  [
    'two KeyManagers',
    ({ config }) => change(config, 'NodeAttestor', 'KeyManager "memory" { plugin_data {} }\n  NodeAttestor'),
    'plugin type "KeyManager" constraint not satisfied: expected exactly 1 but got 2',
  ],
  [
    'a plugin that lacks a setting',
    ({ config }) => change(config, 'NodeAttestor', 'UpstreamAuthority "spire" { plugin_data {} }\n  NodeAttestor'),
    'failed to configure plugin "spire": rpc error: code = InvalidArgument desc = server_address is required',
  ],
  [
    'an address that nobody knows',
    ({ config }) => change(config, /bind_address = .*/, 'bind_address = "nobody.invalid"'),
    'could not resolve bind address "nobody.invalid:',
  ],
  [
    'a plugin that there is not',
    ({ config }) => change(config, '"join_token"', '"nope"'),
    'no built-in plugin "nope" for type "NodeAttestor"',
  ],
])('%s is told in one line, and nothing is made', async (_, spoil, message) => {
  const files = await cluster.serverFiles(nextName())
  spoil(files)
  const { code, stdout, stderr } = await run(files)
  expect(code).toBe(1)
  expect((stdout + stderr).replaceAll('\\"', '"')).toContain(message)
  expect(() => readFileSync(`${files.data}/datastore.sqlite3`)).toThrow('ENOENT')
  expect(() => readFileSync(`${files.data}/keys.json`)).toThrow('ENOENT')
})

test.each<[string, (files: ServerFiles) => void, string]>([
  [
    'a database that is none',
    ({ data }) => writeFileSync(`${data}/datastore.sqlite3`, 'not a database at all'.repeat(100)),
    'file is not a database',
  ],
  [
    'a keys file that is none',
    ({ data }) => writeFileSync(`${data}/keys.json`, '{"keys":{"x509-CA-A":"c2VjcmV0"}}'),
    'unable to decode keys file',
  ],
  [
    'a keys file that is no JSON',
    ({ data }) => writeFileSync(`${data}/keys.json`, 'secret-that-must-not-be-shown'),
    'it is not JSON',
  ],
  [
    'a folder where the database should be',
    ({ data }) => mkdirSync(`${data}/datastore.sqlite3`),
    'failed to open database',
  ],
])('%s ends the server with one clear line and stays as it is', async (_, spoil, message) => {
  const files = await cluster.serverFiles(nextName())
  mkdirSync(files.data)
  spoil(files)
  const snapshot = () =>
    ['datastore.sqlite3', 'keys.json'].map((name) => {
      try {
        return readFileSync(`${files.data}/${name}`, 'utf8')
      } catch {
        return undefined
      }
    })
  const [database, keys] = snapshot()
  const { code, stdout, stderr } = await run(files)
  expect(code).toBe(1)
  expect(stdout + stderr).toContain(message)
  expect(stdout + stderr).not.toContain('secret-that')
  expect(stdout + stderr).not.toContain('    at ')
  const after = snapshot()
  if (database !== undefined) expect(after[0]).toBe(database)
  if (keys !== undefined) expect(after[1]).toBe(keys)
})

test('a port that is taken is told with its number', async () => {
  const files = await cluster.serverFiles(nextName())
  const holder = createServer()
  await new Promise<void>((resolve) => holder.listen(files.port, '127.0.0.1', resolve))
  const { code, stdout } = await run(files)
  await new Promise((resolve) => holder.close(resolve))
  expect(code).toBe(1)
  expect(stdout).toContain(
    `msg="Server crashed" error="listen tcp 127.0.0.1:${files.port}: bind: address already in use"`,
  )
})

test('a socket on which somebody answers is not taken over', async () => {
  const first = await cluster.serverFiles(nextName())
  await cluster.startServer(first)
  const second = await cluster.serverFiles(nextName())
  change(second.config, second.socket, first.socket)
  const { code, stdout } = await run(second)
  expect(code).toBe(1)
  expect(stdout).toContain(first.socket)
  expect((await cluster.server(first, 'healthcheck')).code).toBe(0)
}, 20_000)

test('a data directory without rights is told', async () => {
  const files = await cluster.serverFiles(nextName())
  mkdirSync(files.data)
  // Root may write anywhere, so it is somebody else who tries.
  const root = process.getuid!() === 0
  chmodSync(cluster.folder, 0o755)
  chmodSync(files.config, 0o644)
  chmodSync(files.data, root ? 0o700 : 0o500)
  const { code, stdout, stderr } = await cluster.processes.run(
    'turret-server',
    ['run', '-config', files.config],
    root ? 65534 : undefined,
  )
  chmodSync(files.data, 0o700)
  expect(code).toBe(1)
  expect(stdout + stderr).toMatch(/permission denied|EACCES|unable to open/)
})

test('an agent with a corrupt state says so and leaves it alone', async () => {
  const server = await cluster.serverFiles(nextName())
  const files = cluster.agentFiles(nextName(), server)
  mkdirSync(files.data)
  writeFileSync(`${files.data}/agent-data.json`, '{"svid":["bm8="]}')
  const { code, stdout } = await run(files, 'turret-agent')
  expect(code).toBe(1)
  expect(stdout).toContain('failed to open storage')
  expect(readFileSync(`${files.data}/agent-data.json`, 'utf8')).toBe('{"svid":["bm8="]}')
})

test('an agent with a corrupt keys file says so and leaves it alone', async () => {
  const server = await cluster.serverFiles(nextName())
  const files = cluster.agentFiles(nextName(), server)
  mkdirSync(files.data)
  writeFileSync(`${files.data}/keys.json`, 'secret-that-must-not-be-shown')
  const { code, stdout } = await run(files, 'turret-agent')
  expect(code).toBe(1)
  expect(stdout).toContain('it is not JSON')
  expect(stdout).not.toContain('secret-that')
  expect(readFileSync(`${files.data}/keys.json`, 'utf8')).toBe('secret-that-must-not-be-shown')
})

test('an agent does not take over the socket of another', async () => {
  const { server, agent } = await cluster.startPair(nextName())
  const files = cluster.agentFiles(nextName(), server)
  change(files.config, files.socket, agent.socket)
  const token = await cluster.token(server, 'second')
  const { code, stdout } = await cluster.processes.run('turret-agent', [
    'run',
    '-config',
    files.config,
    '-joinToken',
    token,
  ])
  expect(code).toBe(1)
  expect(stdout).toContain(agent.socket)
  expect((await cluster.agent(agent, 'healthcheck')).code).toBe(0)
  // Its token is not used up.
  change(files.config, agent.socket, files.socket)
  await cluster.startAgent(files, server, token)
}, 20_000)
