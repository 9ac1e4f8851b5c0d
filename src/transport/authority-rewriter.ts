import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { encodeLiterals, type HeaderField, HpackDecoder } from './hpack.ts'
import { FLAGS, FRAME_HEADER_BYTES, FRAMES, type FrameHeader, PREFACE, readFrameHeader } from './http2-frame.ts'

// Clients of unix sockets write into `:authority` what they like: the path of the socket, plain or encoded, or nothing. SPIRE does not look at
// it; HTTP/2 libraries refuse what is no host name before anybody sees the request.

/** What every HTTP/2 library takes. */
const PLAIN = /^[A-Za-z0-9._:[\]-]{1,255}$/
const NEUTRAL = 'localhost'
/** Frames of this size every receiver takes. RFC 9113 6.5.2 */
const MAX_FRAME_BYTES = 16_384
/** Of one header block, as it comes. */
const MAX_BLOCK_BYTES = 64 * 1024
const MAX_CONTINUATIONS = 64

export function isPlainAuthority(fields: readonly HeaderField[]): boolean {
  const named = fields.filter(({ name }) => name === ':authority' || name === 'host')
  return named.length > 0 && named.every(({ value }) => PLAIN.test(value))
}

/** The same request, with a host name that every library takes. */
function neutral(fields: readonly HeaderField[]): readonly HeaderField[] {
  // Trailers have no pseudo-header fields.
  if (!fields.some(({ name }) => name === ':method') || isPlainAuthority(fields)) return fields
  const others = fields.filter(({ name, value }) => (name !== ':authority' && name !== 'host') || PLAIN.test(value))
  const isNamed = others.some(({ name }) => name === ':authority')
  return isNamed ? others : [{ name: ':authority', value: NEUTRAL }, ...others]
}

/**
 * What a client sends on one connection, from its first byte, with header blocks that are decoded and written again without compression. Frames of
 * other kinds go through as they come.
 */
