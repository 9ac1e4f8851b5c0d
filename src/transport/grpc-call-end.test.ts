import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { silentLog } from '../core/log.ts'
import type { BoundMethod, IncomingCall } from '../rpc/service.ts'
import { type GrpcServer, serveGrpc } from './grpc-server.ts'
import { type Listener, listenUnix } from './unix-socket.ts'

/** Answers the first message of a call and is done, whatever else the client means to send. */
const answersFirst: BoundMethod = {
  path: '/test.End/First',
  kind: 'bidi',
  unary: () => Promise.reject(new Error('not this kind')),
  async *stream(requests, call) {
    lastCall = call
    signal = call.signal
    for await (const request of requests) {
      yield request
      return
    }
  },
}
const MESSAGE = Buffer.from('000000000107', 'hex')

const folder = mkdtempSync(join(tmpdir(), 'turret-call-end-'))
let lastCall: IncomingCall
let signal: AbortSignal
let server: GrpcServer
let listener: Listener
let session: ClientHttp2Session

beforeAll(async () => {
  server = serveGrpc({
    service: { methods: new Map([[answersFirst.path, answersFirst]]), services: new Set() },
    log: silentLog,
  })
  const onConnection = (socket: ReturnType<typeof connectSocket>) => server.accept(socket, { via: 'local' })
  listener = await listenUnix({ path: join(folder, 'api.sock'), mode: 0o700, onConnection })
  session = connectHttp2('http://localhost', { createConnection: () => connectSocket(listener.address) })
})
afterAll(async () => {
  session.destroy()
  await listener.close()
  await server.close(100)
  rmSync(folder, { recursive: true })
})

/** Makes the call, without ending it, and waits for the whole answer. */
async function answered() {
  const call = session.request({
    ':method': 'POST',
    ':path': answersFirst.path,
    'content-type': 'application/grpc',
  })
  call.on('error', () => {})
  call.write(MESSAGE)
  const trailers = once(call, 'trailers')
  call.resume()
  expect((await trailers)[0]['grpc-status']).toBe('0')
  return call
}

test('a client ends its side after the answer without being reset, and the handler is not told that it left', async () => {
  const call = await answered()
  // Whatever the server had to say about the call is here by the answer to a ping.
  for (let rounds = 0; rounds < 3; rounds++) await promisify(session.ping.bind(session))()
  expect(call.closed || call.destroyed).toBe(false)
  const closed = once(call, 'close')
  call.end()
  await closed
  await answered()
  expect(lastCall.signal).toBe(signal)
  expect(signal.aborted).toBe(false)
})

test('a client that does not end its side is reset', async () => {
  const call = await answered()
  await once(call, 'close')
  expect(call.rstCode).toBe(0)
})
