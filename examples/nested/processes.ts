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
  #stopping = false

  constructor(environment: Readonly<Record<string, string>>) {
    this.#environment = { ...process.env, ...environment }
  }

  /**
   * Starts a server or agent that stays, its output in a file.
   * @param program a name in `bin`, or the path of another program
   */
  start(name: string, program: string, args: readonly string[], log: string, user: User): ChildProcess {
    if (this.#stopping) throw new Error('stopping')
    const descriptor = openSync(log, 'a', 0o600)
    const child = spawn(pathOf(program), [...args], {
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
    return new Promise((done, fail) => {
      const child = spawn(pathOf(program), [...args], {
        env: this.#environment,
        stdio: ['ignore', 'pipe', 'pipe'],
        ...as(user),
      })
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
    return dead && `${dead.name} ended. The end of its log:\n${tail(dead.log, 8)}`
  }

  /** The last lines of every log, for failures that no one process is to blame for. */
  lastWords(): string {
    return this.#running.map(({ name, log }) => `--- ${name}\n${tail(log, 4)}`).join('\n')
  }

  /** Ends all of them, youngest first. */
  async stop(): Promise<void> {
    this.#stopping = true
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

function pathOf(program: string): string {
  return program.startsWith('turret-') ? join(BIN, program) : program
}

function tail(log: string, lines: number): string {
  return readFileSync(log, 'utf8').trimEnd().split('\n').slice(-lines).join('\n')
}

function as(user: User): { uid?: number; gid?: number } {
  return user === undefined ? {} : { uid: user, gid: user }
}
