import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { parseCertificate } from '../../src/core/certificate.ts'
import { verifyX509Svid } from '../../src/core/path-validation.ts'
import { certificatesFromPem } from '../../src/core/pem.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'
import { type Branch, makeFolder, readBranch, startAgent, startServer } from './branch.ts'
import { machineAuthority } from './certificates.ts'
import { freePorts } from './free-ports.ts'
import { type Output, Processes, type User } from './processes.ts'
import { type Root, rootOnNode, rootOnWorkerd } from './root.ts'
import { bold, type Check, dim, printTable, red, say, step } from './screen.ts'

const USAGE = `usage: npm run demo [-- OPTIONS]

Starts a root server with its agent and two nested servers with theirs, and checks that identities of one branch are good in the other.

  --edge               the root server runs on workerd, as on Cloudflare Workers; the nested servers attest to it over HTTP by themselves
  --keep               leave it running and say what to try; Ctrl-C ends it
  --runtime NAME       what runs the processes: node (the default), deno or bun
  --config-dir DIR     six configuration files of your own, written for SPIRE or for this:
                       DIR/{root,nestedA,nestedB}/{server,agent}.conf
                       $DEMO (a new folder), $ROOT_PORT, $NESTEDA_PORT and $NESTEDB_PORT (free ports) may be used in them
  -h, --help           this text
`

const NESTED = ['nestedA', 'nestedB'] as const
const USERS = { nestedA: 65101, nestedB: 65102, workload: 65201 }
const AUDIENCE = 'demo'

