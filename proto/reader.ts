/** Go's texts, which clients of SPIRE know. */
const MALFORMED = 'proto: cannot parse invalid wire-format data'
const NOT_UTF8 = 'string field contains invalid UTF-8'

/** How deep messages may lie in each other; all but google.protobuf.Struct are bounded by their schema. */
const DEEPEST_MESSAGE = 100
/** How deep groups, of which we know none, may lie in each other: Go's limit. */
const DEEPEST_GROUP = 10_000
/** Strings up to this many bytes are read without TextDecoder if they are ASCII. */
const SHORT_STRING = 64

/** The default of all fields of type bytes. */
export const NO_BYTES = new Uint8Array(0)

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Reads the wire format for the generated code, and takes what protobuf for Go takes: no field zero, no end of a group that did not begin,
 * no varint of more than 64 bits, no field that is longer than the message around it, no string that is not UTF-8.
 * Integers beyond 2^53 are refused besides, as are messages that are nested deeper than 100.
 *
 * Fields of type bytes are views of what is read: nobody may write to it afterwards. They are plain Uint8Arrays even of a Buffer, whose
 * `slice` would not copy.
 *
 * @throws SyntaxError with a text for the sender
 * @see https://protobuf.dev/programming-guides/encoding
 */
export class Reader {
  readonly #bytes: Uint8Array
  #at = 0
  /** Of the message that is being read. */
  #end: number
  #fieldsLeft: number
  #depthLeft = DEEPEST_MESSAGE
  /** Of the varint that was read last. */
  #low = 0
  #high = 0

  /** @param maxFields nested and unknown ones included: what a message becomes in memory is bounded by them; default no bound of its own */
  constructor(bytes: Uint8Array, maxFields = 0x3fffffff) {
    this.#bytes =
      bytes.constructor === Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#end = bytes.length
    this.#fieldsLeft = maxFields
  }

  static of(input: Reader | Uint8Array): Reader {
    return input instanceof Reader ? input : new Reader(input)
  }

  /** Number and wire type of the next field; 0 at the end of the message. */
  tag(): number {
    if (this.#at === this.#end) return 0
    return this.#tag()
  }

  /**
   * A message inside of the one that is being read.
   * @param into what came of it before: the same field may come in pieces
   */
  message<T>(type: { decode(reader: Reader, into?: T): T }, into?: T): T {
    const length = this.#length()
    const outerEnd = this.#end
    this.#end = this.#at + length
    if (--this.#depthLeft < 0) throw new SyntaxError('proto: message is nested too deeply')
    const message = type.decode(this, into)
    this.#depthLeft++
    this.#end = outerEnd
    return message
  }

  string(): string {
    const length = this.#length()
    const start = this.#at
    const end = start + length
    const bytes = this.#bytes
    this.#at = end
    if (length <= SHORT_STRING) {
      const codes = new Array<number>(length)
      let all = 0
      for (let index = 0; index < length; index++) {
        const code = bytes[start + index]!
        codes[index] = code
        all |= code
      }
      if (all < 0x80) return String.fromCharCode.apply(String, codes)
    }
    try {
      return utf8.decode(bytes.subarray(start, end))
    } catch {
      throw new SyntaxError(NOT_UTF8)
    }
  }

  bytes(): Uint8Array {
    const length = this.#length()
    const start = this.#at
    this.#at = start + length
    return this.#bytes.subarray(start, this.#at)
  }

  bool(): boolean {
    this.#varint()
    return this.#low !== 0 || this.#high !== 0
  }

  /** Enums as well. Of a longer number the lowest 32 bits count, as everywhere. */
  int32(): number {
    this.#varint()
    return this.#low
  }

  uint32(): number {
    this.#varint()
    return this.#low >>> 0
  }

  int64(): number {
    this.#varint()
    return safeInteger(this.#high, this.#low)
  }

  uint64(): number {
    this.#varint()
    return safeInteger(this.#high >>> 0, this.#low)
  }

  float(): number {
    return this.#fixed(4).getFloat32(0, true)
  }

  double(): number {
    return this.#fixed(8).getFloat64(0, true)
  }

  /** Leaves out a field that is not known, or known with another wire type. */
  skip(tag: number): void {
    const groups: number[] = []
    for (let next = tag; ; next = this.#tag()) {
      const number = next >>> 3
      switch (next & 7) {
        case 0:
          this.#varint()
          break
        case 1:
          this.#advance(8)
          break
        case 2:
          this.#advance(this.#length())
          break
        case 3:
          if (groups.push(number) > DEEPEST_GROUP) throw new SyntaxError(MALFORMED)
          break
        case 4:
          if (groups.pop() !== number) throw new SyntaxError(MALFORMED)
          break
        case 5:
          this.#advance(4)
          break
        default:
          throw new SyntaxError(MALFORMED)
      }
      if (groups.length === 0) return
    }
  }

  #tag(): number {
    if (--this.#fieldsLeft < 0) throw new SyntaxError('proto: message has too many fields')
    const first = this.#at < this.#end ? this.#bytes[this.#at]! : 0
    if (first < 0x80) {
      if (first < 8) throw new SyntaxError(MALFORMED)
      this.#at++
      return first
    }
    this.#varint()
    const tag = this.#low >>> 0
    if (this.#high !== 0 || tag < 8) throw new SyntaxError(MALFORMED)
    return tag
  }

  /** Of what follows, which is there in full. */
  #length(): number {
    this.#varint()
    const length = this.#low >>> 0
    if (this.#high !== 0 || length > this.#end - this.#at) throw new SyntaxError(MALFORMED)
    return length
  }

  #varint(): void {
    const bytes = this.#bytes
    const end = this.#end
    let at = this.#at
    let low = 0
    let high = 0
    for (let shift = 0; at < end; shift += 7) {
      const byte = bytes[at++]!
      const bits = byte & 0x7f
      if (shift < 28) low |= bits << shift
      else if (shift > 28) high |= bits << (shift - 32)
      else {
        low |= bits << 28
        high = bits >> 4
      }
      // The tenth byte has the last bit of 64.
      if (shift === 63 && byte > 1) break
      if (byte < 0x80) {
        this.#at = at
        this.#low = low
        this.#high = high
        return
      }
    }
    throw new SyntaxError(MALFORMED)
  }

  #fixed(length: number): DataView {
    const start = this.#at
    this.#advance(length)
    return new DataView(this.#bytes.buffer, this.#bytes.byteOffset + start, length)
  }

  #advance(length: number): void {
    if (length > this.#end - this.#at) throw new SyntaxError(MALFORMED)
    this.#at += length
  }
}

function safeInteger(high: number, low: number): number {
  const value = high * 0x100000000 + (low >>> 0)
  if (!Number.isSafeInteger(value)) throw new SyntaxError('proto: integer is beyond 2^53')
  return value
}
