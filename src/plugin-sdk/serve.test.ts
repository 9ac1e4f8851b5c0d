import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { HealthCheckRequest, HealthCheckResponse } from '../../proto/grpc/health/v1.ts'
import { eventually } from '../../test/support/cluster.ts'
import { commandOf, programOf, type Runtime, skipNote } from '../../test/support/runtimes.ts'
import { connect } from '../transport/grpc-client.ts'

const EXAMPLE = resolve(import.meta.dirname, '../../examples/plugins/workload-attestor.ts')
const COOKIE = { WorkloadAttestor: 'WorkloadAttestor', PLUGIN_PROTOCOL_VERSIONS: '1' }

function started(runtime: Runtime, env: Readonly<Record<string, string>>): ChildProcess {
  const [program, ...args] = commandOf(runtime)
  return spawn(program, [...args, EXAMPLE], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
}

async function lineOf(child: ChildProcess): Promise<string> {
  let text = ''
  for await (const chunk of child.stdout!.setEncoding('utf8')) {
    text += chunk
    if (text.includes('\n')) break
  }
  return text.slice(0, text.indexOf('\n'))
}

test.each([
  ['by hand', {}, /is a SPIRE plugin of type WorkloadAttestor\. The agent starts it, not a person/],
  ['as another type', { NodeAttestor: 'NodeAttestor' }, /of type WorkloadAttestor and was started as NodeAttestor/],
  ['with a wrong value', { WorkloadAttestor: 'yes' }, /The agent starts it/],
])('a plugin that is started %s says what it is', (_, env, text) => {
  const ended = spawnSync(process.execPath, [EXAMPLE], { env: { ...process.env, ...env }, encoding: 'utf8' })
  expect([ended.status, ended.stdout]).toEqual([1, ''])
  expect(ended.stderr).toMatch(text)
})

test.each<Runtime>(['node', 'deno', 'bun'])(
  `a plugin on %s answers, and ends with the signal for it`,
  async (runtime) => {
    if (programOf(runtime) === undefined) {
      console.warn(`not tried on ${runtime}${skipNote(runtime)}`)
      return
    }
    const child = started(runtime, COOKIE)
    const line = await lineOf(child)
    expect(line).toMatch(/^1\|1\|unix\|\/.*\|grpc\|$/)
    const address = line.split('|')[3]!
    const channel = await connect({ target: `unix:${address}` })
    const check = { path: '/grpc.health.v1.Health/Check', request: HealthCheckRequest, response: HealthCheckResponse }
    // The terminal's interrupt goes to the host and its plugins alike, and ends no plugin.
    child.kill('SIGINT')
    expect(await channel.unary(check, { service: 'plugin' })).toEqual({ status: 1 })
    channel.close()
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
    expect(existsSync(dirname(address))).toBe(false)
  },
  20_000,
)

test('a plugin whose host dies before it connects ends', async () => {
  // The shell is the host.
  const command = `"${process.execPath}" "${EXAMPLE}" & echo $!; wait`
  const shell = spawn('/bin/sh', ['-c', command], {
    env: { ...process.env, ...COOKIE },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let text = ''
  for await (const chunk of shell.stdout.setEncoding('utf8')) {
    text += chunk
    if (text.includes('|grpc|')) break
  }
  const pid = /^\d+$/m.exec(text)![0]
  expect(existsSync(`/proc/${pid}`)).toBe(true)
  shell.kill('SIGKILL')
  await eventually(async () => expect(existsSync(`/proc/${pid}`)).toBe(false))
  expect(existsSync(/\|(\/[^|]+)\|/.exec(text)![1]!)).toBe(false)
}, 30_000)

test('the page shows the example as it is', () => {
  const page = readFileSync(resolve(import.meta.dirname, '../../docs/plugins/writing.md'), 'utf8')
  expect(/```ts\n([\s\S]*?)```/.exec(page)![1]).toBe(readFileSync(EXAMPLE, 'utf8'))
})
