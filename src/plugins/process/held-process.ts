import { closeSync, constants, openSync, readlinkSync, readSync } from 'node:fs'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { PeerProcess } from '../../core/plugin.ts'

/** More than the kernel writes for any sane process. */
const MAX_BYTES = 1024 * 1024

/**
 * The folder of one process in /proc, held open: once the process is gone nothing can be read there any more, even if another one got
 * its pid.
 */
export class HeldProcess {
  readonly pid: number
  readonly #folder: number
  readonly #peer: PeerProcess

  /** @throws StatusError INTERNAL if there is no such process, or it runs as somebody else than who connected */
  constructor(proc: string, peer: PeerProcess) {
    this.pid = peer.pid
    this.#peer = peer
    try {
      this.#folder = openSync(`${proc}/${peer.pid}`, constants.O_RDONLY | constants.O_DIRECTORY)
    } catch (error) {
      throw new StatusError('INTERNAL', `process ${peer.pid} cannot be read: ${errorMessage(error)}`, { cause: error })
    }
    try {
      this.assertSame()
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** A file of it as text. @throws Error if it is gone or the file is too large */
  read(name: string): string {
    return readWhole(`/proc/self/fd/${this.#folder}/${name}`)
  }

  /** Where a link of it leads. @throws Error */
  link(name: string): string {
    return readlinkSync(`/proc/self/fd/${this.#folder}/${name}`)
  }

  /** @throws StatusError INTERNAL if it is gone, or runs as somebody else than who connected */
  assertSame(): void {
    const { pid, uid, gid } = this.#peer
    let status: string
    try {
      status = this.read('status')
    } catch (error) {
      throw new StatusError('INTERNAL', `process ${pid} is gone: ${errorMessage(error)}`, { cause: error })
    }
    const ids = ['Uid', 'Gid'].map((name) => new RegExp(`^${name}:\\t\\d+\\t(\\d+)`, 'm').exec(status)?.[1])
    if (ids[0] !== String(uid) || ids[1] !== String(gid))
      throw new StatusError('INTERNAL', `process ${pid} runs as another user or group than when it connected`)
  }

  close(): void {
    closeSync(this.#folder)
  }
}

/** Files of /proc have no size before they are read. @throws Error */
export function readWhole(path: string): string {
  const file = openSync(path, 'r')
  try {
    const chunks: Buffer[] = []
    for (let total = 0; ; ) {
      const chunk = Buffer.alloc(64 * 1024)
      const length = readSync(file, chunk)
      if (length === 0) return Buffer.concat(chunks).toString('utf8')
      total += length
      if (total > MAX_BYTES) throw new Error(`${path} has more than ${MAX_BYTES} bytes`)
      chunks.push(chunk.subarray(0, length))
    }
  } finally {
    closeSync(file)
  }
}
