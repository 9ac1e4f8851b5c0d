import { once } from 'node:events'
import { type Duplex, duplexPair } from 'node:stream'
import { expect, test } from 'vitest'
import { yamuxServer } from './yamux.ts'

const [DATA, WINDOW, PING, GO_AWAY] = [0, 1, 2, 3]
const [SYN, ACK, FIN, RST] = [1, 2, 4, 8]
const KIB = 1024

function frame(type: number, flags: number, id: number, length: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(12)
  header[1] = type
  header.writeUInt16BE(flags, 2)
  header.writeUInt32BE(id, 4)
  header.writeUInt32BE(length, 8)
  return Buffer.concat([header, data])
}
const data = (id: number, content: Buffer, flags = 0) => frame(DATA!, flags, id, content.length, content)

/** A session, and the other end of its connection. */
function session() {
  const [ours, theirs] = duplexPair()
  const streams: Duplex[] = []
  const { open } = yamuxServer(ours, (stream) => streams.push(stream))
  const chunks = theirs.iterator({ destroyOnReturn: false })
  let rest: Buffer = Buffer.alloc(0)
  /** The next frame that we send: type, flags, stream, length, and the text of data. */
  const next = async (): Promise<readonly [number, number, number, number, string]> => {
    for (;;) {
      const bytes = rest.length < 12 ? 12 : 12 + (rest[1] === DATA ? rest.readUInt32BE(8) : 0)
      if (rest.length >= bytes && rest.length >= 12) {
        const [header, content] = [rest.subarray(0, 12), rest.subarray(12, bytes)]
        rest = rest.subarray(bytes)
        return [header[1]!, header.readUInt16BE(2), header.readUInt32BE(4), header.readUInt32BE(8), content.toString()]
      }
      rest = Buffer.concat([rest, (await chunks.next()).value])
    }
  }
  return { ours, theirs, streams, open, next }
}

test('a stream of the other side is acknowledged, and talks both ways to its end', async () => {
  const { theirs, streams, next } = session()
  theirs.write(frame(WINDOW!, SYN!, 1, 0))
  expect(await next()).toEqual([WINDOW, ACK, 1, 0, ''])
  const [stream] = streams
  // In pieces as a network may cut them.
  const bytes = data(1, Buffer.from('hello'), FIN)
  theirs.write(bytes.subarray(0, 7))
  theirs.write(bytes.subarray(7, 14))
  theirs.write(bytes.subarray(14))
  const heard: Buffer[] = []
  stream!.on('data', (chunk) => heard.push(chunk))
  await once(stream!, 'end')
  expect(Buffer.concat(heard).toString()).toBe('hello')
  stream!.end('you too')
  expect(await next()).toEqual([DATA, 0, 1, 7, 'you too'])
  expect(await next()).toEqual([WINDOW, FIN, 1, 0, ''])
})

test('our streams have even numbers, and what is reset ends with an error', async () => {
  const { theirs, open, next } = session()
  const first = open()
  open()
  expect([await next(), await next()]).toEqual([
    [WINDOW, SYN, 2, 0, ''],
    [WINDOW, SYN, 4, 0, ''],
  ])
  theirs.write(frame(WINDOW!, RST!, 2, 0))
  const [error] = await once(first, 'error')
  expect(error.message).toBe('stream reset')
})

test('no more is sent than the other side has room for, and it is told what was read', async () => {
  const { theirs, streams, next } = session()
  theirs.write(frame(WINDOW!, SYN!, 1, 0))
  await next()
  const [stream] = streams
  stream!.write(Buffer.alloc(300 * KIB, 'a'))
  expect((await next())[3]).toBe(256 * KIB)
  theirs.write(frame(PING!, SYN!, 0, 77))
  // Nothing of the rest comes before the answer to what was asked later.
  expect(await next()).toEqual([PING, ACK, 0, 77, ''])
  theirs.write(frame(WINDOW!, 0, 1, 40 * KIB))
  expect((await next())[3]).toBe(40 * KIB)
  theirs.write(frame(WINDOW!, 0, 1, 40 * KIB))
  expect((await next())[3]).toBe(4 * KIB)

  theirs.write(data(1, Buffer.alloc(200 * KIB)))
  let read = 0
  stream!.on('data', (chunk) => {
    read += chunk.length
  })
  expect(await next()).toEqual([WINDOW, 0, 1, 200 * KIB, ''])
  expect(read).toBe(200 * KIB)
})

test('what is said of a stream that is closed harms nothing, and neither does the other side going away', async () => {
  const { theirs, streams, next } = session()
  theirs.write(frame(WINDOW!, SYN!, 1, 0))
  await next()
  streams[0]!.destroy()
  expect(await next()).toEqual([WINDOW, RST, 1, 0, ''])
  theirs.write(Buffer.concat([data(1, Buffer.from('late')), frame(GO_AWAY!, 0, 0, 0), frame(PING!, SYN!, 0, 1)]))
  expect(await next()).toEqual([PING, ACK, 0, 1, ''])
})

test.each([
  ['another version', Buffer.concat([Buffer.of(1), frame(PING!, SYN!, 0, 0).subarray(1)])],
  ['an unknown type', frame(4, 0, 1, 0)],
  ['a stream with a number of ours', frame(WINDOW!, SYN!, 2, 0)],
  ['a stream that is open', Buffer.concat([frame(WINDOW!, SYN!, 1, 0), frame(WINDOW!, SYN!, 1, 0)])],
  ['a frame longer than a window', frame(DATA!, SYN!, 1, 256 * KIB + 1)],
  ['more than was allowed', Buffer.concat([data(1, Buffer.alloc(200 * KIB), SYN), data(1, Buffer.alloc(57 * KIB))])],
])('%s ends the connection and all its streams', async (_, bytes) => {
  const { ours, theirs, open } = session()
  const stream = open()
  const closed = once(stream, 'close')
  theirs.resume()
  theirs.write(bytes)
  await closed
  expect(ours.destroyed).toBe(true)
})
