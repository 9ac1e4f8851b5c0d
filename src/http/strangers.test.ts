import { mkdtempSync, rmSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { memoryUses } from '../../test/support/memory-uses.ts'
import {
  ANONYMOUS,
  identified,
  incoming,
  LOCAL,
  rejection,
  type TestServer,
  testServer,
} from '../../test/support/server.ts'
import { makeCertificate } from '../../test/support/x509.ts'
import { StatusError } from '../core/error.ts'
import { silentLog } from '../core/log.ts'
import { generateSigner } from '../plugins/signer.ts'
import type { Peer } from '../rpc/caller.ts'
import { connectHandler } from '../transport/fetch.ts'
import { frameMessage } from '../transport/grpc-frame.ts'
import { type GrpcServer, serveGrpc } from '../transport/grpc-server.ts'
import { NONCE_HEADER } from '../transport/http-signature.ts'
import { StateSeal } from '../transport/sealed-state.ts'
import { type Listener, listenUnix } from '../transport/unix-socket.ts'

/** What callers whom nobody knows may make a server do: next to nothing. */

const CREATE = '/spire.api.server.entry.v1.Entry/BatchCreateEntry'
const ATTEST = '/spire.api.server.agent.v1.Agent/AttestAgent'
const BUNDLE = '/spire.api.server.bundle.v1.Bundle/GetBundle'
const SYNC = '/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries'
const KiB = 1024

let server: TestServer
let folder: string
let grpc: GrpcServer
let listener: Listener
let peer: Peer = ANONYMOUS

beforeAll(async () => {
  server = await testServer()
  folder = mkdtempSync(join(tmpdir(), 'strangers-'))
  grpc = serveGrpc({ service: server.service, log: silentLog, strangersBytes: 100 * KiB })
  listener = await listenUnix({
    path: join(folder, 's'),
    mode: 0o700,
    onConnection: (socket) => grpc.accept(socket, peer),
  })
})
afterAll(async () => {
  await listener.close()
  await grpc.close(0)
  rmSync(folder, { recursive: true })
})

const HANDLER = () => ({
  service: server.service,
  identity: () => undefined,
  seal: new StateSeal(new Uint8Array(32), 'example.org', server.clock, memoryUses()),
  uses: memoryUses(),
  isOnce: () => false,
  clock: server.clock,
  log: silentLog,
})

function handler(strangersBytes?: number) {
  return connectHandler({
    ...HANDLER(),
    authenticate: async () => ({ peer, signed: false }),
    ...(strangersBytes === undefined ? {} : { strangersBytes }),
  })
}

const post = (path: string, contentType: string, body: BodyInit | ReadableStream<Uint8Array>) =>
  new Request(`http://server${path}`, {
    method: 'POST',
    headers: { 'content-type': contentType },
    body,
    ...(body instanceof ReadableStream ? { duplex: 'half' } : {}),
  } as RequestInit)

/** A body that comes as it is asked for, and says how much of it was. */
function dripping(piece: Uint8Array, pieces = Number.POSITIVE_INFINITY) {
  const seen = { pulls: 0, cancelled: false }
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        seen.pulls += 1
        if (seen.pulls > pieces) controller.close()
        else controller.enqueue(piece)
      },
      cancel() {
        seen.cancelled = true
      },
    },
    { highWaterMark: 0 },
  )
  return { stream, seen }
}

