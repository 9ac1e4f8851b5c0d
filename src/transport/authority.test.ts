import { mkdtempSync, rmSync } from 'node:fs'
import { connect, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { silentLog } from '../core/log.ts'
import type { BoundMethod } from '../rpc/service.ts'
import { AuthorityRewriter, rewritingStream } from './authority-rewriter.ts'
import { frameMessage } from './grpc-frame.ts'
import { type GrpcServer, serveGrpc } from './grpc-server.ts'
import { encodeLiterals, HpackDecoder } from './hpack.ts'
import { FLAGS, FRAMES, PREFACE, readFrameHeader } from './http2-frame.ts'
import { type Listener, listenUnix } from './unix-socket.ts'

// What clients of unix sockets write into `:authority`, in raw frames: java-spiffe the path, as literals or by the table; go-spiffe v1 the same in
// Huffman's code; others nothing.

const folder = mkdtempSync(join(tmpdir(), 'turret-authority-'))
const path = join(folder, 's')
let server: GrpcServer
let listener: Listener

const echo: BoundMethod = {
  path: '/test.Echo/Unary',
  kind: 'unary',
  stream: () => {
    throw new Error('not this kind')
  },
  unary: async (request) => request,
}
beforeAll(async () => {
  server = serveGrpc({
    service: { methods: new Map([[echo.path, echo]]), services: new Set(['test.Echo']) },
    log: silentLog,
  })
  listener = await listenUnix({
    path,
    mode: 0o700,
    onConnection: (socket) => server.accept(socket, { via: 'local' }),
  })
})
afterAll(async () => {
  await listener.close()
  await server.close(0)
  rmSync(folder, { recursive: true })
})

function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.length, 0, 3)
  header[3] = type
  header[4] = flags
  header.writeUInt32BE(streamId, 5)
  return Buffer.concat([header, payload])
}

const NONE: Buffer = Buffer.alloc(0)
const SETTINGS = frame(FRAMES.SETTINGS, 0, 0, NONE)
const ACK = frame(FRAMES.SETTINGS, FLAGS.ACK, 0, NONE)
const MESSAGE = Buffer.from(frameMessage(Uint8Array.of(1, 2, 3)))

const fieldsOf = (authority: string | undefined, extra: Readonly<Record<string, string>> = {}) =>
  [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', echo.path],
    ...(authority === undefined ? [] : [[':authority', authority]]),
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
    ...Object.entries(extra),
  ].map(([name, value]) => ({ name: name!, value: value! }))

const data = (streamId: number) => frame(FRAMES.DATA, FLAGS.END_STREAM, streamId, MESSAGE)

/** A request in frames: its header block may be cut into several. */
function request(streamId: number, block: Buffer, cuts: readonly number[] = []): Buffer {
  const edges = [0, ...cuts, block.length]
  const frames = edges.slice(1).map((end, index) => {
    const isLast = index === edges.length - 2
    const type = index === 0 ? FRAMES.HEADERS : FRAMES.CONTINUATION
    return frame(type, isLast ? FLAGS.END_HEADERS : 0, streamId, block.subarray(edges[index], end))
  })
  return Buffer.concat([...frames, data(streamId)])
}

interface Answers {
  /** Status and message of each call, by its stream. */
  readonly calls: Map<number, { headers: Record<string, string>; bytes: Buffer }>
  /** How a connection or stream was refused. */
  readonly refusals: string[]
  readonly closed: boolean
}

