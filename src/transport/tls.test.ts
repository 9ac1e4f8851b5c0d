import { once } from 'node:events'
import {
  connect as connectSocket,
  createServer as createNetServer,
  type Server as NetServer,
  type Socket,
} from 'node:net'
import { type ConnectionOptions, connect, createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls'
import * as grpc from '@grpc/grpc-js'
import { afterEach, expect, test, vi } from 'vitest'
import { type Made, makeCertificate } from '../../test/support/x509.ts'
import { silentLog } from '../core/log.ts'
import type { Peer } from '../rpc/caller.ts'
import type { LastHandshake } from './dial-error.ts'
import { PQ_GROUPS } from './runtime.ts'
import { listenTls, secureContextOf, type TlsIdentity, type TlsListenerOptions } from './tls.ts'
import { type ClientTls, secureCredentials } from './tls-client.ts'

async function identityOf(name: string): Promise<TlsIdentity> {
  const { der, key } = await makeCertificate({ name, uris: [`spiffe://example.org/${name}`] })
  return { certificates: [der], privateKey: key.exportPrivateKey() }
}
const serverIdentity = await identityOf('server')
const clientIdentity = await identityOf('client')

const open: { destroy(): void }[] = []
const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const one of open.splice(0)) one.destroy()
  for (const close of closing.splice(0)) await close()
})

async function listener(changes: Partial<TlsListenerOptions> = {}) {
  const peers: Peer[] = []
  const listening = await listenTls({
    host: '127.0.0.1',
    port: 0,
    identity: serverIdentity,
    log: silentLog,
    verifyPeer: async () => ({ spiffeId: 'spiffe://example.org/client' as never, serialNumber: '7', expiresAt: 1 }),
    onConnection: (socket, peer) => {
      peers.push(peer)
      socket.end('taken')
    },
    ...changes,
  })
  closing.push(() => listening.close())
  return { ...listening, peers }
}

/** What a client gets that says this: the greeting of the server, or nothing. */
async function visit(
  port: number,
  options: ConnectionOptions,
): Promise<{ said: string; sessions: Buffer[]; socket: TLSSocket }> {
  const sessions: Buffer[] = []
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options })
  open.push(socket)
  socket.on('session', (session) => sessions.push(session))
  let said = ''
  socket.on('data', (bytes) => {
    said += bytes
  })
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('close', resolve))
  return { said, sessions, socket }
}

const H2 = { ALPNProtocols: ['h2'] }

test.each([
  ['h2', { ALPNProtocols: ['h2'] }, 'taken'],
  ['h2 among others', { ALPNProtocols: ['http/1.1', 'h2'] }, 'taken'],
  ['another protocol', { ALPNProtocols: ['http/1.1'] }, ''],
  ['no protocol', {}, ''],
])('a client that offers %s in its handshake hears: %3$j', async (_, offer, wanted) => {
  const { port, peers } = await listener()
  expect((await visit(port, offer)).said).toBe(wanted)
  expect(peers).toHaveLength(wanted === '' ? 0 : 1)
})

test('who shows a certificate is who it is verified to be, else nobody is let in', async () => {
  const identity = { secureContext: secureContextOf(clientIdentity, false), ...H2 }
  const chains: (readonly Uint8Array[])[] = []
  const known = await listener({
    verifyPeer: async (chain) => {
      chains.push(chain)
      return { spiffeId: 'spiffe://example.org/client' as never, serialNumber: '7', expiresAt: 1 }
    },
  })
  expect((await visit(known.port, identity)).said).toBe('taken')
  expect((await visit(known.port, H2)).said).toBe('taken')
  expect(chains.map((chain) => chain.map((der) => Buffer.from(der)))).toEqual([
    [Buffer.from(clientIdentity.certificates[0]!)],
  ])
  expect(known.peers).toMatchObject([
    { via: 'x509', spiffeId: 'spiffe://example.org/client', serialNumber: '7', expiresAt: 1 },
    { via: 'anonymous' },
  ])
  const refusing = await listener({ verifyPeer: () => Promise.reject(new Error('x509: no')) })
  expect((await visit(refusing.port, identity)).said).toBe('')
  expect(refusing.peers).toEqual([])
})

test('a handshake that is never finished ends', async () => {
  const { port } = await listener({ handshakeTimeoutMs: 20 })
  const silent = connectSocket(port, '127.0.0.1')
  open.push(silent)
  silent.on('error', () => {})
  silent.resume()
  await new Promise((resolve) => silent.once('close', resolve))
})