const { values: options } = parseArgs({
  options: {
    edge: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    runtime: { type: 'string', default: process.env.TURRET_RUNTIME ?? 'node' },
    'config-dir': { type: 'string', default: import.meta.dirname },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
if (options.help) {
  say(USAGE)
  process.exit(0)
}

// Other users must be able to reach what is theirs in the demo's folder, whatever the umask of the one who starts it.
process.umask(0o022)
const demo = mkdtempSync(join(tmpdir(), 'turret-demo-'))
chmodSync(demo, 0o755)
const [rootPort, portA, portB] = await freePorts(3)
const environment = {
  DEMO: demo,
  ROOT_PORT: `${rootPort}`,
  NESTEDA_PORT: `${portA}`,
  NESTEDB_PORT: `${portB}`,
  // `deno task demo` starts them with the Deno that runs it.
  TURRET_RUNTIME: options.runtime !== 'node' && process.versions[options.runtime] ? process.execPath : options.runtime,
}
const processes = new Processes(environment)
let ending: Promise<void> | undefined

function end(): Promise<void> {
  ending ??= processes.stop().then(() => rmSync(demo, { recursive: true, force: true }))
  return ending
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, async () => {
    say(dim('\nstopping ...'))
    await end()
    process.exit(130)
  })
}

try {
  const passed = await run()
  await end()
  process.exitCode = passed ? 0 : 1
} catch (error) {
  if (ending === undefined) {
    const message = error instanceof Error ? error.message : String(error)
    say(red(message))
    if (!message.includes('The end of its log')) say(dim(processes.lastWords()))
  }
  await end()
  process.exitCode = 1
}

async function run(): Promise<boolean> {
  const started = performance.now()
  const separate = ownUsers()
  const user = (name: keyof typeof USERS): User => (separate === undefined ? USERS[name] : undefined)
  const folder = resolve(options['config-dir'])
  say(
    bold(
      `Nested trust: ${options.edge ? 'a root at the edge, two branches, five' : 'one root, two branches, six'} processes`,
    ),
  )
  if (separate !== undefined)
    say(
      dim(
        `${separate}: all processes share one user${options.edge ? '' : ', and one downstream entry serves both nested servers'}.`,
      ),
    )

  const serverFolder = options.edge ? join(folder, 'edge') : folder
  const branches = NESTED.map((name) =>
    readBranch(name, { agent: folder, server: serverFolder }, demo, environment, user(name)),
  )
  const trustDomain = branches[0]!.server.trustDomain
  const machines = await machineAuthority()
  const uids =
    separate === undefined
      ? NESTED.map((name) => ({ name, uid: USERS[name] }))
      : [{ name: 'nested', uid: process.getuid!() }]
  const root: Root = options.edge
    ? rootOnWorkerd(NESTED, {
        processes,
        machines,
        demo,
        port: rootPort!,
        users: (name) => user(name as keyof typeof USERS),
      })
    : rootOnNode(readBranch('root', { agent: folder, server: folder }, demo, environment, undefined), uids, {
        processes,
        machines,
      })
  await root.start()
  const workloadUid = user('workload') ?? process.getuid!()
  const beforeEntry: Record<string, Output> = {}
  for (const branch of branches) {
    await step(`${branch.name} server, its CA signed by the root`, () => startServer(branch, processes, machines))
    const agent = await step(`${branch.name} agent`, () => startAgent(branch, processes, machines))
    beforeEntry[branch.name] = await fetchJwt(branch, user('workload'))
    await step(`entry: uid ${workloadUid} below it is the workload of ${branch.name}`, () =>
      createEntry(branch, agent, `spiffe://${trustDomain}/${branch.name}/workload`, workloadUid, []),
    )
  }

  const [a, b] = branches as [Branch, Branch]
  const checks = await step('checks', async () => [
    ...(await checkTokens(a, b, user('workload'))),
    ...(await checkTokens(b, a, user('workload'))),
    await checkChain(root, a, user('workload')),
    await checkChain(root, b, user('workload')),
    ...branches.map(({ name }): Check => {
      const { code, stderr } = beforeEntry[name]!
      const refused = code !== 0 && stderr.includes('no identity issued')
      return {
        what: `workload of ${name} before its entry is refused`,
        passed: refused,
        seen: refused ? 'no identity issued' : `exit ${code}`,
      }
    }),
  ])
  say()
  printTable(checks)
  const passed = checks.every((check) => check.passed)
  const failed = checks.filter((check) => !check.passed).length
  if (!passed) say(dim(processes.lastWords()))
  say(
    passed
      ? bold(`All ${checks.length} checks passed in ${seconds(started)}.`)
      : red(`${failed} of ${checks.length} checks failed.`),
  )
  if (options.keep) await keep(root, a, b, user('workload'))
  return passed
}

async function createEntry(
  branch: Branch,
  parent: string,
  id: string,
  uid: number,
  more: readonly string[],
): Promise<void> {
  const args = ['entry', 'create', '-parentID', parent, '-spiffeID', id, '-selector', `unix:uid:${uid}`, ...more]
  await processes.must('turret-server', [...args, '-socketPath', branch.server.socketPath])
}

function fetchJwt(branch: Branch, user: User): Promise<Output> {
  return processes.run(
    'turret-agent',
    ['api', 'fetch', 'jwt', '-audience', AUDIENCE, '-socketPath', branch.agent.socketPath],
    user,
  )
}

/** A token of one branch, shown to the agent of the other. */
async function checkTokens(from: Branch, to: Branch, user: User): Promise<Check[]> {
  const { stdout, stderr } = await fetchUntilIssued(from, user)
  const token = /\n\t(eyJ\S+)/.exec(stdout)?.[1]
  const what = `JWT-SVID of ${from.name} is valid on ${to.name}`
  if (token === undefined) return [{ what, passed: false, seen: stderr.trim().slice(0, 60) }]
  const validate = (audience: string) =>
    processes.run(
      'turret-agent',
      ['api', 'validate', 'jwt', '-audience', audience, '-svid', token, '-socketPath', to.agent.socketPath],
      user,
    )
  const valid = await validate(AUDIENCE)
  const wrong = await validate('somebody-else')
  return [
    {
      what,
      passed: valid.code === 0,
      seen: /SPIFFE ID : (\S+)/.exec(valid.stdout)?.[1] ?? valid.stderr.trim().slice(0, 60),
    },
    {
      what: `the same for another audience is refused`,
      passed: wrong.code !== 0 && wrong.stderr.includes('expected audience'),
      seen: wrong.stderr.includes('expected audience') ? 'expected audience' : wrong.stdout.trim().slice(0, 40),
    },
  ]
}

/** A new entry reaches the agent within milliseconds, but not in no time. */
async function fetchUntilIssued(branch: Branch, user: User): Promise<Output> {
  for (let tries = 0; ; tries += 1) {
    const output = await fetchJwt(branch, user)
    if (output.code === 0 || tries === 50) return output
  }
}

/** The chain of a workload of a nested server, checked by our own path validation and, if it is there, by openssl. */
async function checkChain(root: Root, branch: Branch, user: User): Promise<Check> {
  const folder = join(demo, `${branch.name}-workload`)
  makeFolder(folder, user)
  await processes.must(
    'turret-agent',
    ['api', 'fetch', 'x509', '-write', folder, '-socketPath', branch.agent.socketPath],
    user,
  )
  const bundleFile = join(demo, 'root-bundle.pem')
  const bundle = await root.admin('bundle', 'show')
  writeFileSync(bundleFile, bundle)
  const svidFile = join(folder, 'svid.0.pem')
  const roots = certificatesFromPem(bundle).map(parseCertificate)
  const { path } = await verifyX509Svid({
    chain: certificatesFromPem(readFileSync(svidFile, 'utf8')),
    rootsOf: () => roots,
    at: Math.floor(Date.now() / 1000),
    verify: nodeVerifier(),
  })
  const openssl = await processes
    .run('openssl', ['verify', '-CAfile', bundleFile, '-untrusted', svidFile, svidFile])
    .catch(() => undefined)
  const judged =
    openssl === undefined ? '' : openssl.code === 0 ? ', openssl agrees' : `, openssl: ${openssl.stderr.trim()}`
  return {
    what: `X.509 chain of ${branch.name} verifies to the root`,
    passed: path.length === 3 && (openssl?.code ?? 0) === 0,
    seen: `${path.length} certificates${judged}`,
  }
}

async function keep(root: Root, a: Branch, b: Branch, user: User): Promise<void> {
  const as = user === undefined ? '' : `setpriv --reuid ${user} --regid ${user} --clear-groups `
  const bin = resolve(import.meta.dirname, '../../bin')
  say(`
It keeps running. Try, in another terminal:

  ${bin}/turret-server entry show ${root.hint}
  ${bin}/turret-server agent list -socketPath ${a.server.socketPath}
  ${as}${bin}/turret-agent api watch -socketPath ${a.agent.socketPath}
  ${as}${bin}/turret-agent api fetch jwt -audience me -socketPath ${b.agent.socketPath}
  tail -f ${b.logs.server}

Ctrl-C ends it and removes ${demo}`)
  await new Promise(() => {})
}

/** Why the processes cannot have users of their own; undefined if they can. */
function ownUsers(): string | undefined {
  if (process.getuid?.() !== 0) return 'Not root'
  // Other users must be able to run what lies here.
  for (let path = process.execPath; path !== '/'; path = dirname(path)) {
    if (!(statSync(path).mode & 0o001)) return `${path} is closed to other users`
  }
  for (const start of [
    resolve(import.meta.dirname, '../../src'),
    resolve(import.meta.dirname, '../../node_modules'),
    tmpdir(),
  ]) {
    for (let path = start; path !== '/'; path = dirname(path)) {
      if (!(statSync(path).mode & 0o001)) return `${path} is closed to other users`
    }
  }
  return undefined
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`
}
