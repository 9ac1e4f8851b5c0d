import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { loadPeerWatcher, watchOf, watchProcess } from './peer.ts'
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

test('a connection is watched until it closes', async () => {
  const watcher = await loadPeerWatcher()
  const folder = mkdtempSync(join(tmpdir(), 'peer-'))
  const accepted = Promise.withResolvers<Socket>()
  const path = join(folder, 's')
  const listener = await listenUnix({ path, mode: 0o700, onConnection: accepted.resolve })
  ends.push(async () => {
    await listener.close()
    rmSync(folder, { recursive: true })
  })
  const client = connect(path)
  const socket = await accepted.promise
  const watch = watcher(socket)
  expect(watch.process).toEqual({ pid: process.pid, uid, gid })
  expect(watchOf(watch.process)).toBe(watch)
  watch.assertAlive()
  const closed = once(socket, 'close')
  client.destroy()
  socket.destroy()
  await closed
  expect(() => watch.assertAlive()).toThrow('caller is no longer being watched')
  const refused = { code: 'UNAUTHENTICATED', message: 'could not resolve caller information' }
  expect(() => watcher(socket)).toThrow(expect.objectContaining(refused))
})
