import 'reflect-metadata'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectSocket, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import * as x509 from '@peculiar/x509'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { StatusError } from '../core/error.ts'
import { silentLog } from '../core/log.ts'
import type { BoundMethod, IncomingCall } from '../rpc/service.ts'
import { fairTurns } from './fair-turns.ts'
import { connect, type GrpcChannel } from './grpc-client.ts'
import { frameMessage } from './grpc-frame.ts'
import { type GrpcServer, serveGrpc } from './grpc-server.ts'
import { loadPeerWatcher, watchOf, watchProcess } from './peer.ts'
import { refuseConnection } from './refuse-connection.ts'
import { PQ_GROUPS } from './runtime.ts'
import { listenTls, type TlsIdentity, type TlsListener } from './tls.ts'
import { type Listener, listenUnix } from './unix-socket.ts'

const raw = {
  encode: (bytes: Uint8Array) => ({ finish: () => bytes }),
  decode: (bytes: Uint8Array) => new Uint8Array(bytes),
}
const method = (name: string) => ({ path: `/test.Echo/${name}`, request: raw, response: raw })
const bytes = (...values: number[]) => Uint8Array.from(values)
const none = (): never => {
  throw new Error('not this kind')
}
let leftCalls = 0
let lastCall: IncomingCall | undefined
let leave: () => void = () => {}

const rows: BoundMethod[] = [
  {
    path: '/test.Echo/Unary',
    kind: 'unary',
    stream: none,
    unary: async (request, call) => {
      lastCall = call
      if (request[0] === 1) {
        const details = [{ typeUrl: 'type.googleapis.com/a.B', value: bytes(1, 2, 3) }]
        throw new StatusError('PERMISSION_DENIED', 'näh: 100%', { details })
      }
      if (request[0] === 2) throw new TypeError('secret text')
      if (request[0] === 3) await new Promise((resolve) => call.signal.addEventListener('abort', resolve))
      return request
    },
  },
  {
    path: '/test.Echo/Follow',
    kind: 'server-stream',
    unary: none,
    stream: async function* (_requests, call) {
      try {
        yield bytes(7)
        await new Promise((resolve) => call.signal.addEventListener('abort', resolve))
      } finally {
        leftCalls++
        leave()
      }
    },
  },
  {
    path: '/test.Echo/Chat',
    kind: 'bidi',
    unary: none,
    stream: async function* (requests) {
      for await (const request of requests) {
        yield request
        if (request[0] === 9) return
      }
    },
  },
]
const service = { methods: new Map(rows.map((row) => [row.path, row])), services: new Set(['test.Echo']) }

const folder = mkdtempSync(join(tmpdir(), 'turret-transport-'))
const path = join(folder, 'made', 'api.sock')
let server: GrpcServer
let unix: Listener
let tls: TlsListener
let channel: GrpcChannel
let endOfCertificate = 4_000_000_000
let identity: TlsIdentity
let clientIdentity: TlsIdentity

async function makeIdentity(uri: string): Promise<TlsIdentity> {
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: uri }])],
  })
  const privateKey = new Uint8Array(await crypto.subtle.exportKey('pkcs8', keys.privateKey))
  return { certificates: [new Uint8Array(certificate.rawData)], privateKey }
}

beforeAll(async () => {
  server = serveGrpc({ service, log: silentLog })
  const watch = await loadPeerWatcher()
  const onConnection = (socket: Parameters<typeof watch>[0]) =>
    server.accept(socket, { via: 'local', process: watch(socket).process })
  unix = await listenUnix({ path, mode: 0o770, onConnection })
  identity = await makeIdentity('spiffe://example.org/spire/server')
  clientIdentity = await makeIdentity('spiffe://example.org/client')
  tls = await listenTls({
    host: '127.0.0.1',
    port: 0,
    identity,
    log: silentLog,
    verifyPeer: async ([leaf]) => {
      if (!Buffer.from(leaf!).equals(clientIdentity.certificates[0]!)) throw new Error('unknown client')
      return { spiffeId: 'spiffe://example.org/client' as never, serialNumber: '7', expiresAt: endOfCertificate }
    },
    onConnection: (socket, peer) => server.accept(socket, peer),
  })
  channel = await connect({ target: `unix://${path}` })
})
afterAll(async () => {
  channel.close()
  await Promise.all([unix.close(), tls.close()])
  await server.close(1000)
  rmSync(folder, { recursive: true })
})

