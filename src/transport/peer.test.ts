import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { loadPeerWatcher, loadSocketKernel, type SocketKernel, watchOf, watchProcess } from './peer.ts'
import { listenUnix } from './unix-socket.ts'

// What a process that connects and becomes another user looks like is tested on real ones in test/e2e/caller.test.ts.

const uid = process.getuid!()
const gid = process.getgid!()
const ends: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

async function child(): Promise<ChildProcess & { readonly pid: number }> {
  const process = spawn('/bin/cat', { stdio: ['pipe', 'ignore', 'ignore'] })
  ends.push(() => void process.kill('SIGKILL'))
  await once(process, 'spawn')
  return process as ChildProcess & { readonly pid: number }
}

function watched(peer: Parameters<typeof watchProcess>[0]) {
  const watch = watchProcess(peer)
  ends.push(() => watch.end())
  return watch
}

test('a process is watched as long as it lives, and not a moment longer', async () => {
  const process = await child()
  const watch = watched({ pid: process.pid, uid, gid })
  watch.assertAlive()
  watch.assertAlive()
  process.kill('SIGKILL')
  await once(process, 'exit')
  const gone = { code: 'UNAUTHENTICATED', message: expect.stringContaining('failure to get starttime') }
  expect(() => watch.assertAlive()).toThrow(expect.objectContaining(gone))
})

test.each([
  ['user', { uid: uid + 1 }, `process uid ${uid} does not match original caller ${uid + 1}`],
  ['group', { gid: gid + 1 }, `process gid ${gid} does not match original caller ${gid + 1}`],
])('a process that is of another %s than who connected is refused', async (_, other, message) => {
  const { pid } = await child()
  const refused = { code: 'UNAUTHENTICATED', message: expect.stringContaining(message) }
  expect(() => watchProcess({ pid, uid, gid, ...other })).toThrow(expect.objectContaining(refused))
})

test('a watch that ended vouches for nobody, and a refused one holds nothing open', async () => {
  const { pid } = await child()
  const watch = watchProcess({ pid, uid, gid })
  watch.end()
  expect(() => watch.assertAlive()).toThrow('caller is no longer being watched')
  const heldOf = () =>
    readdirSync('/proc/self/fd')
      .map((fd) => targetOf(fd))
      .filter((path) => path.startsWith(`/proc/${pid}`))
  expect(() => watchProcess({ pid, uid: uid + 1, gid })).toThrow('could not verify existence')
  expect(heldOf()).toEqual([])
  const held = watched({ pid, uid, gid })
  expect(heldOf()).toHaveLength(2)
  held.end()
  expect(heldOf()).toEqual([])
})

/** What a descriptor of ours is open on; empty for the one that listed them. */
function targetOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

test('only the very object that a connection gave has a watch', async () => {
  const { pid } = await child()
  const peer = { pid, uid, gid }
  const watch = watched(peer)
  expect(watchOf(peer)).toBe(watch)
  expect(watchOf({ ...peer })).toBeUndefined()
})

/** Both ends of a connection that we made to ourselves. */
async function connection(): Promise<{ readonly client: Socket; readonly socket: Socket }> {
  const folder = mkdtempSync(join(tmpdir(), 'peer-'))
  const accepted = Promise.withResolvers<Socket>()
  const path = join(folder, 's')
  const listener = await listenUnix({ path, mode: 0o700, onConnection: accepted.resolve })
  const client = connect(path)
  const socket = await accepted.promise
  ends.push(async () => {
    client.destroy()
    socket.destroy()
    await listener.close()
    rmSync(folder, { recursive: true })
  })
  return { client, socket }
}

const NOBODY = { code: 'UNAUTHENTICATED', message: 'could not resolve caller information' }
const GONE = {
  code: 'UNAUTHENTICATED',
  message: 'could not verify existence of the original caller: no such process',
}

test('a connection is watched until it closes', async () => {
  const { client, socket } = await connection()
  const watcher = await loadPeerWatcher()
  const watch = watcher(socket)
  expect(watch.process).toEqual({ pid: process.pid, uid, gid })
  expect(watchOf(watch.process)).toBe(watch)
  watch.assertAlive()
  const closed = once(socket, 'close')
  client.destroy()
  socket.destroy()
  await closed
  expect(() => watch.assertAlive()).toThrow('caller is no longer being watched')
  expect(() => watcher(socket)).toThrow(expect.objectContaining(NOBODY))
})

const SO_PEERCRED = 17
const SO_PEERPIDFD = 77
const [EBADF, ENOPROTOOPT, ESRCH] = [9, 92, 3]
const kernel = await loadSocketKernel()

