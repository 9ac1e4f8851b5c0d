import { once } from 'node:events'
import { createServer, connect as dial, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { Worker } from 'node:worker_threads'
import { afterEach, expect, test } from 'vitest'
import { makeCertificate } from '../../test/support/x509.ts'
import { connectionErrorText, dialTimeoutText } from './dial-error.ts'
import { connect } from './grpc-client.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

const raw = { encode: (bytes: Uint8Array) => ({ finish: () => bytes }), decode: (bytes: Uint8Array) => bytes }

/** What a call comes to, with this listening. */
async function outcome(target: string, dialTimeoutMs = 20_000): Promise<string> {
  const channel = await connect({ target, dialTimeoutMs, tls: { verifyServer() {} } })
  closing.push(() => channel.close())
  try {
    await channel.unary({ path: '/test.Echo/Unary', request: raw, response: raw }, new Uint8Array(1))
    return 'OK'
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`
  }
}

async function listening(server: Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  closing.push(() => server.close())
  return (server.address() as { port: number }).port
}

/** What every connection comes to. */
function tcp(onSocket: (socket: Socket) => void): Promise<number> {
  return listening(
    createServer((socket) => {
      closing.push(() => socket.destroy())
      onSocket(socket.on('error', () => {}))
    }),
  )
}

const handshake = (what: string) =>
  `UNAVAILABLE: connection error: desc = "transport: authentication handshake failed: ${what}"`
const dialling = (what: string) =>
  `UNAVAILABLE: connection error: desc = "transport: Error while dialing: dial ${what}"`

test('a port where nobody listens', async () => {
  const gone = createServer()
  await once(gone.listen(0, '127.0.0.1'), 'listening')
  const { port } = gone.address() as { port: number }
  await new Promise((resolve) => gone.close(resolve))
  const refused = dialling(`tcp 127.0.0.1:${port}: connect: connection refused`)
  expect(await outcome(`dns:///127.0.0.1:${port}`)).toBe(refused)
})

test('a name that nobody knows', async () => {
  expect(await outcome('dns:///none.invalid:8081')).toBe(dialling('tcp: lookup none.invalid: no such host'))
})

// A queue of Bun's has 512 places, whatever one asks for.
test.skipIf(process.versions.bun)('packets that are dropped: the address is named after a while', async () => {
  // A listener that never accepts, and whose queue is full: Linux drops what else comes.
  const worker = new Worker(
    `const { createServer } = require('node:net')
     const { parentPort } = require('node:worker_threads')
     const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       parentPort.postMessage(server.address().port)
       setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0))
     })`,
    { eval: true },
  )
  closing.push(() => worker.terminate())
  const [port] = (await once(worker, 'message')) as [number]
  const queued = Array.from({ length: 8 }, () => dial(port, '127.0.0.1').on('error', () => {}))
  closing.push(() => queued.map((socket) => socket.destroy()))
  await Promise.all(queued.slice(0, 2).map((socket) => once(socket, 'connect')))
  expect(await outcome(`dns:///127.0.0.1:${port}`, 200)).toBe(dialling(`tcp 127.0.0.1:${port}: i/o timeout`))
  expect(await outcome(`dns:///localhost:${port}`, 200)).toMatch(/dial tcp (127\.0\.0\.1|\[::1\]):\d+: /)
})

test('a server that takes the connection and says nothing', async () => {
  const port = await tcp(() => {})
  expect(await outcome(`dns:///127.0.0.1:${port}`, 1000)).toBe(handshake('context deadline exceeded'))
})

test('a connection that is reset in the handshake', async () => {
  const port = await tcp((socket) => socket.once('data', () => socket.resetAndDestroy()))
  const said = await outcome(`dns:///127.0.0.1:${port}`)
  // Deno's TLS does not tell a reset from an end.
  if (process.versions.deno && said === handshake('EOF')) return
  expect(said).toMatch(
    new RegExp(`failed: read tcp 127\\.0\\.0\\.1:\\d+->127\\.0\\.0\\.1:${port}: read: connection reset by peer"$`),
  )
})

test('a connection that is ended in the handshake', async () => {
  const port = await tcp((socket) => socket.once('data', () => socket.end()))
  expect(await outcome(`dns:///127.0.0.1:${port}`)).toBe(handshake('EOF'))
})

test('a proxy in between that answers in HTTP', async () => {
  const port = await tcp((socket) => socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')))
  expect(await outcome(`dns:///127.0.0.1:${port}`)).toBe(
    handshake('tls: first record does not look like a TLS handshake'),
  )
})

test('a server of TLS that wants nothing of ours, and one that leaves', async () => {
  const { der, key } = await makeCertificate({ name: 'server' })
  const pem = (label: string, bytes: Uint8Array) =>
    `-----BEGIN ${label}-----\n${Buffer.from(bytes).toString('base64')}\n-----END ${label}-----\n`
  const tls = { cert: pem('CERTIFICATE', der), key: pem('PRIVATE KEY', key.exportPrivateKey()) }
  const serve = (options: object, onSocket: (socket: Socket) => void = () => {}) =>
    listening(
      createTlsServer({ ...tls, ...options }, (socket) => {
        closing.push(() => socket.destroy())
        onSocket(socket.on('error', () => {}))
      }),
    )
  const other = await serve({ ALPNProtocols: ['http/1.1'] })
  expect(await outcome(`dns:///127.0.0.1:${other}`)).toBe(handshake('remote error: tls: no application protocol'))
  const leaving = await serve({ ALPNProtocols: ['h2'] }, (socket) => socket.end())
  expect(await outcome(`dns:///127.0.0.1:${leaving}`)).toBe(
    'UNAVAILABLE: connection error: desc = "error reading server preface: EOF"',
  )
})

test.each([
  [
    'No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:81. Resolution note: ',
    '127.0.0.1:81',
  ],
  ['round_robin: No connection established. Last error: Error: connect EHOSTUNREACH ::1:81', '::1:81'],
])('sentences of grpc-js are left out: %s', (details, address) => {
  const text = connectionErrorText(details, 'dns:///host:81')
  expect(text).toContain(`dial tcp ${address}: connect: `)
  expect(text).not.toMatch(/round_robin|Resolution|established/)
})

test('an error of a call is none of a connection', () => {
  expect(connectionErrorText('the database is away', 'dns:///host:81')).toBeUndefined()
})

test('a server that is silent after its handshake is told from one that was not reached', () => {
  expect([undefined, 'tls', 'preface'].map((stage) => dialTimeoutText('127.0.0.1:81', { stage } as never))).toEqual([
    'connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:81: i/o timeout"',
    'connection error: desc = "transport: authentication handshake failed: context deadline exceeded"',
    'connection error: desc = "failed to receive server preface within timeout"',
  ])
})
