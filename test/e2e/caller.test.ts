import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadPeerWatcher } from '../../src/transport/peer.ts'
import { type Listener, listenUnix } from '../../src/transport/unix-socket.ts'

/** Real processes that connect to a unix socket and then become something else. */
const PYTHON = '/usr/bin/python3'
const missing = process.getuid?.() !== 0 || !existsSync(PYTHON)
if (missing) console.warn(`not root, or no ${PYTHON}: callers that become another user are NOT tested`)

type Child = ChildProcessByStdio<Writable, Readable, null>

const watcher = await loadPeerWatcher()
const children: Child[] = []
let folder: string
let sleep: string
let listener: Listener
let onSocket: (socket: Socket) => void

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'caller-'))
  chmodSync(folder, 0o755)
  // It runs as root whoever starts it.
  sleep = join(folder, 'sleep')
  copyFileSync('/bin/sleep', sleep)
  chmodSync(sleep, 0o4755)
  listener = await listenUnix({ path: join(folder, 's'), mode: 0o777, onConnection: (socket) => onSocket(socket) })
})
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  await listener.close()
  rmSync(folder, { recursive: true })
})

interface Caller {
  readonly pid: number
  readonly socket: Socket
  /** Lets the program go on after `wait()`. */
  goOn(): void
}

/** Runs a program as user and group 4242; it has `connect()`, `ready()`, and `wait()` for `goOn`. */
async function caller(program: string): Promise<Caller> {
  const accepted = new Promise<Socket>((resolve) => {
    onSocket = (socket) => {
      socket.on('error', () => {})
      resolve(socket)
    }
  })
  const text = `import ctypes, os, socket, sys
os.setgroups([]); os.setresgid(4242, 4242, 4243); os.setresuid(4242, 4242, 4242)
s = socket.socket(socket.AF_UNIX); s.set_inheritable(True)
def connect(): s.connect(${JSON.stringify(join(folder, 's'))})
def ready(): print('ready', flush=True)
def wait(): sys.stdin.readline()
${program}
wait()
`
  const child = spawn(PYTHON, ['-c', text], { stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  await once(child.stdout, 'data')
  return { pid: child.pid!, socket: await accepted, goOn: () => child.stdin.write('\n') }
}

const BECOME_ROOT = () => `os.execv(${JSON.stringify(sleep)}, ['sleep', '60'])`

/** The number that the kernel gives for the other end of a connection, whoever has it now. */
function credentialsPid(socket: Socket): number {
  try {
    return watcher(socket).process.pid
  } catch (error) {
    return Number(/\/proc\/(\d+)/.exec((error as Error).message)?.[1])
  }
}

/** Waits until /proc says so of a process. */
async function until(pid: number, says: RegExp): Promise<void> {
  const deadline = Date.now() + 4_000
  while (!says.test(readFileSync(`/proc/${pid}/status`, 'latin1'))) {
    if (Date.now() > deadline) throw new Error(`process ${pid} never is as ${says} says`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const IS_ROOT = /^Uid:\t4242\t0\t/m

test.skipIf(missing)('who connected is known by the ids that the kernel gives', async () => {
  const { pid, socket } = await caller('connect(); ready()')
  const watch = watcher(socket)
  expect(watch.process).toEqual({ pid, uid: 4242, gid: 4242 })
  watch.assertAlive()
})

test.skipIf(missing)('a process that may not be dumped is known by its ids as well', async () => {
  const { socket } = await caller('connect(); ctypes.CDLL(None).prctl(4, 0); ready()')
  expect(watcher(socket).process).toMatchObject({ uid: 4242 })
})

test.skipIf(missing)('a caller that runs a setuid program before its connection is taken is not root', async () => {
  const { pid, socket } = await caller(`connect()\nready()\n${BECOME_ROOT()}`)
  await until(pid, IS_ROOT)
  expect(() => watcher(socket)).toThrow(/process uid 0 does not match original caller 4242/)
})

test.skipIf(missing)('nor if its connection was taken before', async () => {
  const { pid, socket, goOn } = await caller(`connect()\nready()\nwait()\n${BECOME_ROOT()}`)
  const watch = watcher(socket)
  watch.assertAlive()
  goOn()
  await until(pid, IS_ROOT)
  expect(() => watch.assertAlive()).toThrow(/process uid 0 does not match original caller 4242/)
})

test.skipIf(missing)('a process that takes another group is not who connected', async () => {
  const { pid, socket, goOn } = await caller('connect()\nready()\nwait()\nos.setresgid(-1, 4243, -1)')
  const watch = watcher(socket)
  goOn()
  await until(pid, /^Gid:\t4242\t4243\t/m)
  expect(() => watch.assertAlive()).toThrow(/process gid 4243 does not match original caller 4242/)
})

test.skipIf(missing)('a connection whose maker has ended is nobody’s, though another process holds it', async () => {
  const program = 'pid = os.fork()\nif pid == 0:\n  connect(); os._exit(0)\nos.waitpid(pid, 0); ready()'
  const { socket } = await caller(program)
  expect(() => watcher(socket)).toThrow(/could not verify existence of the original caller/)
})

const LAST_PID = '/proc/sys/kernel/ns_last_pid'

test.skipIf(missing || !existsSync(LAST_PID))(
  'a process with the number of one that connected and ended is not it',
  async () => {
    // Python takes the number itself: nobody else is likely to between two of its lines.
    const { socket, pid } = await caller(`
gone = os.fork()
if gone == 0:
  connect(); os._exit(0)
os.waitpid(gone, 0)
ready()`)
    const first = credentialsPid(socket)
    expect(first).not.toBe(pid)
    const taker = `import os, time
for _ in range(50):
  open('${LAST_PID}', 'w').write('${first - 1}')
  child = os.fork()
  if child == 0:
    os.setresgid(4242, 4242, 4242); os.setresuid(4242, 4242, 4242)
    time.sleep(60); os._exit(0)
  if child == ${first}: break
  os.kill(child, 9); os.waitpid(child, 0)
print(child, flush=True)
import sys; sys.stdin.readline(); os.kill(child, 9)`
    const child = spawn(PYTHON, ['-c', taker], { stdio: ['pipe', 'pipe', 'inherit'] })
    children.push(child)
    const [line] = await once(child.stdout, 'data')
    expect(Number(line)).toBe(first)
    await until(first, /^Uid:\t4242\t4242\t/m)
    expect(() => watcher(socket)).toThrow(/could not verify existence of the original caller/)
    child.stdin.end()
    await once(child, 'exit')
  },
)
