import { execFile, spawnSync } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
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

  test('node, workload and upstream: each is attested and signed for by plugins, and what they lie about is refused', async () => {
    const file = cluster.path('server.txt')
    const server = await cluster.serverFiles('pair', {
      plugins: `${external('server', 'NodeAttestor', `file = "${file}"`)}
        ${external('server', 'UpstreamAuthority', `file = "${file}"`)}`,
    })
    await cluster.startServer(server)
    const data = cluster.path('workload.hcl')
    writeFileSync(data, 'greeting = "one"\n')
    const configured = external('agent', 'WorkloadAttestor').replace(
      /plugin_data \{.*\}/,
      `plugin_data_file = "${data}"`,
    )
    const agent = cluster.agentFiles('pair-agent', server, {
      nodeAttestor: external('agent', 'NodeAttestor'),
      plugins: configured,
    })
    const child = await cluster.startAgent(agent, server)
    const id = 'spire/agent/odd/node'
    expect(await cluster.must(server, 'agent', 'show', '-spiffeID', spiffe(id))).toContain('odd:name:node')
    expect(heard(file)).toContain('attest node from [127.0.0.1], known: NotFound')
    expect(heard(file).some((line) => line.startsWith('jwt key '))).toBe(true)

    await cluster.must(
      server,
      'entry',
      'create',
      '-parentID',
      spiffe(id),
      '-spiffeID',
      spiffe('w'),
      '-selector',
      'odd:answer:42',
    )
    const token = await cluster.jwt(agent, 'a')
    expect(JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()).sub).toBe(spiffe('w'))
    // The upstream told of its second root after the signature.
    await eventually(async () =>
      expect((await cluster.must(server, 'bundle', 'show')).match(/BEGIN CERTIFICATE/g)).toHaveLength(2),
    )

    // A signal configures anew what has changed.
    child.kill('SIGUSR1')
    await eventually(async () => expect(cluster.log('pair-agent')).toContain('Plugin not reconfigured since'))
    writeFileSync(data, 'greeting = "two"\nlie = true\n')
    child.kill('SIGUSR1')
    await eventually(async () => expect(cluster.log('pair-agent')).toMatch(/msg="Plugin reconfigured" .*new_hash=/))
    expect(cluster.log('pair-agent')).toContain('greeting=two')
    // Its selectors are no longer taken, and the entry is nobody's any more.
    const output = await cluster.agent(agent, 'api', 'fetch', 'jwt', '-audience', 'b')
    expect(output.stderr).toContain('PermissionDenied')
    expect(cluster.log('pair-agent')).toContain(
      'workloadattestor(odd): plugin response has a selector value of more than 4096 characters',
    )

    // One that dies takes only its selectors along, says so, and is not started again.
    writeFileSync(data, 'crash = true\n')
    child.kill('SIGUSR1')
    await eventually(async () => {
      await cluster.agent(agent, 'api', 'fetch', 'jwt', '-audience', 'c')
      expect(cluster.log('pair-agent')).toContain('workloadattestor(odd): plugin process exited: exit status 3')
    })
    expect(cluster.log('pair-agent')).toMatch(/level=error msg="Plugin process ended" .*plugin_name=odd/)
    expect(plugins(child.pid!)).toHaveLength(1)
  }, 90_000)

  test('validate asks plugins, and a start ends with what is wrong', async () => {
    const notes = async (name: string, block: string) => {
      const server = await cluster.serverFiles(name, { plugins: block })
      return cluster.processes.run('turret-server', ['validate', '-config', server.config])
    }
    const good = await notes('good', external('server', 'NodeAttestor'))
    expect(good).toMatchObject({ code: 0, stdout: 'SPIRE server configuration file is valid.\n' })
    const bad = await notes('bad', external('server', 'NodeAttestor', 'fail = "not like this"'))
    expect(bad.code).toBe(1)
    expect(bad.stderr).toContain('\tNodeAttestor "odd":\n\t\tnot like this\n')
    const other = await notes('other', external('server', 'NodeAttestor', '', '00'.repeat(32)))
    expect(other.stderr).toContain('failed to load plugin "odd": failed to launch plugin: checksums did not match')
    const kind = await notes('kind', external('server', 'NodeAttestor').replace('"server"', '"agent"'))
    expect(kind.stderr).toContain(
      'failed to bind plugin "odd": no supported plugin interface found in: ["spire.plugin.agent.nodeattestor.v1.NodeAttestor"]',
    )
    const started = async (name: string, block: string) => {
      const files: ServerFiles = await cluster.serverFiles(name, { plugins: block })
      return cluster.processes.run('turret-server', ['run', '-config', files.config])
    }
    const refused = await started('refused', external('server', 'NodeAttestor', 'fail = "not like this"'))
    expect(refused.code).toBe(1)
    expect(refused.stdout + refused.stderr).toContain(
      'failed to configure plugin \\"odd\\": rpc error: code = InvalidArgument desc = not like this',
    )
    // Before anything is attested: nobody is there to attest to.
    const nobody: ServerFiles = await cluster.serverFiles('nobody')
    writeFileSync(cluster.path('nobody-bundle.pem'), '')
    const agent = cluster.agentFiles('keyless', nobody, { keyManager: external('agent', 'KeyManager') })
    const keyless = await cluster.processes.run('turret-agent', ['run', '-config', agent.config])
    expect(keyless.stdout).toContain(
      'failed to load plugin \\"odd\\": a KeyManager cannot be a process of its own here',
    )
    const liar = await started('liar', external('server', 'UpstreamAuthority', 'lie = true'))
    expect(liar.code).toBe(1)
    expect(liar.stdout + liar.stderr).toContain('invalid upstream-signed X509 CA: it is not for our key')
  }, 90_000)

  test('a composer changes what is signed, and not for whom', async () => {
    const data = cluster.path('composer.hcl')
    writeFileSync(data, 'greeting = "one"\n')
    const block = external('server', 'CredentialComposer').replace(/plugin_data \{.*\}/, `plugin_data_file = "${data}"`)
    const server = await cluster.serverFiles('composed', { plugins: block })
    const child = await cluster.startServer(server)
    const mint = ['x509', 'mint', '-spiffeID', spiffe('w'), '-write', cluster.folder]
    await cluster.must(server, ...mint)
    const leaf = new X509Certificate(readFileSync(cluster.path('svid.pem')))
    expect(leaf.subject).toBe(`C=US\nO=SPIRE\nCN=${spiffe('w')}`)
    expect(leaf.issuer).toContain('OU=composed')
    expect(leaf.subjectAltName).toBe(`DNS:composed.example.org, URI:${spiffe('w')}`)
    // 1.2.3.4.5, and its value.
    expect(leaf.raw.includes(Buffer.from('06042a0304050402' + '0500', 'hex'))).toBe(true)
    const jwt = ['jwt', 'mint', '-spiffeID', spiffe('w'), '-audience', 'a']
    const token = (await cluster.must(server, ...jwt)).trim()
    const claims = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())
    expect(claims).toMatchObject({ composed: spiffe('w'), sub: spiffe('w'), aud: ['a'] })

    writeFileSync(data, 'lie = true\n')
    child.kill('SIGUSR1')
    await eventually(async () => expect(cluster.log('composed')).toMatch(/msg="Plugin reconfigured"/))
    expect((await cluster.server(server, ...jwt)).code).toBe(1)
    expect((await cluster.server(server, ...mint)).code).toBe(1)
    const log = cluster.log('composed')
    expect(log).toContain('credentialcomposer(odd): plugin returned invalid attributes: the subject is')
    expect(log).toContain(
      "credentialcomposer(odd): plugin returned invalid attributes: extension 2.5.29.17 is not a composer's to set",
    )
  }, 60_000)

  test('a notifier may keep the server from starting, and is told of the bundle as a publisher is', async () => {
    const [heardByNotifier, heardByPublisher] = [cluster.path('notifier.txt'), cluster.path('publisher.txt')]
    const server = await cluster.serverFiles('news', {
      plugins: `${external('server', 'Notifier', `file = "${heardByNotifier}"`)}
        ${external('server', 'BundlePublisher', `file = "${heardByPublisher}" lie = true`)}`,
    })
    await cluster.startServer(server)
    expect(heard(heardByNotifier)).toContain('loaded example.org roots=1')
    await eventually(async () => expect(heard(heardByPublisher)).toContain('refused'))
    expect(cluster.log('news')).toMatch(/Failed to publish bundle.*bundlepublisher\(odd\): not now/)
    await cluster.must(server, 'localauthority', 'x509', 'prepare')
    await eventually(async () => {
      expect(heard(heardByNotifier)).toEqual(
        expect.arrayContaining(['updated example.org roots=2', `identity ${spiffe('spire/server')}`]),
      )
      expect(heard(heardByPublisher)).toContain('publish example.org roots=2')
    })

    const stubborn = await cluster.serverFiles('stubborn', { plugins: external('server', 'Notifier', 'lie = true') })
    const refused = await cluster.processes.run('turret-server', ['run', '-config', stubborn.config])
    expect(refused.code).toBe(1)
    expect(refused.stdout + refused.stderr).toContain(
      'one or more notifiers returned an error: notifier(odd): I advise against it',
    )
  }, 60_000)

  test('an SVID store gets what entries with store_svid say, and takes it out when they are gone', async () => {
    const file = cluster.path('store.txt')
    const server = await cluster.serverFiles('stored')
    await cluster.startServer(server)
    const agent = cluster.agentFiles('stored-agent', server, {
      plugins: external('agent', 'SVIDStore', `file = "${file}"`),
    })
    await cluster.startAgent(agent, server, await cluster.token(server, 'node'))
    const entry = ['entry', 'create', '-parentID', spiffe('node'), '-spiffeID', spiffe('s'), '-storeSVID']
    const created = await cluster.must(server, ...entry, '-selector', 'odd:secret:one', '-selector', 'odd:zone:two')
    const stored = `put ${spiffe('s')} ${spiffe('s')} secret:one,zone:two roots=1`
    await eventually(async () => expect(heard(file)).toContain(stored))
    await cluster.must(server, 'entry', 'delete', '-entryID', /Entry ID +: (\S+)/.exec(created)![1]!)
    await eventually(async () => expect(heard(file)).toContain('delete secret:one,zone:two'))
    expect(heard(file).filter((line) => line === stored)).toHaveLength(1)
  }, 60_000)
})