test('a unary call echoes, small, empty and large', async () => {
  for (const size of [0, 1, 70_000, 4_000_000]) {
    expect((await channel.unary(method('Unary'), new Uint8Array(size))).length).toBe(size)
  }
})

test('errors carry code, text beyond ASCII and details', async () => {
  const error = await channel.unary(method('Unary'), bytes(1)).catch((thrown) => thrown)
  expect(error).toBeInstanceOf(StatusError)
  expect(error).toMatchObject({ code: 'PERMISSION_DENIED', message: 'näh: 100%' })
  expect(error.details).toEqual([{ typeUrl: 'type.googleapis.com/a.B', value: bytes(1, 2, 3) }])
})

test('an unexpected error leaves as INTERNAL without its text', async () => {
  await expect(channel.unary(method('Unary'), bytes(2))).rejects.toMatchObject({
    code: 'INTERNAL',
    message: 'internal error',
  })
})

test.each([
  ['unknown method', '/test.Echo/No', 'unknown method No for service test.Echo'],
  ['unknown service', '/spire.api.server.debug.v1.Debug/GetInfo', 'unknown service spire.api.server.debug.v1.Debug'],
])('%s is UNIMPLEMENTED', async (_name, wrong, message) => {
  const call = channel.unary({ path: wrong, request: raw, response: raw }, bytes())
  await expect(call).rejects.toMatchObject({ code: 'UNIMPLEMENTED', message })
})

test('a request over 4 MiB is refused with its size', async () => {
  await expect(channel.unary(method('Unary'), new Uint8Array(4_194_305))).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: 'grpc: received message larger than max (4194305 vs. 4194304)',
  })
})

test('a deadline ends the call on both sides', async () => {
  const call = channel.unary(method('Unary'), bytes(3), { timeoutMs: 50 })
  await expect(call).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  await expect.poll(() => lastCall?.signal.aborted).toBe(true)
})

test('leaving a server stream runs the clean-up of its handler', async () => {
  const before = leftCalls
  const left = new Promise<void>((resolve) => {
    leave = resolve
  })
  for await (const message of channel.serverStream(method('Follow'), bytes())) {
    expect(message).toEqual(bytes(7))
    break
  }
  await left
  expect(leftCalls).toBe(before + 1)
})

test.each([
  ['client', 1],
  ['server', 9],
])('a bidi call ends when the %s ends it', async (who, last) => {
  const chat = channel.bidi(method('Chat'))
  const received: number[] = []
  await chat.send(bytes(5))
  await chat.send(bytes(last))
  if (who === 'client') chat.end()
  for await (const message of chat.messages) received.push(message[0]!)
  expect(received).toEqual([5, last])
})

test('a local peer is our own process, and watched', async () => {
  await channel.unary(method('Unary'), bytes(0))
  const peer = lastCall!.peer
  if (peer.via !== 'local') throw new Error('not local')
  expect(peer.process).toEqual({ pid: process.pid, uid: process.getuid!(), gid: process.getgid!() })
  watchOf(peer.process!)!.assertAlive()
})

test('a watch refuses a process that is gone', () => {
  expect(() => watchProcess({ pid: 2 ** 22 + 1, uid: 0, gid: 0 })).toThrow(/could not verify existence/)
})

test('a missing socket gives the text of grpc-go', async () => {
  const lost = await connect({ target: 'unix:///run/none.sock' })
  await expect(lost.unary(method('Unary'), bytes())).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message:
      'connection error: desc = "transport: Error while dialing: dial unix ///run/none.sock: connect: no such file or directory"',
  })
  lost.close()
})

test('over TLS the peer is anonymous without and known with a certificate', async () => {
  for (const [given, via] of [
    [undefined, 'anonymous'],
    [clientIdentity, 'x509'],
  ] as const) {
    const secure = await connect({
      target: `dns:///127.0.0.1:${tls.port}`,
      tls: {
        identity: () => given,
        verifyServer: ([leaf]) => expect(Buffer.from(leaf!)).toEqual(Buffer.from(identity.certificates[0]!)),
      },
    })
    await secure.unary(method('Unary'), bytes(0))
    expect(lastCall!.peer.via).toBe(via)
    secure.close()
  }
})

