import { StatusError } from '../core/error.ts'

/** SPIRE's (grpc-go's) default for one received message, bytes. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

const PREFIX_BYTES = 5
/** Messages from here on keep their frame: the large ones are made once and sent many times. */
const KEPT_FRAME_BYTES = 4096
const keptFrames = new WeakMap<Uint8Array, Buffer>()

/**
 * Puts the five-byte prefix (flag 0, big-endian length) before a message, in one buffer that can be sent at once. A large message that
 * is sent again goes out in the frame it had: a copy each time is garbage outside the heap, and the collector's work is then most of
 * what sending costs. Neither may be changed afterwards.
 */
export function frameMessage(message: Uint8Array): Buffer {
  if (message.length < KEPT_FRAME_BYTES) return newFrame(message)
  let frame = keptFrames.get(message)
  if (frame === undefined) {
    frame = newFrame(message)
    keptFrames.set(message, frame)
  }
  return frame
}

function newFrame(message: Uint8Array): Buffer {
  const length = message.length
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + length)
  frame[0] = 0
  frame[1] = length >>> 24
  frame[2] = length >>> 16
  frame[3] = length >>> 8
  frame[4] = length
  frame.set(message, PREFIX_BYTES)
  return frame
}

export interface FrameReaderOptions {
  /** Longest message accepted, bytes; default 4 MiB. */
  readonly maxMessageBytes?: number
  /** The `grpc-encoding` of the request; only used in the error for a compressed message. */
  readonly encoding?: string | undefined
}

/**
 * Takes a body apart into messages, whatever the sizes of its pieces. Memory grows with what has arrived, never with what a
 * prefix promises. A message that lies in one piece is a view of that piece, not a copy.
 */
export class FrameReader {
  readonly #maxMessageBytes: number
  readonly #encoding: string | undefined
  #pieces: Uint8Array[] = []
  #bufferedBytes = 0
  /** Length of the message being read, -1 before its prefix is complete. */
  #expectedBytes = -1

  constructor(options: FrameReaderOptions = {}) {
    this.#maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES
    this.#encoding = options.encoding
  }

  /** Keeps a piece; `next` then gives the messages it completed. The piece must not be changed afterwards. */
  push(piece: Uint8Array): void {
    if (piece.length === 0) return
    this.#pieces.push(piece)
    this.#bufferedBytes += piece.length
  }

  /**
   * The next complete message, or undefined until more is pushed.
   *
   * @throws StatusError RESOURCE_EXHAUSTED for a message over the limit, UNIMPLEMENTED or INTERNAL for a compressed one, as
   *   grpc-go answers
   */
  next(): Uint8Array | undefined {
    if (this.#expectedBytes < 0) {
      if (this.#bufferedBytes < PREFIX_BYTES) return undefined
      const prefix = this.#take(PREFIX_BYTES)
      this.#checkFlag(prefix[0]!)
      const length = prefix[1]! * 0x1000000 + ((prefix[2]! << 16) | (prefix[3]! << 8) | prefix[4]!)
      if (length > this.#maxMessageBytes) {
        throw new StatusError(
          'RESOURCE_EXHAUSTED',
          `grpc: received message larger than max (${length} vs. ${this.#maxMessageBytes})`,
        )
      }
      this.#expectedBytes = length
    }
    if (this.#bufferedBytes < this.#expectedBytes) return undefined
    const message = this.#take(this.#expectedBytes)
    this.#expectedBytes = -1
    return message
  }

  /** True between messages: where a body may end. */
  get atBoundary(): boolean {
    return this.#expectedBytes < 0 && this.#bufferedBytes === 0
  }

  #checkFlag(flag: number): void {
    if (flag === 0) return
    if (flag !== 1) throw new StatusError('INTERNAL', `grpc: received unexpected payload format ${flag}`)
    if (this.#encoding === undefined || this.#encoding === '' || this.#encoding === 'identity') {
      throw new StatusError('INTERNAL', 'grpc: compressed flag set with identity or empty encoding')
    }
    throw unknownEncoding(this.#encoding)
  }

  #take(count: number): Uint8Array {
    this.#bufferedBytes -= count
    const first = this.#pieces[0]
    if (first === undefined || count === 0) return new Uint8Array(0)
    if (first.length === count) {
      this.#pieces.shift()
      return first
    }
    if (first.length > count) {
      this.#pieces[0] = first.subarray(count)
      return first.subarray(0, count)
    }
    const joined = new Uint8Array(count)
    let filled = 0
    let used = 0
    while (filled < count) {
      const piece = this.#pieces[used]!
      const missing = count - filled
      if (piece.length > missing) {
        joined.set(piece.subarray(0, missing), filled)
        this.#pieces[used] = piece.subarray(missing)
        filled = count
      } else {
        joined.set(piece, filled)
        filled += piece.length
        used++
      }
    }
    this.#pieces.splice(0, used)
    return joined
  }
}

/** What grpc-go answers to a `grpc-encoding` it has no codec for; SPIRE installs none. */
export function unknownEncoding(encoding: string): StatusError {
  return new StatusError('UNIMPLEMENTED', `grpc: Decompressor is not installed for grpc-encoding "${encoding}"`)
}