test('above the greatest number of connections the next is refused', async () => {
  const { port, peers } = await listener({ maxConnections: 1, onConnection: (socket) => void open.push(socket) })
  const first = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...H2 })
  open.push(first)
  await once(first, 'secureConnect')
  expect((await visit(port, H2)).said).toBe('')
  expect(peers).toEqual([])
})

test('who has left while it was verified is nobody’s peer', async () => {
  const verified = Promise.withResolvers<void>()
  const asked = Promise.withResolvers<void>()
  const { port, peers } = await listener({
    verifyPeer: async () => {
      asked.resolve()
      await verified.promise
      return { spiffeId: 'spiffe://example.org/client' as never, serialNumber: '7', expiresAt: 1 }
    },
    maxConnections: 1,
  })
  const identity = { secureContext: secureContextOf(clientIdentity, false), ...H2 }
  const client = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...identity })
  open.push(client)
  client.on('error', () => {})
  await asked.promise
  client.destroy()
  // There is room for one: who comes in next says that the server knows of the end.
  await expect.poll(async () => (await visit(port, H2)).said).toBe('taken')
  verified.resolve()
  await new Promise((resolve) => setImmediate(resolve))
  expect(peers.map(({ via }) => via)).toEqual(['anonymous'])
})

test('of a chain without end no more is looked at than may be good', async () => {
  let issuer: Made | undefined
  const chain: Uint8Array[] = []
  for (let number = 0; number < 20; number++) {
    issuer = await makeCertificate({ name: `ca ${number}`, ca: true }, issuer)
    chain.unshift(issuer.der)
  }
  const { der, key } = await makeCertificate({ name: 'leaf' }, issuer)
  const identity: TlsIdentity = { certificates: [der, ...chain], privateKey: key.exportPrivateKey() }
  const lengths: number[] = []
  const { port } = await listener({
    verifyPeer: async (found) => {
      lengths.push(found.length)
      throw new Error('no')
    },
  })
  await visit(port, { secureContext: secureContextOf(identity, false), ...H2 })
  expect(lengths).toEqual([16])
})

test('a root that comes along is looked at once', async () => {
  const root = await makeCertificate({ name: 'root', ca: true })
  const { der, key } = await makeCertificate({ name: 'leaf' }, root)
  const chains: Buffer[][] = []
  const { port } = await listener({
    verifyPeer: async (chain) => {
      chains.push(chain.map((one) => Buffer.from(one)))
      throw new Error('no')
    },
  })
  const identity: TlsIdentity = { certificates: [der, root.der], privateKey: key.exportPrivateKey() }
  await visit(port, { secureContext: secureContextOf(identity, false), ...H2 })
  expect(chains).toEqual([[Buffer.from(der), Buffer.from(root.der)]])
})

test('who comes after the identity changed sees the new one', async () => {
  const { port, setIdentity } = await listener()
  const shownTo = async () => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...H2 })
    open.push(socket)
    await once(socket, 'secureConnect')
    return socket.getPeerCertificate().subject.CN
  }
  expect(await shownTo()).toBe('server')
  setIdentity(clientIdentity)
  expect(await shownTo()).toBe('client')
})

test('a listener that was closed lets nobody in', async () => {
  const { port, peers, close } = await listener()
  await close()
  expect((await visit(port, H2)).said).toBe('')
  expect(peers).toEqual([])
})

const CLASSIC = { ecdhCurve: 'X25519:P-256', ...H2 }

test.skipIf(PQ_GROUPS === undefined)(
  'a listener that wants a post-quantum key exchange takes no other, before and after its identity changed',
  async () => {
    const { port, peers, setIdentity } = await listener({ requirePqKem: true })
    for (const change of [() => {}, () => setIdentity(clientIdentity)]) {
      change()
      expect((await visit(port, H2)).said).toBe('taken')
      expect((await visit(port, CLASSIC)).said).toBe('')
      expect((await visit(port, { maxVersion: 'TLSv1.2', ...H2 })).said).toBe('')
    }
    expect(peers).toHaveLength(2)
    const plain = await listener()
    expect((await visit(plain.port, CLASSIC)).said).toBe('taken')
    plain.setIdentity(clientIdentity)
    expect((await visit(plain.port, CLASSIC)).said).toBe('taken')
  },
)

/** Waits until a connection has ended, one way or another. */
function ended(socket: Socket): Promise<void> {
  open.push(socket)
  socket.on('error', () => {})
  socket.resume()
  return new Promise((resolve) => socket.once('close', () => resolve()))
}