test('a client certificate that is refused closes the connection', async () => {
  const stranger = await makeIdentity('spiffe://example.org/stranger')
  const secure = await connect({
    target: `dns:///127.0.0.1:${tls.port}`,
    tls: { identity: () => stranger, verifyServer() {} },
  })
  await expect(secure.unary(method('Unary'), bytes(0), { timeoutMs: 3000 })).rejects.toMatchObject({
    code: /UNAVAILABLE|DEADLINE/,
  })
  secure.close()
})

test('a refused server says why in the error of the call', async () => {
  const secure = await connect({
    target: `dns:///127.0.0.1:${tls.port}`,
    tls: {
      verifyServer() {
        throw new Error('x509: certificate signed by unknown authority')
      },
    },
  })
  await expect(secure.unary(method('Unary'), bytes(0))).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message:
      'connection error: desc = "transport: authentication handshake failed: x509: certificate signed by unknown authority"',
  })
  secure.close()
})

test('a connection past its age is replaced without a failed call', async () => {
  const aged = serveGrpc({ service, log: silentLog, maxConnectionAgeMs: 30, maxConnectionAgeGraceMs: 1000 })
  let accepted = 0
  const listener = await listenAt('aged.sock', (socket) => {
    accepted++
    aged.accept(socket, { via: 'local' })
  })
  const client = await connect({ target: `unix://${listener.address}` })
  while (accepted < 4) await client.unary(method('Unary'), bytes(0))
  client.close()
  await listener.close()
  await aged.close(100)
})

test('the GOAWAY of an aged connection names the last call that was seen', async () => {
  const aged = serveGrpc({ service, log: silentLog, maxConnectionAgeMs: 30 })
  const listener = await listenAt('aged.sock', (socket) => aged.accept(socket, { via: 'local' }))
  const session = connectHttp2('http://localhost', { createConnection: () => connectSocket(listener.address) })
  const headers = { ':method': 'POST', ':path': '/test.Echo/Chat', 'content-type': 'application/grpc' }
  const call = session.request(headers)
  const [, last] = await once(session, 'goaway')
  expect(last).toBe(call.id)
  call.end()
  await once(session, 'close')
  await listener.close()
  await aged.close()
})

test('a call that crossed the GOAWAY of a server is made again', async () => {
  const seeing = serveGrpc({ service, log: silentLog })
  let accepted = 0
  const listener = await listenAt('crossed.sock', (socket) => {
    if (++accepted > 1) {
      seeing.accept(socket, { via: 'local' })
      return
    }
    const settings = Buffer.from('000000040000000000', 'hex')
    const seenNone = Buffer.from('0000080700000000000000000000000000', 'hex')
    socket.write(settings)
    let received = ''
    socket.on('data', (piece) => {
      received += piece
      if (received.includes('echo-request')) socket.end(seenNone)
    })
  })
  const client = await connect({ target: `unix://${listener.address}` })
  const request = new TextEncoder().encode('echo-request')
  expect(await client.unary(method('Unary'), request)).toEqual(request)
  expect(accepted).toBe(2)
  client.close()
  await listener.close()
  await seeing.close(100)
})