/** Sends pieces, each when the one before was written, and collects what is answered until `count` calls ended. */
async function exchange(
  pieces: readonly Buffer[],
  count: number,
  onSettings?: (socket: Socket) => void,
): Promise<Answers> {
  const socket = connect(path)
  const calls: Answers['calls'] = new Map()
  const refusals: string[] = []
  const decoder = new HpackDecoder(64 * 1024)
  let rest: Buffer = NONE
  let ended = 0
  let asked = false
  let sent = false
  let acks = 0
  let closed = false
  await new Promise<void>((resolve) => {
    socket.on('close', () => {
      closed = true
      resolve()
    })
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk])
      while (rest.length >= 9) {
        const { length, type, flags, streamId } = readFrameHeader(rest, 0)
        if (rest.length < 9 + length) break
        const payload = rest.subarray(9, 9 + length)
        rest = rest.subarray(9 + length)
        const call = calls.get(streamId) ?? { headers: {}, bytes: NONE }
        if (type === FRAMES.HEADERS) {
          for (const { name, value } of decoder.decode(payload)) call.headers[name] = value
          calls.set(streamId, call)
        } else if (type === FRAMES.DATA) {
          calls.set(streamId, { ...call, bytes: Buffer.concat([call.bytes, payload]) })
        } else if (type === FRAMES.SETTINGS && (flags & FLAGS.ACK) === 0) {
          if (sent) socket.write(ACK)
          else acks += 1
          if (!asked) onSettings?.(socket)
          asked = true
        } else if (type === 3) refusals.push(`RST_STREAM ${payload.readUInt32BE(0)}`)
        else if (type === 7) refusals.push(`GOAWAY ${payload.readUInt32BE(4)}`)
        if ((type === FRAMES.HEADERS || type === FRAMES.DATA) && flags & FLAGS.END_STREAM) ended += 1
        if (ended >= count || refusals.length > 0) resolve()
      }
    })
    const send = (index: number): void => {
      if (index < pieces.length) {
        socket.write(pieces[index]!, () => setImmediate(() => send(index + 1)))
        return
      }
      // Not between the bytes of a frame.
      sent = true
      for (; acks > 0; acks -= 1) socket.write(ACK)
    }
    send(0)
  })
  socket.destroy()
  return { calls, refusals, closed }
}

/** That all calls were answered with what they sent. */
function expectServed({ calls, refusals }: Answers, ...streamIds: readonly number[]): void {
  expect(refusals).toEqual([])
  for (const id of streamIds) {
    expect(calls.get(id)?.headers).toMatchObject({ ':status': '200', 'grpc-status': '0' })
    expect(calls.get(id)?.bytes).toEqual(MESSAGE)
  }
}

const AUTHORITIES: [string, string | undefined][] = [
  ['a host', 'localhost'],
  ['a host and port', '127.0.0.1:8081'],
  ['the path of the socket', '/tmp/agent.sock'],
  ['the path, percent-encoded', '%2Ftmp%2Fagent.sock'],
  ['a URL', 'unix:///tmp/agent.sock'],
  ['blanks and quotes', 'my "agent" \\ {1}'],
  ['bytes above ASCII', 'socket-\u00e9\u00ff'],
  ['an abstract name', '@agent'],
  ['nothing', ''],
  ['no authority at all', undefined],
]

test.each(AUTHORITIES)(
  'a client whose authority is %s is served, whether it waits for settings or not',
  async (_, authority) => {
    const block = encodeLiterals(fieldsOf(authority))
    const two = Buffer.concat([request(1, block), request(3, block)])
    expectServed(await exchange([Buffer.concat([PREFACE, SETTINGS, two])], 2), 1, 3)
    expectServed(await exchange([PREFACE, SETTINGS], 2, (socket) => socket.write(two)), 1, 3)
  },
)

test.each(AUTHORITIES)('byte by byte, too: %s', async (_, authority) => {
  const bytes = Buffer.concat([PREFACE, SETTINGS, request(1, encodeLiterals(fieldsOf(authority)))])
  expectServed(
    await exchange(
      [...bytes].map((byte) => Buffer.of(byte)),
      1,
    ),
    1,
  )
})

test('a host header with a path is served', async () => {
  const block = encodeLiterals(fieldsOf(undefined, { host: '/tmp/agent.sock' }))
  expectServed(await exchange([Buffer.concat([PREFACE, SETTINGS, request(1, block)])], 1), 1)
})

