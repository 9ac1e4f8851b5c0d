import { chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { type Branch, makeFolder, startAgent, startServer } from './branch.ts'
import type { machineAuthority } from './certificates.ts'
import type { Processes, User } from './processes.ts'
import { step } from './screen.ts'

/** The top of the tree, as the demo sees it. */
export interface Root {
  /** Starts it, and registers the servers below it. */
  start(): Promise<void>
  /** Runs a command of `turret-server` against it. @returns what it prints */
  admin(...args: readonly string[]): Promise<string>
  /** The command to try against it by hand, without its last words. */
  readonly hint: string
}

export interface RootParts {
  readonly processes: Processes
  readonly machines: Awaited<ReturnType<typeof machineAuthority>>
}

/** A server below, by name, and the uid that its process has. */
export interface Below {
  readonly name: string
  readonly uid: number
}

/** A server and an agent on this machine; the agent gives the servers below their identity, told apart by their users. */
export function rootOnNode(branch: Branch, below: readonly Below[], { processes, machines }: RootParts): Root {
  const { socketPath, trustDomain } = branch.server
  const admin = (...args: readonly string[]) => processes.must('turret-server', [...args, '-socketPath', socketPath])
  return {
    admin,
    hint: `-socketPath ${socketPath}`,
    async start() {
      await step('root server', () => startServer(branch, processes, machines))
      const agent = await step('root agent', () => startAgent(branch, processes, machines))
      for (const { name, uid } of below) {
        await step(`entry: uid ${uid} below the root agent is the downstream server ${name}`, () =>
          admin(
            ...['entry', 'create', '-parentID', agent, '-spiffeID', `spiffe://${trustDomain}/${name}`],
            ...['-selector', `unix:uid:${uid}`, '-downstream'],
          ),
        )
      }
    },
  }
}

export interface EdgeRootParts extends RootParts {
  readonly demo: string
  readonly port: number
  readonly users: (name: string) => User
}

/** The server on workerd, which has neither socket nor agent: an operator's key administrates it, and the servers below attest by tokens. */
export function rootOnWorkerd(names: readonly string[], { processes, demo, port, users }: EdgeRootParts): Root {
  const url = `http://127.0.0.1:${port}`
  const bundle = join(demo, 'root-bundle.json')
  const key = join(demo, 'operator.pem')
  const remote = ['-serverURL', url, '-serverTrustBundle', bundle, '-operatorKey', key]
  const admin = (...args: readonly string[]) => processes.must('turret-server', [...args, ...remote])
  return {
    admin,
    hint: remote.join(' '),
    async start() {
      await step('root server, on workerd with its D1', async () => {
        const printed = await processes.must('turret-server', ['operator', 'keygen', '-out', key])
        const thumbprint = /Thumbprint: (\S+)/.exec(printed)![1]!
        const folder = join(demo, 'root')
        mkdirSync(folder)
        const program = resolve(import.meta.dirname, 'workerd.ts')
        const args = [program, folder, String(port), thumbprint]
        processes.start('root server', process.execPath, args, join(demo, 'root-server.log'), undefined)
        await ready(url, processes)
      })
      await step('bundle of the root, from its public address', async () => {
        writeFileSync(bundle, await (await fetch(`${url}/bundle`)).text(), { mode: 0o644 })
      })
      for (const name of names) {
        await step(`token and entry: a node is the downstream server ${name}`, async () => {
          const node = `spiffe://example.org/${name}/node`
          const token = /Token: (\S+)/.exec(await admin('token', 'generate', '-spiffeID', node))![1]!
          writeToken(join(demo, name, 'server/token'), token, users(name))
          await admin(
            ...['entry', 'create', '-parentID', node, '-spiffeID', `spiffe://example.org/${name}`],
            ...['-selector', `node:${name}`, '-downstream'],
          )
        })
      }
    },
  }
}

function writeToken(path: string, token: string, user: User): void {
  makeFolder(dirname(path), user)
  writeFileSync(path, token, { mode: 0o600 })
  if (user !== undefined) chownSync(path, user, user)
}

const READY_WITHIN_MS = 30_000

async function ready(url: string, processes: Processes): Promise<void> {
  const deadline = performance.now() + READY_WITHIN_MS
  for (;;) {
    const status = await fetch(`${url}/ready`).then(
      (response) => response.status,
      () => 0,
    )
    if (status === 200) return
    const dead = processes.obituary()
    if (dead) throw new Error(dead)
    if (performance.now() > deadline) throw new Error(`${url} did not get ready within 30 s (HTTP status ${status})`)
    await new Promise((done) => setTimeout(done, 100))
  }
}
