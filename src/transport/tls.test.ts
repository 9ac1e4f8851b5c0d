import { once } from 'node:events'
import type { Server, Socket } from 'node:net'
import { connect as connectSocket } from 'node:net'
import { type ConnectionOptions, connect, createServer, type TLSSocket } from 'node:tls'
import * as grpc from '@grpc/grpc-js'
import { afterEach, expect, test } from 'vitest'
import { makeCertificate } from '../../test/support/x509.ts'
import { silentLog } from '../core/log.ts'
import type { Peer } from '../rpc/caller.ts'
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
  return { port: listening.port, peers }
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

/** Waits until a connection has ended, one way or another. */
function ended(socket: Socket): Promise<void> {
  open.push(socket)
  socket.on('error', () => {})
  socket.resume()
  return new Promise((resolve) => socket.once('close', () => resolve()))
}

test('strangers share a bound: who has said nothing or is anonymous counts, who is known does not', async () => {
  const identity = { secureContext: secureContextOf(clientIdentity, false), ...H2 }
  const { port, peers } = await listener({
    strangers: { perHolder: 2, inAll: 10 },
    onConnection: (socket, peer) => {
      peers.push(peer)
      open.push(socket)
      socket.write('taken')
    },
  })
  const anonymous = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...H2 })
  open.push(anonymous)
  anonymous.on('error', () => {})
  await once(anonymous, 'data')
  for (let number = 0; number < 5; number++) {
    const known = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...identity })
    open.push(known)
    await once(known, 'data')
  }
  const silent = connectSocket(port, '127.0.0.1')
  const silentEnd = ended(silent)
  await once(silent, 'connect')
  // Two strangers are there, so the third is sent away, and comes in once one of them has left.
  await ended(connectSocket(port, '127.0.0.1'))
  expect(silent.destroyed).toBe(false)
  expect(peers.map(({ via }) => via)).toEqual(['anonymous', 'x509', 'x509', 'x509', 'x509', 'x509'])
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
async function dial(server: Server, tls: ClientTls): Promise<Socket> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  closing.push(() => new Promise((resolve) => server.close(resolve)))
  const socket = connectSocket((server.address() as { port: number }).port, '127.0.0.1')
  open.push(socket)
  const connector = secureCredentials(grpc, tls, {})._createSecureConnector({} as never, {})
  return (await connector.connect(socket)).socket
}

function serverOf(options: { readonly ALPNProtocols?: string[] } = H2): Server {
  const [certificate] = serverIdentity.certificates
  const pem = (label: string, der: Uint8Array) =>
    `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64')}\n-----END ${label}-----\n`
  return createServer(
    { cert: pem('CERTIFICATE', certificate!), key: pem('PRIVATE KEY', serverIdentity.privateKey), ...options },
    (socket) => {
      open.push(socket)
      socket.on('error', () => {})
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
  await expect(dial(serverOf(options), { verifyServer })).rejects.toThrow(message)
})
