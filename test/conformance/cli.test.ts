import { execFile, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { withoutRemoteFlags } from '../support/side-by-side.ts'

/**
 * Runs SPIRE's command line and ours with the same words against one real SPIRE server and agent, and compares what they
 * print and how they end. SPIRE_BIN names the real spire-server, or the folder of it; spire-agent is looked for beside it.
 */
const given = process.env.SPIRE_BIN
const missing = given === undefined || given === ''
if (missing) console.warn('SPIRE_BIN is not set: the command lines are NOT compared with those of SPIRE')
const folder = missing ? '' : given.endsWith('spire-server') ? dirname(given) : given
const bin = fileURLToPath(new URL('../../bin/', import.meta.url))

interface Outcome {
  readonly code: number
  readonly out: string
  readonly err: string
}

function run(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { env: { PATH: process.env.PATH, ...env } }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err })
    })
    child.stdin?.end()
  })
}

/** What differs from call to call, or by the name of the program. */
function normalised({ code, out, err }: Outcome): Outcome {
  const plain = (text: string): string =>
    withoutRemoteFlags(text)
      .replaceAll('turret-', 'spire-')
      .replace(/ after [\d.]+\S*s$/gm, ' after TIME')
      .replace(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g, 'TOKEN')
      .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
      // protobuf-go puts blanks into its JSON at random, on purpose.
      .replace(/(?<=^Claims {4}: .*), "/gm, ',"')
      .replace(/"(expires_at|issued_at)":"\d+"/g, '"$1":"TIME"')
      .replace(/(Uptime: *|"uptime":)[\dhms]+/g, '$1TIME')
  return { code, out: sortedBundles(plain(out)), err: plain(err) }
}

/** SPIRE prints the bundles beside a JWT-SVID in random order. */
function sortedBundles(out: string): string {
  const [before = '', ...bundles] = out.split(/^(?=bundle\()/m)
  return before + bundles.sort().join('')
}

async function compared(program: 'server' | 'agent', args: readonly string[], env?: Record<string, string>) {
  const theirs = normalised(await run(join(folder, `spire-${program}`), args, env))
  const ours = normalised(await run(`${bin}turret-${program}`, args, env))
  return { theirs, ours }
}

describe.skipIf(missing)('the command lines print what those of SPIRE print', { timeout: 30_000 }, () => {
  let home = ''
  let svid = ''
  const stop: (() => Promise<void>)[] = []
  const paths = () => ({
    api: join(home, 'api.sock'),
    workload: join(home, 'workload', 'api.sock'),
    admin: join(home, 'admin', 'api.sock'),
  })

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'turret-cli-'))
    for (const name of ['server', 'agent', 'workload', 'admin', 'out']) mkdirSync(join(home, name))
    const port = await freePort()
    const { api, workload, admin } = paths()
    writeFileSync(join(home, 'server.conf'), serverConfig(home, port, api))
    writeFileSync(join(home, 'agent.conf'), agentConfig(home, port, workload, admin))
    writeFileSync(join(home, 'empty'), '')
    writeFileSync(join(home, 'ids.json'), '{"ids":["e8","e9"]}')
    const server = join(folder, 'spire-server')
    stop.push(await started(server, ['run', '-config', join(home, 'server.conf')], ['healthcheck', '-socketPath', api]))
    const admit = (...args: string[]) => run(server, [...args, '-socketPath', api])
    const { out } = await admit('token', 'generate', '-spiffeID', 'spiffe://example.org/node')
    const token = out.replace('Token: ', '').trim()
    writeFileSync(join(home, 'roots.pem'), (await admit('bundle', 'show')).out)
    await admit('bundle', 'set', '-id', 'foo.org', '-path', join(home, 'roots.pem'))
    const parent = ['-parentID', 'spiffe://example.org/node', '-selector', `unix:uid:${process.getuid?.()}`]
    await admit('entry', 'create', '-entryID', 'e1', '-spiffeID', 'spiffe://example.org/w1', '-hint', 'h', ...parent)
    const federated = ['-federatesWith', 'foo.org', '-dns', 'a.b', '-x509SVIDTTL', '600', '-admin', '-downstream']
    await admit('entry', 'create', '-entryID', 'e2', '-spiffeID', 'spiffe://example.org/w2', ...federated, ...parent)
    const agent = join(folder, 'spire-agent')
    const fetch = ['api', 'fetch', 'jwt', '-audience', 'a', '-output', 'json', '-socketPath', workload]
    stop.push(await started(agent, ['run', '-config', join(home, 'agent.conf'), '-joinToken', token], fetch))
    svid = JSON.parse((await run(agent, fetch)).out)[0].svids[0].svid
  }, 60_000)

  afterAll(async () => {
    for (const end of stop.reverse()) await end()
    rmSync(home, { recursive: true, force: true })
  })

  // In these rows API, WORKLOAD and ADMIN stand for `-socketPath <socket>`, HOME for the folder, SVID for a token.
  const server = `
    healthcheck API -verbose
    healthcheck -socketPath /run/none.sock -verbose
    entry show API
    entry show API -output json
    entry show API -entryID e2
    entry show API -entryID nope
    entry show API -spiffeID x
    entry show API -entryID e1 -spiffeID x
    entry show API -selector a:b -matchSelectorsOn foo
    entry show API -federatesWith spiffe://foo.org -hint h
    entry show API -instance x
    entry show -socketPath none.sock
    entry show -socketPath /run/none.sock
    entry show API -output foo
    entry show API -output json -output pretty
    entry show -socketPath
    entry show -bogus
    entry count API
    entry count API -output json
    entry create API
    entry create API -selector a:b -node -federatesWith foo.org
    entry create API -selector a:b -parentID x -spiffeID y -x509SVIDTTL -1
    entry create API -selector ab -parentID spiffe://example.org/a -spiffeID spiffe://example.org/b
    entry create API -selector a:b -parentID spiffe://example.org/a -spiffeID spiffe://example.org/b -jwtSVIDTTL 9999999999
    entry create API -selector a:b -parentID spiffe://example.org/a -spiffeID spiffe://other.org/b
    entry create API -selector a:b -parentID spiffe://example.org/a -spiffeID spiffe://other.org/b -output json
    entry create API -data /nope
    entry create API -data HOME/empty
    entry update API -entryID e9 -selector a:b -parentID spiffe://example.org/a -spiffeID spiffe://example.org/b
    entry update API -entryID e9 -selector a:b -parentID spiffe://example.org/a -spiffeID spiffe://example.org/b -jwtSVIDIncludeJTI
    entry delete API
    entry delete API -entryID e9
    entry delete API -file HOME/ids.json -output json
    agent list API
    agent list API -output json
    agent list API -expiresBefore foo
    agent list API -selector x
    agent count API -attestationType join_token
    agent show API
    agent show API -spiffeID spiffe://example.org/spire/agent/none
    agent ban API -spiffeID spiffe://example.org/none
    agent evict API -spiffeID x
    agent purge API
    agent purge API -output json
    bundle show API
    bundle show API -format spiffe
    bundle show API -format foo
    bundle show API -output json
    bundle list API
    bundle list API -id foo.org -format spiffe
    bundle list API -id none.org
    bundle count API
    bundle set API -id bar.org -path HOME/empty
    bundle set API -id foo.org -path HOME/roots.pem
    bundle delete API -id none.org
    bundle delete API -id none.org -mode foo
    token generate API
    token generate API -ttl 0
    token generate API -output json
    jwt mint API -spiffeID spiffe://example.org/w -audience a
    jwt mint API -spiffeID spiffe://example.org/w -audience a -write HOME/out/token
    jwt mint API -spiffeID spiffe://other.org/w -audience a
    x509 mint API -spiffeID spiffe://example.org/w -write HOME/out
    x509 mint API -spiffeID spiffe://example.org/w -write /nope
    logger get API
    logger set API -level foo
    debug getinfo API
    localauthority x509 show API
    localauthority jwt show API -output json
    localauthority x509 taint API -authorityID foo
    upstreamauthority revoke API -subjectKeyID ab
    federation list API
    federation create API -trustDomain bar.org
    federation refresh API -id bar.org
    -h
    entry
    entry -h
    entry create -h
    localauthority jwt -h
    token
    entryx
    -x entry show`
  const agent = `
    healthcheck WORKLOAD -verbose
    healthcheck -socketPath /run/none.sock -verbose
    api fetch WORKLOAD
    api fetch x509 WORKLOAD -write HOME/out
    api fetch x509 WORKLOAD -silent -write HOME/none
    api fetch jwt WORKLOAD
    api fetch jwt WORKLOAD -audience a,b -spiffeID spiffe://example.org/w1
    api fetch jwt WORKLOAD -audience a -spiffeID spiffe://example.org/none
    api fetch jwt -audience a -socketPath /run/none.sock
    api validate jwt WORKLOAD -audience a -svid SVID
    api validate jwt WORKLOAD -audience a -svid SVID -output json
    api validate jwt WORKLOAD -audience b -svid SVID
    api validate jwt WORKLOAD -audience a -svid foo
    api fetch -bogus
    api fetch -h
    api watch -h
    api
    logger get ADMIN
    logger set ADMIN -level WARN -output json
    debug getinfo -socketPath /run/none.sock
    -h`

  const rows = [
    ...server
      .trim()
      .split(/\n\s*/)
      .map((line) => ['server', line] as const),
    ...agent
      .trim()
      .split(/\n\s*/)
      .map((line) => ['agent', line] as const),
  ]
  test.each(rows)('%s %s', async (program, line) => {
    const { api, workload, admin } = paths()
    const sockets: Record<string, string> = { API: api, WORKLOAD: workload, ADMIN: admin }
    const args = line.split(' ').flatMap((word) => {
      if (word in sockets) return ['-socketPath', sockets[word]!]
      return word === 'SVID' ? [svid] : [word.replace('HOME', home)]
    })
    const { theirs, ours } = await compared(program, args)
    expect(ours).toEqual(theirs)
  })

  test.each(['Europe/Berlin', 'America/New_York', 'Asia/Dubai'])('agent list prints times in %s', async (TZ) => {
    const { theirs, ours } = await compared('server', ['agent', 'list', '-socketPath', paths().api], { TZ })
    expect(ours).toEqual(theirs)
  })

  test('what a refused entry was asked to be is printed alike', async () => {
    const same = ['-spiffeID', 'spiffe://example.org/w1', '-parentID', 'spiffe://example.org/node']
    const args = ['entry', 'create', '-socketPath', paths().api, ...same, '-selector', `unix:uid:${process.getuid?.()}`]
    const { theirs, ours } = await compared('server', args)
    expect(ours).toEqual(theirs)
    expect(ours.err).toContain('AlreadyExists')
  })
})

/** Starts a process and waits until a probe succeeds; gives back how to end it. */
async function started(
  program: string,
  args: readonly string[],
  probe: readonly string[],
): Promise<() => Promise<void>> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  let running = true
  void ended.then(() => {
    running = false
  })
  while ((await run(program, probe)).code !== 0) {
    if (!running) throw new Error(`${program} ended before it was ready`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  return () => {
    child.kill()
    return ended
  }
}

function serverConfig(home: string, port: number, socket: string): string {
  return `server {
  bind_address = "127.0.0.1"
  bind_port = ${port}
  socket_path = "${socket}"
  trust_domain = "example.org"
  data_dir = "${home}/server"
  log_level = "ERROR"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${home}/server/db" } }
  KeyManager "memory" { plugin_data {} }
  NodeAttestor "join_token" { plugin_data {} }
}
`
}

function agentConfig(home: string, port: number, socket: string, admin: string): string {
  return `agent {
  server_address = "127.0.0.1"
  server_port = ${port}
  socket_path = "${socket}"
  admin_socket_path = "${admin}"
  trust_domain = "example.org"
  data_dir = "${home}/agent"
  insecure_bootstrap = true
  log_level = "ERROR"
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`
}
