const PREFIX_BYTES = 5
const NOTHING = new Uint8Array(0)

export interface PrefixedMessage {
  readonly flags: number
  readonly message: Uint8Array
}

/**
 * Takes a body apart into messages that each have a byte of flags and a big-endian length before them, as gRPC and Connect write them,
 * whatever the sizes of the pieces that it comes in. Memory is at most twice what has arrived, never what a prefix promises. A message
 * that lies in one piece is a view of that piece, not a copy.
 */
export class PrefixedMessages {
  readonly #check: (flags: number, length: number) => void
  #bytes: Uint8Array = NOTHING
  /** Where the unread part begins and ends. */
  #start = 0
  #end = 0
  /** True where there may be room behind the unread part. */
  #own = false

  /** @param check throws for a prefix that is not taken; it may be asked more than once for a message */
  constructor(check: (flags: number, length: number) => void) {
    this.#check = check
  }

  /** Keeps a piece; `next` then gives the messages it completed. The piece must not be changed afterwards. */
  push(piece: Uint8Array): void {
    const unread = this.#end - this.#start
    if (unread === 0) {
      this.#bytes = piece
      this.#start = 0
      this.#end = piece.length
      this.#own = false
      return
    }
    if (!this.#own || this.#end + piece.length > this.#bytes.length) {
      // What was given out lies in the former bytes, so these are left alone.
      const larger = new Uint8Array(Math.max(unread + piece.length, 2 * unread))
      larger.set(this.#bytes.subarray(this.#start, this.#end))
      this.#bytes = larger
      this.#start = 0
      this.#end = unread
      this.#own = true
    }
    this.#bytes.set(piece, this.#end)
    this.#end += piece.length
  }

  /** The next whole message, or undefined until more is pushed. */
  next(): PrefixedMessage | undefined {
    const bytes = this.#bytes
    const start = this.#start
    if (this.#end - start < PREFIX_BYTES) return undefined
    const flags = bytes[start]!
    const length =
      bytes[start + 1]! * 0x1000000 + ((bytes[start + 2]! << 16) | (bytes[start + 3]! << 8) | bytes[start + 4]!)
    this.#check(flags, length)
    const end = start + PREFIX_BYTES + length
    if (this.#end < end) return undefined
    if (end === this.#end) {
      this.#bytes = NOTHING
      this.#start = 0
      this.#end = 0
    } else this.#start = end
    return { flags, message: bytes.subarray(start + PREFIX_BYTES, end) }
  }

  /** Bytes that have come and are part of no whole message yet. */
  get unreadBytes(): number {
    return this.#end - this.#start
  }
}
