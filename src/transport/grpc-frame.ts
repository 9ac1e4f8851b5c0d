import { StatusError } from '../core/error.ts'
import { PrefixedMessages } from './prefixed-messages.ts'

/** SPIRE's (grpc-go's) default for one received message, bytes. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

/** One of flags, four of length. */
export const PREFIX_BYTES = 5
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
  /** Longest message accepted, bytes, compressed or not; default 4 MiB. */
  readonly maxMessageBytes?: number
  /** The `grpc-encoding` of the request: `gzip`, `identity`, or absent. */
  readonly encoding?: string | undefined
  /** What makes a message of one that is compressed, of no more bytes than that; absent: none is taken. @throws StatusError */
  readonly inflate?: (message: Uint8Array, maxBytes: number) => Uint8Array
}

/** Takes the body of a request apart into its messages. */
export class FrameReader {
  readonly #messages: PrefixedMessages
  readonly #maxMessageBytes: number
  readonly #inflate: FrameReaderOptions['inflate']

  constructor({ maxMessageBytes = MAX_MESSAGE_BYTES, encoding, inflate }: FrameReaderOptions = {}) {
    this.#inflate = inflate
    this.#maxMessageBytes = maxMessageBytes
    this.#messages = new PrefixedMessages((flags, length) => {
      checkFlag(flags, encoding, inflate !== undefined)
      if (length > maxMessageBytes) {
        throw new StatusError(
          'RESOURCE_EXHAUSTED',
          `grpc: received message larger than max (${length} vs. ${maxMessageBytes})`,
        )
      }
    })
  }

  /** Keeps a piece; `next` then gives the messages it completed. The piece must not be changed afterwards. */
  push(piece: Uint8Array): void {
    this.#messages.push(piece)
  }

  /**
   * The next complete message, or undefined until more is pushed.
   *
   * @throws StatusError RESOURCE_EXHAUSTED for a message over the limit, UNIMPLEMENTED or INTERNAL for one that is compressed in another
   *   way than was said, as grpc-go answers
   */
  next(): Uint8Array | undefined {
    const next = this.#messages.next()
    return next?.flags === COMPRESSED ? this.#inflate!(next.message, this.#maxMessageBytes) : next?.message
  }

  /** Bytes that have come and are part of no whole message yet; 0 between messages, where a body may end. */
  get unreadBytes(): number {
    return this.#messages.unreadBytes
  }
}

function checkFlag(flag: number, encoding: string | undefined, canInflate: boolean): void {
  if (flag === 0) return
  if (flag !== COMPRESSED) throw new StatusError('INTERNAL', `grpc: received unexpected payload format ${flag}`)
  if (encoding === undefined || encoding === '' || encoding === 'identity') {
    throw new StatusError('INTERNAL', 'grpc: compressed flag set with identity or empty encoding')
  }
  if (!canInflate || !isKnownEncoding(encoding)) throw unknownEncoding(encoding)
}

const COMPRESSED = 1

export function isKnownEncoding(encoding: string): boolean {
  return encoding === 'identity' || encoding === 'gzip'
}

/** What grpc-go answers to a `grpc-encoding` that it has no codec for. */
export function unknownEncoding(encoding: string): StatusError {
  return new StatusError('UNIMPLEMENTED', `grpc: Decompressor is not installed for grpc-encoding "${encoding}"`)
}