export class AuthorityRewriter {
  readonly #decoder: HpackDecoder
  #prefaceLeft = PREFACE.length
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES)
  #headerFill = 0
  #frame: FrameHeader | undefined
  /** Of the frame, what has not come yet. */
  #left = 0
  /** Of a frame that must be whole. */
  #payload: Buffer | undefined
  #block: { readonly streamId: number; readonly flags: number; readonly pieces: Buffer[]; bytes: number } | undefined
  /** Confirmations of settings that the receiver never sent. */
  #acksToSwallow: number

  constructor(maxHeaderListBytes: number, acksToSwallow = 0) {
    this.#decoder = new HpackDecoder(maxHeaderListBytes)
    this.#acksToSwallow = acksToSwallow
  }

  /**
   * @returns what to hand on: pieces of `chunk` as they are, and header blocks that were written again
   * @throws Error for what no client may send; the connection must be ended
   */
  push(chunk: Buffer): Buffer[] {
    const out: Buffer[] = []
    let at = Math.min(this.#prefaceLeft, chunk.length)
    this.#prefaceLeft -= at
    /** Up to here all of the chunk was handed on, or kept. */
    let done = 0
    const handOn = (end: number): void => {
      if (end > done) out.push(chunk.subarray(done, end))
      done = end
    }
    while (at < chunk.length || (this.#frame !== undefined && this.#left === 0)) {
      if (this.#frame !== undefined) {
        const size = Math.min(this.#left, chunk.length - at)
        if (this.#payload !== undefined) {
          chunk.copy(this.#payload, this.#frame.length - this.#left, at, at + size)
          done = at + size
        }
        at += size
        this.#left -= size
        if (this.#left === 0) this.#end(out)
        continue
      }
      const start = at
      const early = this.#headerFill
      const size = Math.min(FRAME_HEADER_BYTES - early, chunk.length - at)
      chunk.copy(this.#header, early, at, at + size)
      at += size
      this.#headerFill += size
      const isWhole = this.#headerFill === FRAME_HEADER_BYTES
      if (isWhole && this.#begin()) {
        // What came with earlier chunks was kept until it was clear.
        if (early > 0) out.push(Buffer.from(this.#header.subarray(0, early)))
      } else {
        handOn(start)
        done = at
      }
    }
    handOn(chunk.length)
    return out
  }

  /** @returns whether the frame goes through as it comes */
  #begin(): boolean {
    const frame = readFrameHeader(this.#header, 0)
    const isBlock = frame.type === FRAMES.HEADERS || frame.type === FRAMES.CONTINUATION
    const follows = frame.type === FRAMES.CONTINUATION && frame.streamId === this.#block?.streamId
    if ((this.#block !== undefined || frame.type === FRAMES.CONTINUATION) && !follows)
      throw new Error('a header block is interrupted, or goes on without a beginning')
    if (isBlock && frame.length > MAX_FRAME_BYTES) throw new Error('a frame is too large')
    this.#frame = frame
    this.#left = frame.length
    this.#headerFill = 0
    if (isBlock) {
      this.#payload = Buffer.alloc(frame.length)
      return false
    }
    const isAck = frame.type === FRAMES.SETTINGS && (frame.flags & FLAGS.ACK) !== 0 && frame.length === 0
    if (!isAck || this.#acksToSwallow === 0) return true
    this.#acksToSwallow -= 1
    return false
  }

  #end(out: Buffer[]): void {
    const { type, flags, streamId } = this.#frame!
    const payload = this.#payload
    this.#frame = undefined
    this.#payload = undefined
    if (payload === undefined) return
    const fragment = type === FRAMES.HEADERS ? fragmentOf(payload, flags) : payload
    this.#block ??= { streamId, flags, pieces: [], bytes: 0 }
    const block = this.#block
    block.pieces.push(fragment)
    block.bytes += fragment.length
    if (block.bytes > MAX_BLOCK_BYTES || block.pieces.length > MAX_CONTINUATIONS)
      throw new Error('a header block is too long')
    if ((flags & FLAGS.END_HEADERS) === 0) return
    this.#block = undefined
    const fields = neutral(this.#decoder.decode(Buffer.concat(block.pieces)))
    out.push(...headerFrames(streamId, block.flags & FLAGS.END_STREAM, encodeLiterals(fields)))
  }
}

/** The header block in a HEADERS frame, without padding and priority. RFC 9113 6.2 */
export function fragmentOf(payload: Buffer, flags: number): Buffer {
  let start = 0
  let end = payload.length
  if (flags & FLAGS.PADDED) {
    start += 1
    end -= payload[0] ?? 0
  }
  if (flags & FLAGS.PRIORITY) start += 5
  if (start > end) throw new Error('a frame is padded by more than it holds')
  return payload.subarray(start, end)
}

function headerFrames(streamId: number, endStream: number, block: Buffer): Buffer[] {
  const frames: Buffer[] = []
  for (let offset = 0; offset === 0 || offset < block.length; offset += MAX_FRAME_BYTES) {
    const piece = block.subarray(offset, offset + MAX_FRAME_BYTES)
    const isLast = offset + MAX_FRAME_BYTES >= block.length
    const header = Buffer.alloc(FRAME_HEADER_BYTES)
    header.writeUIntBE(piece.length, 0, 3)
    header[3] = offset === 0 ? FRAMES.HEADERS : FRAMES.CONTINUATION
    header[4] = (offset === 0 ? endStream : 0) | (isLast ? FLAGS.END_HEADERS : 0)
    header.writeUInt32BE(streamId, 5)
    frames.push(header, piece)
  }
  return frames
}

/** A socket whose client sends through a rewriter. What it cannot make sense of ends the connection. */
export function rewritingStream(socket: Socket, rewriter: AuthorityRewriter, begun: readonly Buffer[]): Duplex {
  const stream = new Duplex({
    allowHalfOpen: true,
    read: () => void socket.resume(),
    write: (chunk, _, done) => void socket.write(chunk, done),
    writev: (chunks, done) => {
      socket.cork()
      for (const [index, { chunk }] of chunks.entries())
        socket.write(chunk, index === chunks.length - 1 ? done : () => {})
      socket.uncork()
    },
    final: (done) => void socket.end(done),
    destroy(error, done) {
      socket.destroy()
      done(error)
    },
  })
  const forward = (chunk: Buffer): void => {
    try {
      for (const piece of rewriter.push(chunk)) if (!stream.push(piece)) socket.pause()
    } catch {
      stream.destroy()
    }
  }
  socket.on('data', forward)
  socket.on('end', () => stream.push(null))
  socket.on('error', () => {})
  socket.on('close', () => stream.destroy())
  for (const chunk of begun) forward(chunk)
  return stream
}