test('a stopping server ends subscriptions at once and hanging clients after the grace', async () => {
  const stopping = serveGrpc({ service, log: silentLog })
  const listener = await listenAt('stop.sock', (socket) => stopping.accept(socket, { via: 'local' }))
  const hanging = connectSocket(listener.address).on('error', () => {})
  const client = await connect({ target: `unix://${listener.address}` })
  const messages = client.serverStream(method('Follow'), bytes())[Symbol.asyncIterator]()
  await messages.next()
  const ended = expect(messages.next()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  await listener.close()
  await stopping.close(100)
  await ended
  expect(stopping.connectionCount).toBe(0)
  hanging.destroy()
  client.close()
})

test('a socket in use is refused, a stale one and only a socket is replaced', async () => {
  await expect(listenUnix({ path, mode: 0o700, onConnection() {} })).rejects.toThrow(/in use/)
  const file = join(folder, 'file')
  writeFileSync(file, '')
  await expect(listenUnix({ path: file, mode: 0o700, onConnection() {} })).rejects.toThrow(/not a socket/)
  expect(statSync(path).mode & 0o777).toBe(0o770)
})

/** Listens on a socket of its own. */
function listenAt(name: string, onConnection: (socket: Socket) => void): Promise<Listener> {
  return listenUnix({ path: join(folder, name), mode: 0o700, onConnection })
}

function http2Call(headers: Record<string, string>, body: Uint8Array, at = path): Promise<Record<string, string>> {
  return new Promise((resolve, reject) => {
    const session = connectHttp2('http://localhost', { createConnection: () => connectSocket(at) })
    session.on('error', reject)
    const stream = session.request({
      ':method': 'POST',
      ':path': '/test.Echo/Unary',
      'content-type': 'application/grpc',
      ...headers,
    })
    const found: Record<string, string> = {}
    stream.on('response', (more) => Object.assign(found, more))
    stream.on('trailers', (more) => Object.assign(found, more))
    stream.on('error', () => {})
    stream.resume()
    stream.on('close', () => {
      // Deno's nghttp2 ends the process if a session closes while it closes a stream.
      setImmediate(() => session.close())
      resolve(found)
    })
    stream.end(body)
  })
}

/** A message in a frame that says it is compressed. */
function compressed(message: Uint8Array): Uint8Array {
  const frame = frameMessage(gzipSync(message))
  frame[0] = 1
  return frame
}

test.each([
  ['wrong content type', { 'content-type': 'text/plain' }, bytes(), { ':status': 415, 'grpc-status': '3' }],
  ['wrong timeout', { 'grpc-timeout': '1x' }, bytes(), { ':status': 400, 'grpc-status': '13' }],
  ['wrong HTTP method', { ':method': 'PUT' }, bytes(), { ':status': 405 }],
  [
    'unknown compression',
    { 'grpc-encoding': 'snappy' },
    bytes(0, 0, 0, 0, 0),
    {
      'grpc-status': '12',
      'grpc-message': 'grpc: Decompressor is not installed for grpc-encoding "snappy"',
    },
  ],
  ['gzip without a compressed message', { 'grpc-encoding': 'gzip' }, bytes(0, 0, 0, 0, 0), { 'grpc-status': '0' }],
  ['gzip', { 'grpc-encoding': 'gzip' }, compressed(bytes(4, 5)), { 'grpc-status': '0' }],
  ['gzip that is none', { 'grpc-encoding': 'gzip' }, bytes(1, 0, 0, 0, 2, 1, 2), { 'grpc-status': '13' }],
  [
    'gzip of more than a message may be',
    { 'grpc-encoding': 'gzip' },
    compressed(new Uint8Array(4 * 1024 * 1024 + 1)),
    {
      'grpc-status': '8',
      'grpc-message': 'grpc: received message after decompression larger than max 4194304',
    },
  ],
  [
    'a subtype',
    { 'content-type': 'application/grpc+json' },
    bytes(0, 0, 0, 0, 0),
    { 'grpc-status': '0', 'content-type': 'application/grpc+json' },
  ],
  [
    'a parameter',
    { 'content-type': 'application/grpc;charset=utf-8' },
    bytes(0, 0, 0, 0, 0),
    { 'grpc-status': '0', 'content-type': 'application/grpc' },
  ],
  ['another type that begins alike', { 'content-type': 'application/grpcx' }, bytes(), { ':status': 415 }],
  ['compressed flag', {}, bytes(1, 0, 0, 0, 0), { 'grpc-status': '13' }],
  ['unknown flag', {}, bytes(7, 0, 0, 0, 0), { 'grpc-status': '13' }],
  ['half a message', {}, bytes(0, 0, 0, 0, 5, 1), { 'grpc-status': '2', 'grpc-message': 'unexpected EOF' }],
  ['a prefix without its message', {}, bytes(0, 0, 0, 0, 5), { 'grpc-status': '2', 'grpc-message': 'unexpected EOF' }],
  ['half a prefix', {}, bytes(0, 0, 0), { 'grpc-status': '2', 'grpc-message': 'EOF' }],
  ['no message', {}, bytes(), { 'grpc-status': '2', 'grpc-message': 'EOF' }],
  ['two messages', {}, bytes(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1), { 'grpc-status': '0' }],
  ['a message and malformed bytes', {}, bytes(0, 0, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff), { 'grpc-status': '0' }],
  [
    'half a message of a stream',
    { ':path': '/test.Echo/Chat' },
    bytes(0, 0, 0, 0, 5, 1),
    { 'grpc-status': '13', 'grpc-message': 'unexpected EOF' },
  ],
  [
    'a name in UTF-8',
    { ':path': Buffer.from('/é/x').toString('latin1') },
    bytes(0, 0, 0, 0, 0),
    { 'grpc-status': '12', 'grpc-message': 'unknown service %C3%A9' },
  ],
  ['right', {}, bytes(0, 0, 0, 0, 0), { ':status': 200, 'grpc-status': '0' }],
])('raw request: %s', async (_name, headers, body, expected) => {
  expect(await http2Call(headers as Record<string, string>, body)).toMatchObject(expected)
})

test('a call is served beside a thousand open connections, and after their abrupt ends', async () => {
  // Bun listens with a backlog of 512, whatever is asked.
  const count = process.versions.bun ? 400 : 1000
  const sockets = await Promise.all(
    Array.from({ length: count }, () => {
      const socket = connectSocket(path)
      socket.on('error', () => {})
      return new Promise<typeof socket>((resolve) => socket.once('connect', () => resolve(socket)))
    }),
  )
  await expect.poll(() => server.connectionCount, { timeout: 10_000 }).toBeGreaterThanOrEqual(count + 1)
  await channel.unary(method('Unary'), bytes(0))
  for (const [index, socket] of sockets.entries()) {
    if (index % 2) socket.write('garbage that is no preface')
    socket.destroy()
  }
  await expect.poll(() => server.connectionCount, { timeout: 4000 }).toBeLessThan(10)
  await channel.unary(method('Unary'), bytes(0))
})

test('a new identity is shown to new connections, also with post-quantum key exchange only', async () => {
  const listen = (requirePqKem: boolean) =>
    listenTls({
      host: '127.0.0.1',
      port: 0,
      identity,
      log: silentLog,
      requirePqKem,
      verifyPeer: () => Promise.reject(new Error('no clients')),
      onConnection: (socket, peer) => server.accept(socket, peer),
    })
  const requirePqKem = PQ_GROUPS !== undefined
  if (!requirePqKem) await expect(listen(true)).rejects.toThrow('require_pq_kem cannot be kept')
  const listener = await listen(requirePqKem)
  for (const shown of [identity, await makeIdentity('spiffe://example.org/spire/server')]) {
    listener.setIdentity(shown)
    let seen: Uint8Array | undefined
    const secure = await connect({
      target: `dns:///127.0.0.1:${listener.port}`,
      tls: {
        requirePqKem,
        verifyServer([leaf]) {
          seen = leaf
        },
      },
    })
    await secure.unary(method('Unary'), bytes(0))
    expect(new Uint8Array(seen!)).toEqual(shown.certificates[0])
    secure.close()
  }
  await listener.close()
})

test('a connection that sends nothing is dropped', async () => {
  const strict = serveGrpc({ service, log: silentLog, prefaceTimeoutMs: 20 })
  const listener = await listenAt('strict.sock', (socket) => strict.accept(socket, { via: 'local' }))
  const silent = connectSocket(listener.address)
  silent.on('error', () => {})
  await new Promise((resolve) => silent.once('close', resolve).resume())
  await listener.close()
  await strict.close(100)
})

test('a connection ends with the certificate that opened it, and none begins after', async () => {
  const dial = () =>
    connect({
      target: `dns:///127.0.0.1:${tls.port}`,
      tls: { identity: () => clientIdentity, verifyServer: () => {} },
    })
  endOfCertificate = Date.now() / 1000 + 0.5
  const following = await dial()
  const answers = following.serverStream(method('Follow'), bytes(0))[Symbol.asyncIterator]()
  expect((await answers.next()).value).toEqual(bytes(7))
  await expect(answers.next()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  following.close()
  const late = await dial()
  await expect(late.unary(method('Unary'), bytes(0))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  late.close()
  endOfCertificate = 4_000_000_000
})

test('a user over their calls is told so while another is served, and may call again when one has ended', async () => {
  const bounded = serveGrpc({ service, log: silentLog, calls: { perHolder: 3, inAll: 100 }, inTurns: fairTurns() })
  let uid = 1
  const listener = await listenAt('calls.sock', (socket) =>
    bounded.accept(socket, { via: 'local', process: { pid: 1, uid, gid: 1 } }),
  )
  const dial = () => connect({ target: `unix://${listener.address}` })
  const first = await dial()
  const second = await dial()
  const following = [first, first, second].map((client) =>
    client.serverStream(method('Follow'), bytes(0))[Symbol.asyncIterator](),
  )
  for (const answers of following) expect((await answers.next()).value).toEqual(bytes(7))
  const refused = { code: 'RESOURCE_EXHAUSTED', message: 'too many calls of this user are open: try again' }
  for (const size of [1, 300_000]) {
    for (const client of [first, second]) {
      await expect(client.unary(method('Unary'), new Uint8Array(size))).rejects.toMatchObject(refused)
      await expect(
        client.serverStream(method('Follow'), bytes(0))[Symbol.asyncIterator]().next(),
      ).rejects.toMatchObject(refused)
    }
  }
  uid = 2
  const other = await dial()
  expect(await other.unary(method('Unary'), bytes(0))).toEqual(bytes(0))
  await following[0]!.return!()
  await expect.poll(() => first.unary(method('Unary'), bytes(0)).catch(() => undefined)).toEqual(bytes(0))
  for (const client of [first, second, other]) client.close()
  await listener.close()
  await bounded.close(100)
})

test('the calls of another user start between those of a burst, not after it', async () => {
  const started: string[] = []
  let letGo = () => {}
  const held = new Promise<void>((resolve) => {
    letGo = resolve
  })
  const seen = new Map<string, BoundMethod>([
    [
      '/test.Echo/Unary',
      {
        path: '/test.Echo/Unary',
        kind: 'unary',
        stream: none,
        unary: async (request, call) => {
          started.push(call.peer.via === 'local' ? `uid ${call.peer.process!.uid}` : '')
          await held
          return request
        },
      },
    ],
  ])
  const turns: (() => void)[] = []
  const fair = serveGrpc({
    service: { methods: seen, services: new Set() },
    log: silentLog,
    inTurns: fairTurns({ perTurn: 1, later: (turn) => turns.push(turn) }),
  })
  let uid = 1
  const listener = await listenAt('turns.sock', (socket) =>
    fair.accept(socket, { via: 'local', process: { pid: 1, uid, gid: 1 } }),
  )
  const dial = () => connect({ target: `unix://${listener.address}` })
  const burst = await dial()
  const calls = Array.from({ length: 50 }, () => burst.unary(method('Unary'), bytes(0)))
  await expect.poll(() => started).toHaveLength(1)
  uid = 2
  const other = await dial()
  calls.push(other.unary(method('Unary'), bytes(0)))
  // The burst was sent before the other user connected, and both wait for their turns.
  await expect.poll(() => fair.callCount).toBe(51)
  while (turns.length > 0) turns.shift()!()
  await expect.poll(() => started).toHaveLength(51)
  expect(started.indexOf('uid 2')).toBe(2)
  letGo()
  expect(await Promise.all(calls)).toHaveLength(51)
  for (const client of [burst, other]) client.close()
  await listener.close()
  await fair.close(100)
})

test('a call that was given up before its turn never starts', async () => {
  let starts = 0
  const turns: (() => void)[] = []
  const counting: BoundMethod = {
    path: '/test.Echo/Unary',
    kind: 'unary',
    stream: none,
    unary: async (request) => {
      starts++
      return request
    },
  }
  const fair = serveGrpc({
    service: { methods: new Map([[counting.path, counting]]), services: new Set() },
    log: silentLog,
    inTurns: fairTurns({ perTurn: 1, later: (turn) => turns.push(turn) }),
  })
  const listener = await listenAt('left.sock', (socket) => fair.accept(socket, { via: 'local' }))
  const client = await connect({ target: `unix://${listener.address}` })
  await client.unary(method('Unary'), bytes(0))
  const waiting = Array.from({ length: 5 }, () =>
    client.unary(method('Unary'), bytes(0), { timeoutMs: 200 }).catch(() => 'gone'),
  )
  await expect.poll(() => fair.callCount).toBe(5)
  expect(await Promise.all(waiting)).toEqual(Array(5).fill('gone'))
  await expect.poll(() => fair.callCount).toBe(0)
  while (turns.length > 0) turns.shift()!()
  expect(starts).toBe(1)
  client.close()
  await listener.close()
  await fair.close(100)
})

test('an anonymous connection without a call is ended, one with a call is not', async () => {
  const strict = serveGrpc({ service, log: silentLog, strangerIdleMs: 40 })
  const listener = await listenAt('idle.sock', (socket) =>
    strict.accept(socket, { via: 'anonymous', address: '192.0.2.1:1' }),
  )
  const dial = () => connectHttp2('http://localhost', { createConnection: () => connectSocket(listener.address) })
  const busy = dial()
  const headers = { ':method': 'POST', ':path': '/test.Echo/Chat', 'content-type': 'application/grpc' }
  const call = busy.request(headers)
  await expect.poll(() => strict.callCount).toBe(1)
  for (let number = 0; number < 2; number++)
    await once(
      dial().on('error', () => {}),
      'close',
    )
  expect(busy.destroyed).toBe(false)
  call.end()
  await once(busy, 'close')
  await listener.close()
  await strict.close(100)
})

test('a connection that is refused says why, as grpc-go reads it', async () => {
  const listener = await listenAt('refused.sock', (socket) => refuseConnection(socket, 'too many of uid 7'))
  const socket = connectSocket(listener.address)
  socket.on('error', () => {})
  let received = ''
  socket.on('data', (piece) => {
    received += piece.toString('latin1')
  })
  await once(socket, 'close')
  const settings = '\0\0\0\x04\0\0\0\0\0'
  // ENHANCE_YOUR_CALM, after no stream.
  expect(received).toBe(`${settings}\0\0\x19\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0btoo many of uid 7`)
  await listener.close()
})

test('what a stranger’s message inflates to counts as what it sent', async () => {
  const strict = serveGrpc({
    service: {
      methods: new Map(rows.map((row) => [row.path, { ...row, requestLimit: () => 1000 }])),
      services: service.services,
    },
    log: silentLog,
    strangersBytes: 3000,
  })
  const listener = await listenAt('strict.sock', (socket) =>
    strict.accept(socket, { via: 'anonymous', address: '192.0.2.1:1' }),
  )
  const ask = (body: Uint8Array) => http2Call({ 'grpc-encoding': 'gzip' }, body, join(folder, 'strict.sock'))
  expect(await ask(compressed(new Uint8Array(900)))).toMatchObject({ 'grpc-status': '0' })
  expect(await ask(compressed(new Uint8Array(100_000)))).toMatchObject({
    'grpc-status': '8',
    'grpc-message': 'grpc: received message after decompression larger than max 1000',
  })
  // Three that stay, of a few bytes each: there is no room for the fourth.
  const session = connectHttp2('http://localhost', {
    createConnection: () => connectSocket(join(folder, 'strict.sock')),
  })
  session.on('error', () => {})
  const staying = new Uint8Array(900)
  staying[0] = 3
  for (let count = 0; count < 3; count++) {
    const headers = { ':method': 'POST', ':path': '/test.Echo/Unary', 'content-type': 'application/grpc' }
    session
      .request({ ...headers, 'grpc-encoding': 'gzip' })
      .on('error', () => {})
      .end(compressed(staying))
  }
  await expect.poll(() => ask(compressed(new Uint8Array(900)))).toMatchObject({ 'grpc-status': '14' })
  session.destroy()
  await expect.poll(() => ask(compressed(new Uint8Array(900)))).toMatchObject({ 'grpc-status': '0' })
  await listener.close()
  await strict.close(0)
})