/** `/tmp/agent.sock`, as go-spiffe v1 writes it: a literal in Huffman's code that the table keeps. */
const HUFFMAN_AUTHORITY = Buffer.from('418b6134d6c0e62d495d07275f', 'hex')

test('a later request may name the authority by the table', async () => {
  const others = encodeLiterals(fieldsOf(undefined))
  // Index 62 is what the table got first, index 1 the name of a literal that it keeps.
  const first = Buffer.concat([Buffer.from('410f', 'hex'), Buffer.from('/tmp/agent.sock'), others])
  const again = Buffer.concat([Buffer.from('be', 'hex'), others])
  const pieces = [Buffer.concat([PREFACE, SETTINGS, request(1, first), request(3, again), request(5, again)])]
  expectServed(await exchange(pieces, 3), 1, 3, 5)
})

test('Huffman’s code is read', async () => {
  expect(new HpackDecoder(1000).decode(HUFFMAN_AUTHORITY)).toEqual([{ name: ':authority', value: '/tmp/agent.sock' }])
  const block = Buffer.concat([HUFFMAN_AUTHORITY, encodeLiterals(fieldsOf(undefined))])
  expectServed(await exchange([Buffer.concat([PREFACE, SETTINGS, request(1, block)])], 1), 1)
})

test('a header block in several frames is put together, with padding and priority', async () => {
  const block = encodeLiterals(fieldsOf('/tmp/agent.sock', { 'x-long': 'x'.repeat(40_000) }))
  const cut = request(1, block, [3, 16_000, 32_000])
  expectServed(await exchange([Buffer.concat([PREFACE, SETTINGS, cut])], 1), 1)
  const short = encodeLiterals(fieldsOf('/tmp/agent.sock'))
  const padded = Buffer.concat([Buffer.of(4), Buffer.from('0000000010', 'hex'), short, Buffer.alloc(4)])
  const flags = FLAGS.END_HEADERS | FLAGS.PADDED | FLAGS.PRIORITY
  const pieces = [PREFACE, SETTINGS, frame(FRAMES.HEADERS, flags, 1, padded), data(1)]
  expectServed(await exchange([Buffer.concat(pieces)], 1), 1)
})

test('settings, pings and windows before the first request are answered', async () => {
  const ping = frame(6, 0, 0, Buffer.alloc(8, 7))
  const window = frame(FRAMES.WINDOW_UPDATE, 0, 0, Buffer.from('00010000', 'hex'))
  const block = encodeLiterals(fieldsOf('localhost'))
  expectServed(await exchange([PREFACE, SETTINGS, window, ping, SETTINGS, request(1, block)], 1), 1)
})

test('a client that comes with its first request late is served', async () => {
  const impatient = serveGrpc({
    service: { methods: new Map([[echo.path, echo]]), services: new Set(['test.Echo']) },
    log: silentLog,
    prefaceTimeoutMs: 200,
  })
  const other = await listenUnix({
    path: `${path}2`,
    mode: 0o700,
    onConnection: (socket) => impatient.accept(socket, { via: 'local' }),
  })
  const socket = connect(`${path}2`)
  const received: Buffer[] = []
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => received.push(chunk))
  socket.write(Buffer.concat([PREFACE, SETTINGS]))
  await expect.poll(() => received.length).toBeGreaterThan(0)
  socket.write(ACK)
  // Then the connection is served as any other, and a path is still no matter.
  await expect.poll(() => Buffer.concat(received).length, { timeout: 4000 }).toBeGreaterThan(24)
  socket.write(Buffer.concat([ACK, request(1, encodeLiterals(fieldsOf('/tmp/agent.sock')))]))
  await expect.poll(() => Buffer.concat(received).includes(MESSAGE), { timeout: 4000 }).toBe(true)
  socket.destroy()
  await other.close()
  await impatient.close(0)
})

