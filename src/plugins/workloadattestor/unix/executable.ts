import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, readlink, statfs } from 'node:fs/promises'
import { type Clock, systemClock } from '../../../core/clock.ts'
import { errorMessage, StatusError } from '../../../core/error.ts'
import { fileState } from './file-state.ts'
import { HashingThread } from './hashing.ts'

export interface Executable {
  readonly path: string
  /** Hex SHA-256; undefined if none was asked for. */
  readonly digest: string | undefined
}

/** Below this a file is hashed in less time than a thread is asked. */
const SMALL_BYTES = 256 * 1024
const REMEMBERED = 1024
/** A file that changed so recently can change again and keep its times: the kernel's clock has steps. */
const SETTLED_MS = 2_000
/** ext2 to ext4, XFS, Btrfs, tmpfs: the times of their files are the kernel's, and nobody but root can set ctime. */
const TRUSTED_FILE_SYSTEMS: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994])

/**
 * Paths and hashes of running programs. A hash is remembered by device, inode, size, mtime and ctime: whoever writes to a file moves its
 * ctime on, which only the kernel sets. It is not remembered where that does not hold: for a file that changed a moment ago, and on file
 * systems whose server, which may be a user's own program, says what the times are.
 */
export class Executables {
  readonly #thread = new HashingThread()
  readonly #digests = new Map<string, string>()
  readonly #clock: Clock
  /** How often a file was read: for tests. */
  reads = 0

  constructor(clock = systemClock) {
    this.#clock = clock
  }

  /**
   * Path and hash of one file: the process may run another one a moment later.
   *
   * @param link `/proc/PID/exe`, which names the running file even if its path was replaced meanwhile
   * @param sizeLimit in bytes; 0 for none, below 0: no hash
   * @throws StatusError INTERNAL
   */
  async identify(link: string, sizeLimit: number, signal: AbortSignal): Promise<Executable> {
    if (sizeLimit < 0) return { path: await readlink(link).catch(failed('path')), digest: undefined }
    const file = await open(link, constants.O_RDONLY).catch(failed('SHA256 digest'))
    try {
      const path = await readlink(`/proc/self/fd/${file.fd}`).catch(failed('path'))
      const stats = await file.stat({ bigint: true })
      if (sizeLimit > 0 && stats.size > sizeLimit) {
        throw new StatusError(
          'INTERNAL',
          `SHA256 digest: workload ${path} exceeds size limit (${stats.size} > ${sizeLimit})`,
        )
      }
      const state = fileState(stats)
      const known = this.#digests.get(state)
      if (known !== undefined) return { path, digest: known }
      const settled = this.#clock.nowMs() - Number(stats.ctimeNs / 1_000_000n) >= SETTLED_MS
      this.reads += 1
      const digest = stats.size <= SMALL_BYTES ? await digestOf(file) : await this.#digestInThread(link, state, signal)
      if (settled && (await isTrusted(file))) this.#remember(state, digest)
      return { path, digest }
    } finally {
      await file.close()
    }
  }

  async #digestInThread(link: string, state: string, signal: AbortSignal): Promise<string> {
    const read = await this.#thread.hash(link, signal).catch(failed('SHA256 digest'))
    if (read.state !== state) throw new StatusError('INTERNAL', 'SHA256 digest: the file changed while it was read')
    return read.digest
  }

  #remember(state: string, digest: string): void {
    if (this.#digests.size >= REMEMBERED) {
      const [oldest] = this.#digests.keys()
      this.#digests.delete(oldest!)
    }
    this.#digests.set(state, digest)
  }
}

async function digestOf(file: FileHandle): Promise<string> {
  const hash = createHash('sha256')
  const chunk = Buffer.alloc(SMALL_BYTES)
  for (let position = 0; ; ) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, position)
    if (bytesRead === 0) return hash.digest('hex')
    hash.update(chunk.subarray(0, bytesRead))
    position += bytesRead
  }
}

async function isTrusted(file: FileHandle): Promise<boolean> {
  try {
    const { type } = await statfs(`/proc/self/fd/${file.fd}`)
    return TRUSTED_FILE_SYSTEMS.has(type)
  } catch {
    return false
  }
}

function failed(what: string): (error: unknown) => never {
  return (error) => {
    throw new StatusError('INTERNAL', `${what}: ${errorMessage(error)}`, { cause: error })
  }
}
