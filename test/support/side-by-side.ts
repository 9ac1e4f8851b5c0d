import { execFile, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePort } from '../../examples/nested/free-ports.ts'

/** SPIRE_BIN names the real spire-server, or the folder of it. */
const given = process.env.SPIRE_BIN ?? ''
export const SPIRE_IS_MISSING = given === ''
const folder = given.endsWith('spire-server') ? dirname(given) : given
const SERVERS = {
  SPIRE: join(folder, 'spire-server'),
  Turret: fileURLToPath(new URL('../../bin/turret-server', import.meta.url)),
}
export type Program = keyof typeof SERVERS
/** Those that are here. */
export const PROGRAMS: readonly Program[] = SPIRE_IS_MISSING ? ['Turret'] : ['Turret', 'SPIRE']

export interface Outcome {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** A usage text without what reaches a server over HTTPS: a line and commands that SPIRE's command line does not have. */
export function withoutRemoteFlags(usage: string): string {
  return usage.replaceAll('More flags: turret-server help remote\n', '').replace(/^ {4}(help|operator) +\n/gm, '')
}

/** A SPIRE server and one of ours with the same configuration, and the command lines of both to call either with. */
export function sideBySide(options: { readonly server?: string; readonly env?: Readonly<Record<string, string>> }) {
  const home = mkdtempSync(join(tmpdir(), 'turret-beside-'))
  const env = { PATH: process.env.PATH, ...options.env }
  const socket = (program: Program) => join(home, `${program}.sock`)
  const endings: (() => Promise<void>)[] = []

  function run(program: Program, ...args: string[]): Promise<Outcome> {
    return new Promise((resolve) => {
      execFile(SERVERS[program], args, { env }, (error, out, err) => {
        resolve({ code: error === null ? 0 : Number(error.code), out, err })
      })
    })
  }

  async function startOne(program: Program): Promise<void> {
    const config = join(home, `${program}.conf`)
    const data = join(home, program)
    mkdirSync(data)
    writeFileSync(
      config,
      `server {
  trust_domain = "example.org"  bind_address = "127.0.0.1"  bind_port = ${await freePort()}
  data_dir = "${data}"  socket_path = "${socket(program)}"  log_level = "ERROR"
  ${options.server ?? ''}
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3"  connection_string = "${data}/db" } }
  KeyManager "disk" { plugin_data { keys_path = "${data}/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
}
`,
    )
    const child = spawn(SERVERS[program], ['run', '-config', config], { stdio: ['ignore', 'ignore', 'inherit'] })
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    endings.push(() => {
      child.kill()
      return ended
    })
    while ((await run(program, 'healthcheck', '-socketPath', socket(program))).code !== 0) {
      if (child.exitCode !== null) throw new Error(`${program} ended before it was ready`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  return {
    home,
    socket,
    run,
    start: () => Promise.all(PROGRAMS.map(startOne)),
    async stop() {
      for (const end of endings) await end()
      rmSync(home, { recursive: true, force: true })
    },
  }
}