test.each<[string, () => Buffer]>([
  [
    'a header block that is interrupted',
    () => {
      const block = encodeLiterals(fieldsOf('/x'))
      return Buffer.concat([frame(FRAMES.HEADERS, 0, 1, block), data(1)])
    },
  ],
  ['a continuation of nothing', () => frame(FRAMES.CONTINUATION, FLAGS.END_HEADERS, 1, NONE)],
  ['a header block that is none', () => frame(FRAMES.HEADERS, FLAGS.END_HEADERS, 1, Buffer.from('ffffffffff', 'hex'))],
  [
    'padding that is longer than its frame',
    () => frame(FRAMES.HEADERS, FLAGS.END_HEADERS | FLAGS.PADDED, 1, Buffer.of(9)),
  ],
  [
    'continuations without end',
    () => {
      const first = frame(FRAMES.HEADERS, 0, 1, encodeLiterals(fieldsOf('/x')))
      return Buffer.concat([
        first,
        ...Array.from({ length: 5_000 }, () => frame(FRAMES.CONTINUATION, 0, 1, Buffer.of(0x82))),
      ])
    },
  ],
  [
    'a header list that grows',
    () => {
      const big = Buffer.concat([
        Buffer.from('4001617fa11e', 'hex'),
        Buffer.alloc(4000, 'v'),
        Buffer.alloc(4_000, 0xbe),
      ])
      return frame(FRAMES.HEADERS, FLAGS.END_HEADERS, 1, Buffer.concat([encodeLiterals(fieldsOf('/x')), big]))
    },
  ],
  ['no preface', () => Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
])('%s ends the connection, and others go on', async (_, bytes) => {
  const start = bytes().includes('HTTP/1.1') ? NONE : Buffer.concat([PREFACE, SETTINGS])
  const { calls, refusals, closed } = await exchange([Buffer.concat([start, bytes()])], 1)
  expect(calls.size).toBe(0)
  expect(closed || refusals.length > 0).toBe(true)
  const fine = encodeLiterals(fieldsOf('/tmp/agent.sock'))
  expectServed(await exchange([Buffer.concat([PREFACE, SETTINGS, request(1, fine)])], 1), 1)
})

test('what is not a header block goes through as it came, in whatever pieces', () => {
  const block = encodeLiterals(fieldsOf('localhost'))
  const bytes = Buffer.concat([PREFACE, SETTINGS, request(1, block), ACK, frame(6, 0, 0, Buffer.alloc(8))])
  for (const size of [1, 7, 24, 1000]) {
    const rewriter = new AuthorityRewriter(64 * 1024)
    const out: Buffer[] = []
    for (let offset = 0; offset < bytes.length; offset += size)
      out.push(...rewriter.push(bytes.subarray(offset, offset + size)))
    expect(Buffer.concat(out)).toEqual(bytes)
  }
})

test('a confirmation of settings that nobody else sent is kept, once', () => {
  const rewriter = new AuthorityRewriter(64 * 1024, 1)
  expect(Buffer.concat(rewriter.push(Buffer.concat([PREFACE, SETTINGS, ACK, ACK])))).toEqual(
    Buffer.concat([PREFACE, SETTINGS, ACK]),
  )
})

test('trailers of a client are no request', () => {
  const rewriter = new AuthorityRewriter(64 * 1024)
  const trailers = frame(
    FRAMES.HEADERS,
    FLAGS.END_HEADERS | FLAGS.END_STREAM,
    1,
    encodeLiterals([{ name: 'a', value: 'b' }]),
  )
  expect(Buffer.concat(rewriter.push(Buffer.concat([PREFACE, trailers])))).toEqual(Buffer.concat([PREFACE, trailers]))
})

const begin = frame(FRAMES.HEADERS, 0, 1, encodeLiterals(fieldsOf('/x')))
const more = (streamId: number, bytes: number) => frame(FRAMES.CONTINUATION, 0, streamId, Buffer.alloc(bytes, 0x82))

test.each<[string, readonly Buffer[], string]>([
  ['a block that another frame interrupts', [begin, data(1)], 'is interrupted'],
  ['a block that another block interrupts', [begin, begin], 'is interrupted'],
  ['a block that goes on in another stream', [begin, more(3, 1)], 'is interrupted'],
  ['a block that goes on without a beginning', [more(1, 1)], 'without a beginning'],
  ['a frame that is larger than agreed', [frame(FRAMES.HEADERS, 0, 1, Buffer.alloc(16_385))], 'too large'],
  ['a block of more than 64 KiB', [begin, ...Array.from({ length: 4 }, () => more(1, 16_384))], 'too long'],
  ['a block in more than 64 frames', [begin, ...Array.from({ length: 64 }, () => more(1, 0))], 'too long'],
  [
    'padding of more than there is',
    [frame(FRAMES.HEADERS, FLAGS.END_HEADERS | FLAGS.PADDED, 1, Buffer.of(1))],
    'padded',
  ],
  [
    'a priority that is not there',
    [frame(FRAMES.HEADERS, FLAGS.END_HEADERS | FLAGS.PRIORITY, 1, Buffer.alloc(4))],
    'padded',
  ],
])('%s is nothing to hand on', (_, frames, message) => {
  const rewriter = new AuthorityRewriter(1024 * 1024)
  expect(() => rewriter.push(Buffer.concat([PREFACE, ...frames]))).toThrow(message)
})

test('frames that are no header blocks may be larger, and a block may have 64 frames', () => {
  const rewriter = new AuthorityRewriter(64 * 1024)
  const large = frame(FRAMES.DATA, 0, 1, Buffer.alloc(20_000))
  expect(Buffer.concat(rewriter.push(Buffer.concat([PREFACE, large])))).toEqual(Buffer.concat([PREFACE, large]))
  const rest = Array.from({ length: 63 }, (_, index) =>
    frame(FRAMES.CONTINUATION, index === 62 ? FLAGS.END_HEADERS : 0, 1, NONE),
  )
  expect(rewriter.push(Buffer.concat([begin, ...rest])).length).toBeGreaterThan(0)
})

/** The fields of a request as they are handed on. */
function handedOn(fields: ReturnType<typeof fieldsOf>) {
  const out = Buffer.concat(
    new AuthorityRewriter(64 * 1024).push(
      Buffer.concat([PREFACE, frame(FRAMES.HEADERS, FLAGS.END_HEADERS, 1, encodeLiterals(fields))]),
    ),
  )
  return new HpackDecoder(64 * 1024).decode(out.subarray(PREFACE.length + 9))
}

test.each<[string, string | undefined, Record<string, string>, string, string | undefined]>([
  ['a host header that is none', 'good', { host: '/tmp/x' }, 'good', undefined],
  ['an authority that is none beside a host', '/tmp/x', { host: 'good' }, 'localhost', 'good'],
  ['both', '/tmp/x', { host: '/tmp/y' }, 'localhost', undefined],
  ['an authority of 256 bytes', 'x'.repeat(256), {}, 'localhost', undefined],
])('%s is not handed on', (_, authority, extra, wanted, host) => {
  const fields = handedOn(fieldsOf(authority, extra))
  const valuesOf = (name: string) => fields.filter((field) => field.name === name).map(({ value }) => value)
  expect(valuesOf(':authority')).toEqual([wanted])
  expect(valuesOf('host')).toEqual(host === undefined ? [] : [host])
})

test('no more is read of a client than is taken', () => {
  const socket = new Socket()
  const stream = rewritingStream(socket, new AuthorityRewriter(64 * 1024), [PREFACE])
  const chunk = frame(FRAMES.DATA, 0, 1, Buffer.alloc(16_000))
  for (let count = 0; count < 100 && !socket.isPaused(); count++) socket.emit('data', chunk)
  expect(socket.isPaused()).toBe(true)
  expect(stream.readableLength).toBeLessThan(200_000)
  stream.destroy()
})
