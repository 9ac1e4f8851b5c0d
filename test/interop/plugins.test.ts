import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Cluster, eventually, exitCode, type ServerFiles, spiffe } from '../support/cluster.ts'

// Servers and agents with plugins out of process that are made with the public plugin SDK. Without Go there are none: plugins that are written
// by hand are in src/plugins/external.

const run = promisify(execFile)

describe.runIf(spawnSync('go', ['version']).status === 0)('plugins made with the plugin SDK', () => {
  const cluster = new Cluster()
  const program = cluster.path('plugin')
  let checksum: string

  /** A block of the configuration. */
  const external = (side: 'server' | 'agent', kind: string, data = '', checked = checksum) => `${kind} "odd" {
    plugin_cmd = "${program}"
    plugin_args = ["${side}", "${kind}"]
    plugin_checksum = "${checked}"
    plugin_data { greeting = "hello \\"\${you}\\"" ${data} }
  }`
  /** Processes of plugins that belong to a process. */
  const plugins = (pid: number) => {
    const found = spawnSync('pgrep', ['-P', String(pid), '-f', program])
    return found.stdout.toString().split('\n').filter(Boolean).map(Number)
  }
  const alive = (pid: number) =>
    existsSync(`/proc/${pid}/exe`) && !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  const heard = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [])

  beforeAll(async () => {
    await run('go', ['build', '-o', program, '.'], { cwd: join(import.meta.dirname, 'go/plugin') })
    checksum = createHash('sha256').update(readFileSync(program)).digest('hex')
  }, 240_000)
  afterAll(() => cluster.stop(), 30_000)

  test('a server signs with the keys of a plugin, ends it before itself, and takes it along when it is killed', async () => {
    const file = cluster.path('keys.txt')
    const server = await cluster.serverFiles('keys', {
      keyManager: external('server', 'KeyManager', `file = "${file}"`),
    })
    const child = await cluster.startServer(server)
    const token = await cluster.must(server, 'jwt', 'mint', '-spiffeID', spiffe('w'), '-audience', 'a')
    expect(token).toMatch(/^eyJ/)
    expect(heard(file)).toEqual(expect.arrayContaining(['configure hello "${you}"', 'generate x509-CA-A']))
    expect(cluster.log('keys')).toMatch(
      /level=warning msg="I was configured" .*external=true greeting="hello \\"\$\{you\}\\"".* plugin_name=odd plugin_type=KeyManager .*trust_domain=example.org/,
    )
    const [plugin] = plugins(child.pid!)
    expect(alive(plugin!)).toBe(true)
    child.kill('SIGTERM')
    await exitCode(child)
    expect(alive(plugin!)).toBe(false)
    const log = cluster.log('keys')
    const order = ['Unloading plugin', 'Plugin deinitialized', 'Plugin unloaded', 'Catalog closed']
    expect(order.map((line) => log.indexOf(line))).toEqual(order.map((line) => log.indexOf(line)).sort((a, b) => a - b))
    expect(log.indexOf('Plugin deinitialized')).toBeGreaterThan(0)

    const again = await cluster.startServer(server)
    const [other] = plugins(again.pid!)
    expect(alive(other!)).toBe(true)
    again.kill('SIGKILL')
    await exitCode(again)
    await eventually(async () => expect(alive(other!)).toBe(false))
  }, 60_000)
})