/** Fills in the credentials of a process. */
function credentials(pid: number, length = 12): SocketKernel['option'] {
  return (_fd, _name, value) => {
    for (const [index, number] of [pid, uid, gid].entries()) value.writeUInt32LE(number, 4 * index)
    return length
  }
}

/** A kernel that says something else of one option, and which descriptors it was told to close. */
function otherKernel(option: number, says: SocketKernel['option']) {
  const closed: number[] = []
  const close = (fd: number) => {
    closed.push(fd)
    kernel.close(fd)
  }
  const ask: SocketKernel['option'] = (fd, name, value) => (name === option ? says : kernel.option)(fd, name, value)
  return { closed, close, option: ask }
}

/** What we hold open of processes: their directories and their handles. */
function heldProcesses(): string[] {
  return readdirSync('/proc/self/fd')
    .map(targetOf)
    .filter((target) => target.includes('pidfd') || /^\/proc\/\d+(\/stat)?$/.test(target))
}

test('what the kernel fails with is never taken for a length', () => {
  expect(kernel.option(-1, SO_PEERCRED, Buffer.alloc(12))).toBe(-EBADF)
})

test.each<[string, SocketKernel['option']]>([
  ['fails', () => -EBADF],
  ['gives a part of them', credentials(process.pid, 8)],
  ['gives nothing', () => 0],
  ['says the peer is of a PID namespace that is out of sight', credentials(0)],
])('a connection is nobody’s whose credentials the kernel %s', async (_, says) => {
  const { socket } = await connection()
  const admitted: unknown[] = []
  const watcher = await loadPeerWatcher((_socket, peer) => void admitted.push(peer), otherKernel(SO_PEERCRED, says))
  expect(() => watcher(socket)).toThrow(expect.objectContaining(NOBODY))
  expect(admitted).toEqual([])
  expect(heldProcesses()).toEqual([])
})

test('a connection is not that of a live process whose number is not the one that the kernel holds', async () => {
  const { socket } = await connection()
  const { pid } = await child()
  const other = otherKernel(SO_PEERCRED, credentials(pid))
  // Deno and Bun hold a pidfd of each child.
  const before = heldProcesses().length
  const watcher = await loadPeerWatcher(undefined, other)
  const pidfd = Buffer.alloc(4)
  if (kernel.option((socket as unknown as { _handle: { fd: number } })._handle.fd, SO_PEERPIDFD, pidfd) !== 4) return
  kernel.close(pidfd.readInt32LE(0))
  expect(() => watcher(socket)).toThrow(expect.objectContaining(GONE))
  expect(other.closed).toHaveLength(1)
  expect(heldProcesses().length).toBeLessThanOrEqual(before)
})

test.each<[string, SocketKernel['option']]>([
  ['it has ended', () => -ESRCH],
  ['a part of a descriptor', () => 2],
])('nor if the kernel says of its process: %s', async (_, says) => {
  const { socket } = await connection()
  // Deno and Bun hold a pidfd of each child.
  const before = heldProcesses().length
  const watcher = await loadPeerWatcher(undefined, otherKernel(SO_PEERPIDFD, says))
  expect(() => watcher(socket)).toThrow(expect.objectContaining(GONE))
  expect(heldProcesses().length).toBeLessThanOrEqual(before)
})

test('a kernel that holds no processes for us is one before 6.5: the handles of /proc have to do', async () => {
  const { socket } = await connection()
  const watcher = await loadPeerWatcher(
    undefined,
    otherKernel(SO_PEERPIDFD, () => -ENOPROTOOPT),
  )
  const watch = watcher(socket)
  expect(watch.process).toEqual({ pid: process.pid, uid, gid })
  watch.assertAlive()
})

test('what the kernel holds for us is given back, and a connection that is one too many costs nothing', async () => {
  const { socket } = await connection()
  const seen: unknown[] = []
  const watcher = await loadPeerWatcher((one, peer) => {
    seen.push(one, peer)
    throw new Error('one too many')
  })
  expect(() => watcher(socket)).toThrow('one too many')
  expect(seen).toEqual([socket, { pid: process.pid, uid, gid }])
  expect(heldProcesses()).toEqual([])
  const granted = await loadPeerWatcher()
  granted(socket)
  expect(heldProcesses()).toHaveLength(2)
})

test('where the kernel says nothing of callers, nobody is served', async () => {
  const platform = Object.getOwnPropertyDescriptor(process, 'platform')!
  ends.push(() => void Object.defineProperty(process, 'platform', platform))
  Object.defineProperty(process, 'platform', { value: 'darwin', configurable: true })
  await expect(loadPeerWatcher()).rejects.toThrow('peer credentials are not supported on darwin')
})