test('strangers share a bound: who has said nothing or is anonymous counts, who is known does not', async () => {
  const identity = { secureContext: secureContextOf(clientIdentity, false), ...H2 }
  const ends: Promise<unknown>[] = []
  const { port, peers } = await listener({
    strangers: { perHolder: 2, inAll: 10 },
    onConnection: (socket, peer) => {
      peers.push(peer)
      open.push(socket)
      if (peer.via === 'x509') ends.push(once(socket, 'close'))
      socket.write('taken')
    },
  })
  const anonymous = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...H2 })
  open.push(anonymous)
  anonymous.on('error', () => {})
  await once(anonymous, 'data')
  const friends: TLSSocket[] = []
  for (let number = 0; number < 5; number++) {
    const known = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...identity })
    open.push(known)
    friends.push(known)
    await once(known, 'data')
  }
  const silent = connectSocket(port, '127.0.0.1')
  const silentEnd = ended(silent)
  await once(silent, 'connect')
  // Two strangers are there, so the third is sent away, and comes in once one of them has left.
  await ended(connectSocket(port, '127.0.0.1'))
  expect(silent.destroyed).toBe(false)
  expect(peers.map(({ via }) => via)).toEqual(['anonymous', 'x509', 'x509', 'x509', 'x509', 'x509'])
  // Nor does the leave of those who are known make room for strangers: they were counted no more.
  for (const friend of friends) friend.destroy()
  await Promise.all(ends)
  await ended(connectSocket(port, '127.0.0.1'))
  expect(silent.destroyed).toBe(false)
  silent.destroy()
  anonymous.destroy()
  await silentEnd
  await expect
    .poll(async () => {
      const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...H2 })
      open.push(socket)
      socket.on('error', () => {})
      return await new Promise((resolve) => socket.once('data', resolve).once('close', resolve))
    })
    .toBeInstanceOf(Buffer)
})

test('handshakes that fail leave nothing counted, and few lines', async () => {
  const lines: unknown[] = []
  const log = { ...silentLog, warn: (message: string) => void lines.push(message) }
  const { port } = await listener({ log, strangers: { perHolder: 2, inAll: 10 } })
  for (let number = 0; number < 30; number++) {
    const socket = connectSocket(port, '127.0.0.1')
    const end = ended(socket)
    socket.end('GET / HTTP/1.1\r\n\r\n')
    await end
  }
  for (let number = 0; number < 30; number++) await visit(port, {})
  await expect.poll(async () => (await visit(port, H2)).said).toBe('taken')
  expect(lines.length).toBeLessThanOrEqual(20)
})

/** Shakes hands as our client does with a server of these options. */
async function dial(server: NetServer, tls: ClientTls, last: { error?: Error | undefined } = {}): Promise<Socket> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  closing.push(() => new Promise((resolve) => server.close(resolve)))
  const socket = connectSocket((server.address() as { port: number }).port, '127.0.0.1')
  open.push(socket)
  const connector = secureCredentials(grpc, tls, last)._createSecureConnector({} as never, {})
  return (await connector.connect(socket)).socket
}

function serverOf(options: TlsOptions = H2, onSocket: (socket: TLSSocket) => void = () => {}): Server {
  const [certificate] = serverIdentity.certificates
  const pem = (label: string, der: Uint8Array) =>
    `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64')}\n-----END ${label}-----\n`
  return createServer(
    { cert: pem('CERTIFICATE', certificate!), key: pem('PRIVATE KEY', serverIdentity.privateKey), ...options },
    (socket) => {
      open.push(socket)
      socket.on('error', () => {})
      onSocket(socket)
    },
  )
}

test('our client takes a server only after it was verified', async () => {
  let seen: readonly Uint8Array[] = []
  const socket = await dial(serverOf(), {
    verifyServer: (chain) => {
      seen = chain
    },
  })
  expect(socket.destroyed).toBe(false)
  expect(seen.map((der) => Buffer.from(der))).toEqual([Buffer.from(serverIdentity.certificates[0]!)])
})

test.each([
  ['that it does not believe', H2, () => Promise.reject(new Error('x509: no')), 'x509: no'],
  ['that chose no protocol', {}, () => {}, 'credentials: cannot check peer: missing selected ALPN property'],
])('our client leaves a server %s', async (_, options, verifyServer, message) => {
  const ended = Promise.withResolvers<void>()
  const server = serverOf(options)
  server.on('connection', (socket) => socket.once('close', () => ended.resolve()))
  const last: { error?: Error } = {}
  await expect(dial(server, { verifyServer }, last)).rejects.toThrow(message)
  expect(last.error?.message).toBe(message)
  await ended.promise
})

