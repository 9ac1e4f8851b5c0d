import { Duplex } from 'node:stream'

// Several streams in one connection, as hashicorp/yamux: what go-plugin's hosts speak that want one connection for all.

const TYPE = { data: 0, windowUpdate: 1, ping: 2, goAway: 3 } as const
const FLAG = { syn: 1, ack: 2, fin: 4, rst: 8 } as const
const HEADER_BYTES = 12
/** What either side may send of a stream before the other has read it. */
const WINDOW_BYTES = 256 * 1024

export interface YamuxSession {
  /** Opens a stream of ours. */
  open(): Duplex
}

/**
 * The side that accepted the connection.
 * @param onStream gets each stream of the other side's
 */
export function yamuxServer(connection: Duplex, onStream: (stream: Duplex) => void): YamuxSession {
  const streams = new Map<number, YamuxStream>()
  // The other side's are odd.
  let nextId = 2
  const send = (type: number, flags: number, id: number, length: number, data?: Uint8Array): void => {
    if (connection.destroyed) return
    const header = Buffer.alloc(HEADER_BYTES)
    header.writeUInt8(type, 1)
    header.writeUInt16BE(flags, 2)
    header.writeUInt32BE(id, 4)
    header.writeUInt32BE(length, 8)
    connection.write(data ? Buffer.concat([header, data]) : header)
  }
  const add = (id: number): YamuxStream => {
    const stream = new YamuxStream(
      (type, flags, length, data) => send(type, flags, id, length, data),
      () => streams.delete(id),
    )
    stream.on('error', () => {})
    streams.set(id, stream)
    return stream
  }

  /** Takes a whole frame. @returns false if the other side broke the rules */
  const take = (type: number, flags: number, id: number, length: number, data: Buffer): boolean => {
    if (type === TYPE.ping) {
      if (flags & FLAG.syn) send(TYPE.ping, FLAG.ack, 0, length)
      return true
    }
    if (type === TYPE.goAway) return true
    if (flags & FLAG.syn) {
      if (id % 2 === 0 || streams.has(id)) return false
      const stream = add(id)
      send(TYPE.windowUpdate, FLAG.ack, id, 0)
      onStream(stream)
    }
    // A stream that was closed here may still be heard of.
    const stream = streams.get(id)
    if (!stream) return true
    if (type === TYPE.windowUpdate) stream.allow(length)
    else if (!stream.arrived(data)) return false
    if (flags & FLAG.rst) stream.destroy(new Error('stream reset'))
    else if (flags & FLAG.fin) stream.push(null)
    return true
  }

  let rest: Buffer = Buffer.alloc(0)
  connection.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= HEADER_BYTES) {
      const [version, type] = rest as unknown as [number, number]
      const length = rest.readUInt32BE(8)
      const dataBytes = type === TYPE.data ? length : 0
      if (version !== 0 || type > TYPE.goAway || dataBytes > WINDOW_BYTES) {
        connection.destroy()
        return
      }
      const end = HEADER_BYTES + dataBytes
      if (rest.length < end) return
      const data = rest.subarray(HEADER_BYTES, end)
      const [flags, id] = [rest.readUInt16BE(2), rest.readUInt32BE(4)]
      rest = rest.subarray(end)
      if (!take(type, flags, id, length, data)) {
        connection.destroy()
        return
      }
    }
  })
  connection.on('error', () => {})
  connection.once('close', () => {
    for (const stream of [...streams.values()]) stream.destroy()
  })

  return {
    open() {
      const id = nextId
      nextId += 2
      const stream = add(id)
      send(TYPE.windowUpdate, FLAG.syn, id, 0)
      return stream
    },
  }
}

type SendFrame = (type: number, flags: number, length: number, data?: Uint8Array) => void

class YamuxStream extends Duplex {
  readonly #send: SendFrame
  readonly #forget: () => void
  #mayStillSend = WINDOW_BYTES
  #arrived = 0
  #acknowledged = 0
  #writing: { data: Buffer; readonly done: () => void } | undefined

  constructor(send: SendFrame, forget: () => void) {
    super()
    this.#send = send
    this.#forget = forget
  }

  /** @returns false if that is more than was allowed */
  arrived(data: Buffer): boolean {
    this.#arrived += data.length
    if (this.#arrived - this.#acknowledged > WINDOW_BYTES) return false
    if (data.length > 0 && !this.destroyed) this.push(data)
    return true
  }

  allow(bytes: number): void {
    this.#mayStillSend += bytes
    this.#flush()
  }

  override _read(): void {
    const consumed = this.#arrived - this.readableLength - this.#acknowledged
    if (consumed < WINDOW_BYTES / 2) return
    this.#acknowledged += consumed
    this.#send(TYPE.windowUpdate, 0, consumed)
  }

  override _write(data: Buffer, _: BufferEncoding, done: () => void): void {
    this.#writing = { data, done }
    this.#flush()
  }

  override _final(done: () => void): void {
    this.#send(TYPE.windowUpdate, FLAG.fin, 0)
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.writableFinished) this.#send(TYPE.windowUpdate, FLAG.rst, 0)
    this.#forget()
    done(error)
  }

  #flush(): void {
    const writing = this.#writing
    if (!writing) return
    const part = writing.data.subarray(0, this.#mayStillSend)
    if (part.length > 0) this.#send(TYPE.data, 0, part.length, part)
    this.#mayStillSend -= part.length
    writing.data = writing.data.subarray(part.length)
    if (writing.data.length > 0) return
    this.#writing = undefined
    writing.done()
  }
}
