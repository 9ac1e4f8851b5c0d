import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const BIN = resolve(import.meta.dirname, '../../bin')

/** The user a process runs as; undefined: the one who started the demo. */
export type User = number | undefined

export interface Output {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Starts processes and remembers them, so that they end with the demo. */
export class Processes {
  readonly #environment: NodeJS.ProcessEnv
  readonly #running: { readonly name: string; readonly child: ChildProcess; readonly log: string }[] = []

  constructor(environment: Readonly<Record<string, string>>) {
    this.#environment = { ...process.env, ...environment }
  }

  /** Starts a server or agent that stays, its output in a file. */
  start(
    name: string,
    program: 'turret-server' | 'turret-agent',
    args: readonly string[],
    log: string,
    user: User,
  ): ChildProcess {
    const descriptor = openSync(log, 'a', 0o600)
    const child = spawn(join(BIN, program), [...args], {
      env: this.#environment,
      stdio: ['ignore', descriptor, descriptor],
      ...as(user),
    })
    closeSync(descriptor)
    child.on('error', () => {})
    this.#running.push({ name, child, log })
    return child
  }

  /** Runs a command to its end. */
  run(program: string, args: readonly string[], user?: User): Promise<Output> {
    const path = program.startsWith('turret-') ? join(BIN, program) : program
    return new Promise((done, fail) => {
      const child = spawn(path, [...args], { env: this.#environment, stdio: ['ignore', 'pipe', 'pipe'], ...as(user) })
      let stdout = ''
      let stderr = ''
      child.stdout.on('data', (chunk) => {
        stdout += chunk
      })
      child.stderr.on('data', (chunk) => {
        stderr += chunk
      })
      child.on('error', fail)
      child.on('close', (code) => done({ code: code ?? 1, stdout, stderr }))
    })
  }

  /** Runs a command that must succeed. @throws Error with what it said */
  async must(program: string, args: readonly string[], user?: User): Promise<string> {
    const { code, stdout, stderr } = await this.run(program, args, user)
    if (code !== 0) throw new Error(`${program} ${args.slice(0, 3).join(' ')}: ${(stderr || stdout).trim()}`)
    return stdout
  }

  /** The last lines of the log of a process that ended, if one did. */
  obituary(): string | undefined {
    const dead = this.#running.find(({ child }) => child.exitCode !== null || child.signalCode !== null)
    if (!dead) return undefined
    return `${dead.name} ended. The end of its log:\n${readFileSync(dead.log, 'utf8').trimEnd().split('\n').slice(-8).join('\n')}`
  }

  /** Ends all of them, youngest first. */
  async stop(): Promise<void> {
    for (const { child } of this.#running.splice(0).reverse()) {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) continue
      const ended = new Promise((done) => child.once('exit', done))
      child.kill('SIGTERM')
      const forced = setTimeout(() => child.kill('SIGKILL'), 5000)
      await ended
      clearTimeout(forced)
    }
  }
}

function as(user: User): { uid?: number; gid?: number } {
  return user === undefined ? {} : { uid: user, gid: user }
}
