import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs'
import { errorMessage, StatusError } from '../../../core/error.ts'
import type { PeerProcess, WorkloadAttestor } from '../../../core/plugin.ts'
import { half, type PluginDeclaration } from '../../plugin.ts'
import { textOf } from '../../plugin-data.ts'
import { Executables } from './executable.ts'

export interface UnixOptions {
  /** Also report the executable's path and SHA-256. Default false. */
  readonly discoverWorkloadPath?: boolean
  /** Bytes up to which the executable is hashed: 0 no limit (default), below 0 no hash. */
  readonly workloadSizeLimitBytes?: number
  /** Where /proc of the host is mounted. Default `/proc`. */
  readonly procPath?: string
  /** Default `/etc/passwd` and `/etc/group`. */
  readonly passwdPath?: string
  readonly groupPath?: string
}

/**
 * Tells a process by its users, groups and, if asked to, its executable. Values as in agent.md 18.1: `uid`, `user`, `gid`,
 * `group`, `supplementary_gid`, `supplementary_group`, `path`, `sha256`. A uid or gid without a name has no name selector.
 */
export function unixAttestor(options: UnixOptions = {}): WorkloadAttestor {
  const proc = options.procPath ?? '/proc'
  const users = new NameTable(options.passwdPath ?? '/etc/passwd')
  const groups = new NameTable(options.groupPath ?? '/etc/group')
  const sizeLimit = options.workloadSizeLimitBytes ?? 0
  const executables = new Executables()

  async function attest(peer: PeerProcess, signal: AbortSignal): Promise<readonly string[]> {
    const status = readStatus(proc, peer.pid)
    // Ids that a program has for a moment are not those of who connected.
    if (status.uid !== String(peer.uid) || status.gid !== String(peer.gid))
      throw new StatusError('INTERNAL', `process ${peer.pid} runs as another user or group than when it connected`)
    const values = [`uid:${status.uid}`]
    const user = users.nameOf(status.uid)
    if (user !== undefined) values.push(`user:${user}`)
    values.push(`gid:${status.gid}`)
    const group = groups.nameOf(status.gid)
    if (group !== undefined) values.push(`group:${group}`)
    for (const gid of status.supplementaryGids) {
      values.push(`supplementary_gid:${gid}`)
      const name = groups.nameOf(gid)
      if (name !== undefined) values.push(`supplementary_group:${name}`)
    }
    if (options.discoverWorkloadPath) {
      const { path, digest } = await executables.identify(`${proc}/${peer.pid}/exe`, sizeLimit, signal)
      values.push(`path:${path}`)
      if (digest !== undefined) values.push(`sha256:${digest}`)
    }
    return values
  }

  return { name: 'unix', attest }
}

interface ProcessStatus {
  readonly uid: string
  readonly gid: string
  readonly supplementaryGids: readonly string[]
}

/** Effective ids are the second of the four columns. /proc never touches a disk, so reading it at once is the fastest way. */
function readStatus(proc: string, pid: number): ProcessStatus {
  let text: string
  try {
    text = readShort(`${proc}/${pid}/status`)
  } catch (error) {
    throw new StatusError('INTERNAL', `failed to read status of process ${pid}: ${errorMessage(error)}`, {
      cause: error,
    })
  }
  const uid = /^Uid:\t\d+\t(\d+)/m.exec(text)?.[1]
  const gid = /^Gid:\t\d+\t(\d+)/m.exec(text)?.[1]
  const supplementary = /^Groups:[ \t]*(.*)$/m.exec(text)?.[1]
  if (uid === undefined || gid === undefined || supplementary === undefined) {
    throw new StatusError('INTERNAL', `status of process ${pid} has no ids`)
  }
  return { uid, gid, supplementaryGids: supplementary.split(' ').filter((part) => part !== '') }
}

const buffer = Buffer.alloc(64 * 1024)

/** Reads a file of /proc in one go: its size is not known, and asking for it costs as much as reading it. */
function readShort(path: string): string {
  const file = openSync(path, 'r')
  try {
    return buffer.toString('latin1', 0, readSync(file, buffer, 0, buffer.length, 0))
  } finally {
    closeSync(file)
  }
}

/** Names by numeric id from a file in the format of passwd(5) or group(5), read again when it changed. */
class NameTable {
  readonly #path: string
  #names = new Map<string, string>()
  #readMtimeMs = -1

  constructor(path: string) {
    this.#path = path
  }

  nameOf(id: string): string | undefined {
    const mtimeMs = statSync(this.#path, { throwIfNoEntry: false })?.mtimeMs ?? 0
    if (mtimeMs !== this.#readMtimeMs) {
      this.#names = mtimeMs === 0 ? new Map() : parseNames(readFileSync(this.#path, 'utf8'))
      this.#readMtimeMs = mtimeMs
    }
    return this.#names.get(id)
  }
}

function parseNames(text: string): Map<string, string> {
  const names = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [name, , id] = line.split(':')
    if (name && id && !names.has(id)) names.set(id, name)
  }
  return names
}

const declaration: PluginDeclaration<'WorkloadAttestor'> = {
  agent: half({
    keys: ['discover_workload_path', 'workload_size_limit'],
    read: (data) => ({
      discoverWorkloadPath: data.discover_workload_path === true,
      workloadSizeLimitBytes: Number(textOf(data, 'workload_size_limit') || '0'),
    }),
    make: (options, { env }) => unixAttestor({ ...options, procPath: env.HOST_PROC || '/proc' }),
  }),
}
export default declaration
