import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import type { Socket } from 'node:net'
import { errorMessage, StatusError } from '../core/error.ts'
import type { PeerProcess } from '../core/plugin.ts'

/** The process that made a connection, held so that another one with its number, or with other rights, is noticed. */
export interface PeerWatch {
  readonly process: PeerProcess
  /**
   * @throws StatusError UNAUTHENTICATED if the process is gone, its number belongs to another one, or it runs as another user or group
   *   than when it connected
   */
  assertAlive(): void
}

const watches = new WeakMap<PeerProcess, PeerWatch>()

/** The watch behind the process of a `local` peer; undefined if it came from elsewhere. */
export function watchOf(process: PeerProcess): PeerWatch | undefined {
  return watches.get(process)
}

const SOL_SOCKET = 1
const SO_PEERCRED = 17
/** Linux 6.5 and later. */
const SO_PEERPIDFD = 77
const ENOPROTOOPT = 92

/** What the kernel is asked about the other end of a socket. */
export interface SocketKernel {
  /** getsockopt(2) of a SOL_SOCKET option into `value`. @returns how many bytes it has, or -errno */
  option(fd: number, name: number, value: Buffer): number
  close(fd: number): void
}

/** Loads koffi (once, about 10 ms) for what Node has no call. Linux only: elsewhere it throws. */
export async function loadSocketKernel(): Promise<SocketKernel> {
  if (process.platform !== 'linux') throw new Error(`peer credentials are not supported on ${process.platform}`)
  const { default: koffi } = await import('koffi')
  const libc = koffi.load(null)
  const getsockopt = libc.func(
    'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
  )
  // Deno closes only what it opened itself.
  const close = libc.func('int close(int fd)')
  return {
    option(fd, name, value) {
      const length = [value.length]
      return getsockopt(fd, SOL_SOCKET, name, value, length) === 0 ? length[0]! : -koffi.errno()
    },
    close: (fd) => void close(fd),
  }
}

/**
 * Gives a function that takes a connection's credentials and watches the process until the socket closes. One watch serves all calls
 * of a connection.
 *
 * @param admit looks at the credentials before anything is opened for the connection, and throws if it is one too many
 */
export async function loadPeerWatcher(
  admit: (socket: Socket, peer: PeerProcess) => void = () => {},
  kernel?: SocketKernel,
): Promise<(socket: Socket) => PeerWatch> {
  const { option, close } = kernel ?? (await loadSocketKernel())
  return (socket) => {
    const fd = (socket as unknown as { _handle?: { fd: number } })._handle?.fd ?? -1
    const credentials = Buffer.alloc(12)
    if (option(fd, SO_PEERCRED, credentials) !== credentials.length) {
      throw new StatusError('UNAUTHENTICATED', 'could not resolve caller information')
    }
    const peer: PeerProcess = {
      pid: credentials.readInt32LE(0),
      uid: credentials.readUInt32LE(4),
      gid: credentials.readUInt32LE(8),
    }
    // 0: the peer lives in a PID namespace that we cannot see.
    if (peer.pid === 0) throw new StatusError('UNAUTHENTICATED', 'could not resolve caller information')
    admit(socket, peer)
    const watch = watchProcess(peer)
    try {
      const pidfd = Buffer.alloc(4)
      const found = option(fd, SO_PEERPIDFD, pidfd)
      // The kernel's own hold of the process that connected: while it lives, its number is its own, and so is what was just opened.
      if (found === pidfd.length) {
        const held = pidfd.readInt32LE(0)
        try {
          requireSame(held, peer.pid)
        } finally {
          close(held)
        }
      } else if (found !== -ENOPROTOOPT) throw gone('no such process')
    } catch (error) {
      watch.end()
      throw error
    }
    socket.once('close', watch.end)
    return watch
  }
}

/** @throws StatusError UNAUTHENTICATED if the process of a pidfd is gone, or is not the one with this number */
function requireSame(pidfd: number, pid: number): void {
  const found = /^Pid:\t(-?\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd}`, 'latin1'))?.[1]
  if (found !== String(pid)) throw gone('no such process')
}

/**
 * Watches a process through open handles of its /proc directory and its stat: they die with the process, whatever gets its
 * number. Reading a handle costs a quarter of opening the file anew, and each call of a workload does it.
 *
 * The directory belongs to the effective ids of the process, whether it may be dumped or not. They are compared with the ids that
 * connected, which are the kernel's word: a program that runs with other rights than its caller's (setuid) is not who connected.
 *
 * @throws StatusError UNAUTHENTICATED if it is already gone, or not who connected
 */
export function watchProcess(peer: PeerProcess): PeerWatch & { end(): void } {
  const handles: number[] = []
  let startTime: string
  try {
    handles.push(openSync(`/proc/${peer.pid}`, constants.O_RDONLY | constants.O_DIRECTORY))
    handles.push(openSync(`/proc/self/fd/${handles[0]}/stat`, constants.O_RDONLY))
    startTime = startTimeOf(handles[1]!)
    requireOwner(fstatSync(handles[0]!), peer)
  } catch (error) {
    for (const handle of handles) closeSync(handle)
    throw error instanceof StatusError ? error : gone(errorMessage(error))
  }
  const watch = {
    process: peer,
    assertAlive(): void {
      const [directory, stat] = handles
      if (directory === undefined || stat === undefined) throw gone('caller is no longer being watched')
      let now: string
      let ownerNow: { uid: number; gid: number }
      try {
        now = startTimeOf(stat)
        ownerNow = fstatSync(directory)
      } catch {
        throw gone('caller exit suspected due to failure to get starttime')
      }
      if (now !== startTime) throw gone('new process detected: process starttime does not match original caller')
      requireOwner(ownerNow, peer)
    },
    end(): void {
      for (const handle of handles.splice(0)) closeSync(handle)
    },
  }
  watches.set(peer, watch)
  return watch
}

function requireOwner(owner: { readonly uid: number; readonly gid: number }, { uid, gid }: PeerProcess): void {
  if (owner.uid !== uid)
    throw gone(`new process detected: process uid ${owner.uid} does not match original caller ${uid}`)
  if (owner.gid !== gid)
    throw gone(`new process detected: process gid ${owner.gid} does not match original caller ${gid}`)
}

/** Longer than any stat line; the one buffer will do, since it is read and used at once. */
const line = Buffer.alloc(4096)

/** Field 22 of stat, counted after the last `)`: a command name may hold both blanks and parentheses. */
function startTimeOf(stat: number): string {
  const text = line.toString('latin1', 0, readSync(stat, line, 0, line.length, 0))
  const startTime = text.slice(text.lastIndexOf(')') + 2).split(' ', 20)[19]
  if (startTime === undefined) throw new Error('malformed stat')
  return startTime
}

function gone(reason: string): StatusError {
  return new StatusError('UNAUTHENTICATED', `could not verify existence of the original caller: ${reason}`)
}