/** CPU time of a piece of work, milliseconds. */
async function cpuOf(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

test('over HTTP a method that strangers may not call is refused with its body unread', async () => {
  const { stream, seen } = dripping(new Uint8Array(1000))
  const answer = (await handler()(post(CREATE, 'application/proto', stream), '192.0.2.1'))!
  expect(answer.status).toBe(403)
  expect(await answer.json()).toMatchObject({ message: `authorization denied for method ${CREATE}` })
  expect(seen).toEqual({ pulls: 0, cancelled: true })
})

test.each([
  ['protobuf', 'application/proto', Uint8Array.from({ length: 4 * KiB * KiB }, (_, at) => (at % 2 === 0 ? 0x0a : 0))],
  ['JSON', 'application/json', `{"entries":[${'{},'.repeat(1_000_000)}{}]}`],
])('millions of empty entries from a stranger cost nothing, as %s', async (_, contentType, body) => {
  const cpu = await cpuOf(async () => {
    const answer = (await handler()(post(CREATE, contentType, body), '192.0.2.1'))!
    expect(answer.status).toBe(403)
  })
  expect(cpu).toBeLessThan(200)
})

test('a message whose fields a stranger made up for size alone is no longer than it may be', async () => {
  const answer = (await handler()(post(BUNDLE, 'application/proto', new Uint8Array(65 * KiB)), '192.0.2.1'))!
  expect(answer.status).toBe(429)
})

test('base64 that does not end takes time by its length alone', async () => {
  const body = `{"params":{"params":{"csr":"A${'='.repeat(60_000)}A"}}}`
  const envelope = frameMessage(new TextEncoder().encode(body))
  const cpu = await cpuOf(() => handler()(post(ATTEST, 'application/connect+json', envelope as BodyInit), '192.0.2.1'))
  expect(cpu).toBeLessThan(200)
})

test('bodies of strangers share one budget; over it they are told to come again, and it comes back', async () => {
  const handle = handler(100 * KiB)
  let finish = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const slow = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(new Uint8Array(60 * KiB))
      await finished
      controller.close()
    },
  })
  const first = handle(post(BUNDLE, 'application/proto', slow), '192.0.2.1')
  const whole = () => handle(post(BUNDLE, 'application/proto', new Uint8Array(60 * KiB)), '192.0.2.1')
  await new Promise((resolve) => setImmediate(resolve))
  const second = (await whole())!
  expect(second.status).toBe(503)
  expect(await second.json()).toMatchObject({ message: expect.stringContaining('try again') })
  peer = LOCAL
  expect((await whole())!.status).not.toBe(503)
  peer = ANONYMOUS
  finish()
  await first
  expect((await whole())!.status).not.toBe(503)
})

test('answers for strangers are signed only so often, for each address by itself, and known callers do not count', async () => {
  const key = await generateSigner('ec-p256')
  const { der } = await makeCertificate({ name: 'server' })
  let signer: Peer = { via: 'anonymous', address: '192.0.2.1' }
  let fails = false
  const serve = connectHandler({
    ...HANDLER(),
    authenticate: async () => {
      if (fails) throw new StatusError('UNAUTHENTICATED', 'no')
      return { peer: signer, signed: false }
    },
    identity: () => ({ chain: [der], signer: key }),
    strangersSignatures: 2,
  })
  const ask = async (address: string, nonce = 'n'.repeat(22)) => {
    const request = post(BUNDLE, 'application/proto', new Uint8Array(0))
    if (nonce) request.headers.set(NONCE_HEADER, nonce)
    const { status, headers } = (await serve(request, address))!
    return { status, signed: headers.has('signature') }
  }
  const [SIGNED, BUSY] = [
    { status: 200, signed: true },
    { status: 503, signed: false },
  ]
  expect([await ask('10.0.0.1'), await ask('10.0.0.1'), await ask('10.0.0.1')]).toEqual([SIGNED, SIGNED, BUSY])
  // Who asks for no signature costs none.
  expect(await ask('10.0.0.1', '')).toEqual({ status: 200, signed: false })
  signer = { via: 'anonymous', address: '192.0.2.2' }
  expect(await ask('10.0.0.1')).toEqual(SIGNED)
  signer = identified('/admin')
  for (let count = 0; count < 4; count++) expect(await ask('10.0.0.1')).toMatchObject({ signed: true })
  // Credentials that are not good make nobody known.
  fails = true
  expect([await ask('10.0.0.9'), await ask('10.0.0.9'), await ask('10.0.0.9')]).toEqual([
    { status: 401, signed: true },
    { status: 401, signed: true },
    BUSY,
  ])
})

