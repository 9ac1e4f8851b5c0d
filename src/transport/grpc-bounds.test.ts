import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectSocket, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { silentLog } from '../core/log.ts'
import type { Peer } from '../rpc/caller.ts'
import type { BoundMethod } from '../rpc/service.ts'
import { fairTurns } from './fair-turns.ts'
import { connect, type GrpcChannel } from './grpc-client.ts'
import { type ConnectionOptions, type GrpcServerOptions, serveGrpc } from './grpc-server.ts'
import { listenUnix } from './unix-socket.ts'

// Which connections and calls a server does not take, and which it ends.

const raw = {
  encode: (bytes: Uint8Array) => ({ finish: () => bytes }),
  decode: (bytes: Uint8Array) => new Uint8Array(bytes),
}
const method = { path: '/test.Echo/Follow', request: raw, response: raw }
const REQUEST = new Uint8Array(0)
let starts = 0
const follow: BoundMethod = {
  path: method.path,
  kind: 'server-stream',
  unary: () => Promise.reject(new Error('not this kind')),
  stream: async function* (_requests, call) {
    starts += 1
    yield Uint8Array.of(7)
    await once(call.signal, 'abort')
  },
}
const service = { methods: new Map([[follow.path, follow]]), services: new Set(['test.Echo']) }

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function serving(options: Partial<GrpcServerOptions>, peer: () => Peer, limits?: ConnectionOptions) {
  const server = serveGrpc({ service, log: silentLog, ...options })
  const folder = mkdtempSync(join(tmpdir(), 'bounds-'))
  const path = join(folder, 's')
  const onConnection = (socket: Socket) => server.accept(socket, peer(), limits)
  const listener = await listenUnix({ path, mode: 0o700, onConnection })
  ends.push(async () => {
    await server.close(0)
    await listener.close()
    rmSync(folder, { recursive: true })
  })
  const dial = async () => {
    const channel = await connect({ target: `unix://${path}` })
    ends.push(() => channel.close())
    return channel
  }
  return { server, path, dial }
}

const following = (channel: GrpcChannel) => channel.serverStream(method, REQUEST)[Symbol.asyncIterator]()
const STRANGER: Peer = { via: 'anonymous', address: '192.0.2.1:1' }

test('no connection begins with a certificate that has ended, nor with a server that was stopped', async () => {
  const clock = { nowMs: () => 1_800_000_000_000 }
  const { server } = await serving({ clock }, () => STRANGER)
  const known = (expiresAt: number): Peer => ({
    via: 'x509',
    address: '',
    spiffeId: 'spiffe://example.org/x' as never,
    serialNumber: '1',
    expiresAt,
  })
  const accept = (peer: Peer) => {
    const socket = new Socket()
    ends.push(() => socket.destroy())
    server.accept(socket, peer)
    return { taken: !socket.destroyed, connections: server.connectionCount }
  }
  for (const expiresAt of [1_800_000_000, 1_799_999_999, 0])
    expect(accept(known(expiresAt))).toEqual({ taken: false, connections: 0 })
  expect(accept(known(1_800_000_001))).toEqual({ taken: true, connections: 1 })
  await server.close(0)
  for (const peer of [known(1_800_000_001), STRANGER, { via: 'local' } as const])
    expect(accept(peer)).toEqual({ taken: false, connections: 0 })
})

test('strangers of one network share their calls, those of another have theirs', async () => {
  let address = '192.0.2.1:1000'
  const { dial } = await serving({ calls: { perHolder: 1, inAll: 100 } }, () => ({ via: 'anonymous', address }))
  const first = following(await dial())
  expect((await first.next()).value).toEqual(Uint8Array.of(7))
  for (const [next, taken] of [
    ['192.0.2.1:2000', false],
    ['192.0.2.2:1000', true],
    ['[2001:db8::1]:1', true],
    ['[2001:db8::2]:1', false],
    ['[2001:db8:0:1::1]:1', true],
  ] as const) {
    address = next
    const answer = following(await dial()).next()
    if (taken) expect((await answer).value).toEqual(Uint8Array.of(7))
    else await expect(answer).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
  }
})

test('a call whose turn comes when the server is stopping is not begun', async () => {
  const turns: (() => void)[] = []
  const inTurns = fairTurns<string | number>({ perTurn: 1, later: (turn) => turns.push(turn) })
  const { server, dial } = await serving({ inTurns }, () => STRANGER)
  const channel = await dial()
  starts = 0
  const first = following(channel)
  await first.next()
  const waiting = following(channel).next()
  waiting.catch(() => {})
  await expect.poll(() => server.callCount).toBe(2)
  const closed = server.close(10_000)
  while (turns.length > 0) turns.shift()!()
  await expect(waiting).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  await expect(first.next()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  await closed
  expect(starts).toBe(1)
})

test('a connection past its age is cut when its calls do not end', async () => {
  const { dial } = await serving({ maxConnectionAgeMs: 300, maxConnectionAgeGraceMs: 300 }, () => STRANGER)
  const answers = following(await dial())
  expect((await answers.next()).value).toEqual(Uint8Array.of(7))
  // Deno resets the stream before it ends the connection.
  const code = process.versions.deno ? expect.stringMatching(/^(UNAVAILABLE|INTERNAL)$/) : 'UNAVAILABLE'
  await expect(answers.next()).rejects.toMatchObject({ code })
})

test('a connection may be told of fewer streams than others', async () => {
  const { path } = await serving({}, () => STRANGER, { maxConcurrentStreams: 3 })
  const session = connectHttp2('http://localhost', { createConnection: () => connectSocket(path) })
  ends.push(() => session.destroy())
  await expect.poll(() => session.remoteSettings?.maxConcurrentStreams).toBe(3)
})
