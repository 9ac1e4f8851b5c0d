import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { silentLog } from '../core/log.ts'
import type { BoundMethod } from '../rpc/service.ts'
import { connect as connectChannel } from './grpc-client.ts'
import { type GrpcServer, serveGrpc } from './grpc-server.ts'
import { type Listener, listenUnix } from './unix-socket.ts'

const raw = {
  encode: (bytes: Uint8Array) => ({ finish: () => bytes }),
  decode: (bytes: Uint8Array) => new Uint8Array(bytes),
}
const folder = mkdtempSync(join(tmpdir(), 'turret-floods-'))
let server: GrpcServer
let started = 0
let listener: Listener

const chatting: BoundMethod = {
  path: '/test.Echo/Chat',
  kind: 'bidi',
  unary: () => Promise.reject(new Error('not this kind')),
  stream: async function* (requests) {
    started++
    for await (const request of requests) yield request
  },
}

beforeAll(async () => {
  server = serveGrpc({
    service: { methods: new Map([[chatting.path, chatting]]), services: new Set(['test.Echo']) },
    log: silentLog,
  })
  listener = await listenUnix({
    path: join(folder, 's'),
    mode: 0o700,
    onConnection: (socket) => server.accept(socket, { via: 'local' }),
  })
})
afterAll(async () => {
  await listener.close()
  await server.close(100)
  rmSync(folder, { recursive: true })
})

const TYPES = { DATA: 0, HEADERS: 1, PRIORITY: 2, RST_STREAM: 3, SETTINGS: 4, PING: 6, CONTINUATION: 9 }
const END_HEADERS = 4

function frame(type: keyof typeof TYPES, flags: number, stream: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.length, 0, 3)
  header[3] = TYPES[type]
  header[4] = flags
  header.writeUInt32BE(stream, 5)
  return Buffer.concat([header, payload])
}

const text = (value: string) => [value.length, ...Buffer.from(value)]
/** HPACK without a table: POST, http, the path and the content type. */
const HEADERS = Buffer.from([
  0x83,
  0x86,
  0x04,
  ...text(chatting.path),
  0x01,
  ...text('localhost'),
  0x0f,
  0x10,
  ...text('application/grpc'),
])
const PREFACE = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame('SETTINGS', 0, 0, Buffer.alloc(0)),
])
const call = (stream: number) => frame('HEADERS', END_HEADERS, stream, HEADERS)
const times = (count: number, make: (index: number) => Uint8Array) =>
  Buffer.concat(Array.from({ length: count }, (_, index) => make(index)))
const NOTHING = Buffer.alloc(0)
const CALL = call(1)

const RESETS = 'calls that are reset at once'

/** What is sent first, and then again and again; the number says for how many times it was sent before. */
type Flood = readonly [name: string, first: Uint8Array, again: (round: number) => Uint8Array]

const same = (bytes: Uint8Array) => () => bytes
const FLOODS: readonly Flood[] = [
  ['pings', NOTHING, same(times(2000, () => frame('PING', 0, 0, Buffer.alloc(8))))],
  ['settings', NOTHING, same(times(2000, () => frame('SETTINGS', 0, 0, Buffer.from([0, 4, 0, 1, 0, 0]))))],
  ['priorities', CALL, same(times(2000, () => frame('PRIORITY', 0, 1, Buffer.from([0, 0, 0, 3, 7]))))],
  [
    'continued headers',
    frame('HEADERS', 0, 1, HEADERS),
    same(times(200, () => frame('CONTINUATION', 0, 1, Buffer.from([0, ...text('a'), ...text('b'.repeat(100))])))),
  ],
  ['empty data', CALL, same(times(2000, () => frame('DATA', 0, 1, NOTHING)))],
  [
    RESETS,
    NOTHING,
    (round) =>
      times(200, (index) => {
        const stream = (round * 200 + index) * 2 + 1
        return Buffer.concat([call(stream), frame('RST_STREAM', 0, stream, Buffer.from([0, 0, 0, 8]))])
      }),
  ],
]

const MOST_SENT = 8 * 1024 * 1024
/** Resets take the most: 0.1 to 0.3 s, and more where others use the same processor. */
const CPU_MS = 400
const CPU_OF_RESETS_MS = 1200
const MEMORY = 64 * 1024 * 1024

test.each(FLOODS)(
  'a flood of %s ends its connection, for little time and memory, and others are served',
  async (name, first, again) => {
    const socket = connect(listener.address)
    let ended = false
    socket.on('error', () => {})
    socket.once('close', () => {
      ended = true
    })
    socket.resume()
    await once(socket, 'connect')
    const write = (bytes: Uint8Array) => new Promise((resolve) => socket.write(bytes, () => setImmediate(resolve)))
    await write(Buffer.concat([PREFACE, first]))
    await expect.poll(() => server.callCount).toBe(first === CALL ? 1 : 0)
    const { rss } = process.memoryUsage()
    // What is spent on both sides of the connection.
    const start = process.cpuUsage()
    for (let sent = 0, round = 0; !ended && sent < MOST_SENT; round++) {
      const bytes = again(round)
      sent += bytes.length
      await write(bytes)
    }
    const { user, system } = process.cpuUsage(start)
    // Bun skips them.
    if (!(name === 'priorities' && process.versions.bun)) await expect.poll(() => ended).toBe(true)
    expect((user + system) / 1000).toBeLessThan(name === RESETS ? CPU_OF_RESETS_MS : CPU_MS)
    expect(started).toBeLessThan(3000)
    expect(process.memoryUsage().rss - rss).toBeLessThan(MEMORY)
    socket.destroy()
    await expect.poll(() => [server.connectionCount, server.callCount]).toEqual([0, 0])
    const client = await connectChannel({ target: `unix://${listener.address}` })
    const chat = client.bidi({ path: chatting.path, request: raw, response: raw })
    await chat.send(Uint8Array.of(5))
    chat.end()
    for await (const message of chat.messages) expect(message[0]).toBe(5)
    client.close()
    await expect.poll(() => server.connectionCount).toBe(0)
  },
)