test('a body in pieces of one byte is kept in one piece', async () => {
  const { stream } = dripping(new Uint8Array(1), 60 * KiB)
  const before = process.memoryUsage.rss()
  const answer = (await handler()(post(BUNDLE, 'application/proto', stream), '192.0.2.1'))!
  expect(answer.status).not.toBe(429)
  expect(process.memoryUsage.rss() - before).toBeLessThan(64 * KiB * KiB)
})

/** Makes a gRPC call that sends this body and leaves it open. @returns the code of its answer */
async function grpcCode(path: string, body: Uint8Array, end = false): Promise<string> {
  const session = connectHttp2('http://server', { createConnection: () => connectSocket(join(folder, 's')) })
  try {
    const stream = session.request(
      { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
      { endStream: false },
    )
    stream.on('error', () => {})
    if (body.length > 0) stream.write(body)
    if (end) stream.end()
    return await new Promise((resolve) => {
      const take = (headers: Record<string, unknown>) => {
        if (headers['grpc-status'] !== undefined) resolve(String(headers['grpc-status']))
      }
      stream.on('response', take)
      stream.on('trailers', take)
      stream.resume()
    })
  } finally {
    session.destroy()
  }
}

test('over gRPC a method that strangers may not call is refused before a byte of its message has come', async () => {
  expect(await grpcCode(CREATE, new Uint8Array(0))).toBe('7')
  expect(await grpcCode(SYNC, new Uint8Array(0))).toBe('7')
})

test('over gRPC a message of a stranger has a limit of its own', async () => {
  const prefix = Uint8Array.of(0, 0, 1, 0, 1)
  expect(await grpcCode(BUNDLE, prefix)).toBe('8')
})

test('over gRPC messages of strangers that are not whole share one budget', async () => {
  const half = frameMessage(new Uint8Array(64 * KiB)).subarray(0, 60 * KiB)
  const holding = grpcCode(BUNDLE, half)
  const holder = await Promise.race([holding, new Promise((resolve) => setTimeout(resolve, 50, 'held'))])
  expect(holder).toBe('held')
  expect(await grpcCode(BUNDLE, half)).toBe('14')
})

test('what is no message is refused as forbidden, not as malformed, where the caller may not call', async () => {
  const method = server.service.methods.get(CREATE)!
  const garbage = Uint8Array.of(0xff, 0xff)
  expect(await rejection(method.unary(garbage, incoming(ANONYMOUS)))).toMatch(/^PERMISSION_DENIED/)
  expect(await rejection(method.unary(garbage, incoming(LOCAL)))).toMatch(/^INTERNAL: grpc: error unmarshalling/)
})

test('over HTTP what is no message is the mistake of the caller, in protobuf as in JSON', async () => {
  const answer = (await handler()(post(BUNDLE, 'application/proto', Uint8Array.of(0)), '192.0.2.1'))!
  expect(answer.status).toBe(400)
  expect(await answer.json()).toMatchObject({
    code: 'invalid_argument',
    message: 'the request is not valid: proto: cannot parse invalid wire-format data',
  })
})

test('a stranger’s message becomes only so many objects, an administrator’s as many as it holds', async () => {
  const entries = (count: number) => Uint8Array.from({ length: 2 * count }, (_, at) => (at % 2 === 0 ? 0x0a : 0))
  expect(await rejection(server.service.methods.get(BUNDLE)!.unary(entries(2100), incoming(ANONYMOUS)))).toMatch(
    /^INTERNAL: grpc: error unmarshalling/,
  )
  const created = await server.service.methods.get(CREATE)!.unary(entries(3000), incoming(LOCAL))
  expect(created.length).toBeGreaterThan(3000)
})