test('a handshake that went well is no failure any more', async () => {
  const last: LastHandshake = { error: new Error('of the last one') }
  await dial(serverOf(), { verifyServer: () => expect(last.stage).toBe('tls') }, last)
  expect(last).toEqual({ error: undefined, stage: 'preface' })
  await secureCredentials(grpc, { verifyServer() {} }, last)
    ._createSecureConnector({} as never, {})
    .waitForReady()
  expect(last.stage).toBeUndefined()
})

test('our client shows what it is, or nothing', async () => {
  const shown: (string | undefined)[] = []
  const asking = () =>
    serverOf({ ...H2, requestCert: true, rejectUnauthorized: false }, (socket) =>
      shown.push(socket.getPeerCertificate().subject?.CN as string | undefined),
    )
  await dial(asking(), { verifyServer: () => {}, identity: () => clientIdentity })
  await dial(asking(), { verifyServer: () => {}, identity: () => undefined })
  await dial(asking(), { verifyServer: () => {} })
  await expect.poll(() => shown).toEqual(['client', undefined, undefined])
})

test.skipIf(PQ_GROUPS === undefined)('our client that wants a post-quantum key exchange takes no other', async () => {
  const verifyServer = vi.fn()
  const socket = await dial(serverOf(), { verifyServer, requirePqKem: true })
  expect(socket.destroyed).toBe(false)
  expect(verifyServer).toHaveBeenCalledTimes(1)
  for (const weaker of [CLASSIC, { maxVersion: 'TLSv1.2' as const, ...H2 }]) {
    await expect(dial(serverOf(weaker), { verifyServer, requirePqKem: true })).rejects.toThrow()
    expect((await dial(serverOf(weaker), { verifyServer: () => {} })).destroyed).toBe(false)
  }
  expect(verifyServer).toHaveBeenCalledTimes(1)
})

test('a server that leaves while it is verified is none', async () => {
  const server = serverOf()
  const ends = Promise.withResolvers<void>()
  server.on('secureConnection', (socket) => void ends.promise.then(() => socket.destroy()))
  const dialed = dial(server, {
    verifyServer: async () => {
      const [client] = open.slice(-2)
      const closed = once(client as Socket, 'close')
      ends.resolve()
      await closed
    },
  })
  await expect(dialed).rejects.toThrow('EOF')
})

test('a server that ends the connection instead of shaking hands is none', async () => {
  const server = createNetServer((socket) => {
    open.push(socket)
    socket.on('error', () => {}).resume()
    socket.end()
  })
  await expect(dial(server, { verifyServer: () => {} })).rejects.toThrow()
})

test('a connection that is given up in its handshake is no server', async () => {
  const silent = createNetServer((socket) => {
    open.push(socket)
    // What our client says first.
    socket.on('error', () => {}).once('data', () => open.at(-2)!.destroy())
  })
  await expect(dial(silent, { verifyServer: () => {} })).rejects.toThrow('EOF')
})

test('no connection that was verified in one way serves for another', () => {
  const verifyServer = () => {}
  const [one, other] = [secureCredentials(grpc, { verifyServer }, {}), secureCredentials(grpc, { verifyServer }, {})]
  expect(one._equals(one)).toBe(true)
  expect(one._equals(other)).toBe(false)
  expect(one._equals(grpc.credentials.createInsecure())).toBe(false)
  expect(one._isSecure()).toBe(true)
})

test('our client does not wait for ever for a server that says nothing', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const accepted = Promise.withResolvers<Socket>()
    const silent = createNetServer((socket) => accepted.resolve(socket.on('error', () => {}).resume()))
    const outcome = dial(silent, { verifyServer: () => {} }).then(
      () => 'taken',
      (error: Error) => error.message,
    )
    const socket = await accepted.promise
    open.push(socket)
    const left = once(socket, 'close')
    vi.advanceTimersByTime(20_000)
    expect(await outcome).toBe('context deadline exceeded')
    await left
  } finally {
    vi.useRealTimers()
  }
})

test('nor does it end a connection that was made in time', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const socket = await dial(serverOf(), { verifyServer: () => {} })
    vi.advanceTimersByTime(20_000)
    expect(socket.destroyed).toBe(false)
  } finally {
    vi.useRealTimers()
  }
})
