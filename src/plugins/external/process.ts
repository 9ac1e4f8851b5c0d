import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { accessSync, closeSync, constants, createReadStream, openSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { errorMessage } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import { readHandshake } from './handshake.ts'
import { logLines } from './log-line.ts'

export interface PluginCommand {
  /** Its type as in the configuration; the plugin wants to be told. */
  readonly kind: string
  /** Relative to the working directory; nothing looks into PATH. */
  readonly path: string
  readonly arguments: readonly string[]
  /** SHA-256 of the file, hex. */
  readonly checksum: string | undefined
  /** A directory that only we may enter: the plugin puts its socket there. */
  readonly directory: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
  /** How long it may take to say where it listens; default 60 s, go-plugin's. */
  readonly patienceMs?: number
}

/** A plugin's process that has said where it listens. */
export interface PluginProcess {
  readonly pid: number
  /** A target of gRPC. */
  readonly target: string
  /** Aborts when the process ends; the reason is an Error that says how. */
  readonly ended: AbortSignal
  /** Gives it that time to end by itself, then kills it. Resolves when it has ended. */
  end(graceMs: number): Promise<void>
}

const PATIENCE_MS = 60_000
const LONGEST_LINE = 64 * 1024

/**
 * Starts a plugin as go-plugin does. It dies with us, also when we are killed: on Linux the kernel sees to it.
 * @throws Error with go-plugin's texts; the process has ended by then
 */
export async function startPlugin(command: PluginCommand): Promise<PluginProcess> {
  const path = resolve(command.path)
  if (process.execve === undefined) throw new Error('plugins out of process need Node.js')
  try {
    accessSync(path, constants.X_OK)
  } catch (error) {
    throw new Error(errorMessage(error).replace(/^access /, 'fork/exec '), { cause: error })
  }
  const file = command.checksum === undefined ? undefined : await checkedFile(path, command.checksum)
  let child: ChildProcess
  try {
    child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        BECOME,
        import.meta.resolve('koffi'),
        String(process.pid),
        path,
        ...command.arguments,
      ],
      {
        stdio: ['inherit', 'pipe', 'pipe', file ?? 'ignore'],
        env: {
          ...command.env,
          [command.kind]: command.kind,
          PLUGIN_MIN_PORT: '0',
          PLUGIN_MAX_PORT: '0',
          PLUGIN_PROTOCOL_VERSIONS: '1',
          PLUGIN_UNIX_SOCKET_DIR: command.directory,
        },
      },
    )
  } finally {
    if (file !== undefined) closeSync(file)
  }
  const ended = new AbortController()
  const end = once(child, 'exit').then(([code, signal]) => {
    ended.abort(new Error(`plugin process exited: ${signal === null ? `exit status ${code}` : `signal: ${signal}`}`))
  })
  child.once('error', (error) => ended.abort(error))
  readLines(child.stderr!, logLines(command.log.child({ subsystem_name: basename(path) })))

  const kill = async (graceMs: number) => {
    const late = setTimeout(() => child.kill('SIGKILL'), graceMs)
    if (graceMs === 0) child.kill('SIGKILL')
    await end
    clearTimeout(late)
  }
  try {
    const target = readHandshake(await firstLine(child.stdout!, ended.signal, command.patienceMs ?? PATIENCE_MS))
    return { pid: child.pid!, target, ended: ended.signal, end: kill }
  } catch (error) {
    if (child.pid !== undefined) await kill(0)
    throw error
  }
}

/**
 * What runs in the child until it becomes the plugin. Argument: where koffi is, our process, the path, the plugin's arguments. The file
 * that was checked is open as 3 and run by that name, so that nobody can put another one in its place.
 */
const BECOME = `
import { fstatSync } from 'node:fs'
const [koffi, parent, path, ...args] = process.argv.slice(1)
const checked = fstatSync(3).isFile()
if (process.platform === 'linux') {
  const { default: { load } } = await import(koffi)
  const libc = load(null)
  const [PR_SET_PDEATHSIG, SIGKILL, F_SETFD] = [1, 9, 2]
  libc.func('int prctl(int option, unsigned long signal)')(PR_SET_PDEATHSIG, SIGKILL)
  if (checked) libc.func('int fcntl(int descriptor, int command, ...)')(3, F_SETFD, 'int', 0)
}
if (process.ppid !== Number(parent)) process.exit(1)
process.execve(checked && process.platform === 'linux' ? '/proc/self/fd/3' : path, [path, ...args], process.env)
`

/** Opens a file whose SHA-256 is the one given. @throws Error with SPIRE's texts */
async function checkedFile(path: string, checksum: string): Promise<number> {
  const wanted = readChecksum(checksum)
  const file = openSync(path, 'r')
  try {
    const hash = createHash('sha256')
    for await (const piece of createReadStream('', { fd: file, autoClose: false, start: 0 })) hash.update(piece)
    if (!hash.digest().equals(wanted)) throw new Error('checksums did not match')
    return file
  } catch (error) {
    closeSync(file)
    throw error
  }
}

/** @throws Error with SPIRE's texts */
export function readChecksum(checksum: string): Buffer {
  if (!/^(?:[0-9a-f]{2})*$/i.test(checksum)) throw new Error('checksum is not a valid hex string')
  if (checksum.length !== 64) throw new Error(`expected checksum of length 64; got ${checksum.length}`)
  return Buffer.from(checksum, 'hex')
}

/** The first line of stdout; what follows is read and dropped, so that the plugin never waits for us. */
async function firstLine(stdout: Readable, ended: AbortSignal, patienceMs: number): Promise<string> {
  let late: NodeJS.Timeout | undefined
  try {
    return await new Promise<string>((resolve, reject) => {
      readLines(stdout, resolve)
      const exited = () => reject(new Error('plugin exited before we could connect', { cause: ended.reason }))
      // What it said before it ended is still to be read.
      stdout.once('close', () => (ended.aborted ? exited() : ended.addEventListener('abort', exited, { once: true })))
      late = setTimeout(() => reject(new Error('timeout while waiting for plugin to start')), patienceMs)
    })
  } finally {
    clearTimeout(late)
  }
}

/** Reads lines to the end. Longer ones come in pieces, as from go-plugin. */
export function readLines(from: Readable, line: (text: string) => void): void {
  let rest = ''
  from.setEncoding('utf8')
  from.on('error', () => {})
  from.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    for (const one of lines)
      for (let at = 0; at === 0 || at < one.length; at += LONGEST_LINE) line(one.slice(at, at + LONGEST_LINE))
    if (rest.length < LONGEST_LINE) return
    line(rest)
    rest = ''
  })
  from.on('end', () => {
    if (rest !== '') line(rest)
  })
}
