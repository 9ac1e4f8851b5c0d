// Header compression of HTTP/2, RFC 7541: a whole decoder, and an encoder that compresses nothing.

/** A header field; both texts hold one byte a character. */
export interface HeaderField {
  readonly name: string
  readonly value: string
}

/** A header block that is none. */
export class HpackError extends Error {}

/** Size of the dynamic table that a peer may use unless it was told otherwise, bytes. RFC 9113 6.5.2 */
const DEFAULT_TABLE_SIZE = 4096
/** What a field counts beside its texts. RFC 7541 4.1 */
const FIELD_OVERHEAD = 32
/** Longer integers are nobody's. */
const MAX_INTEGER = 2 ** 24

/** RFC 7541 appendix A, from index 1. */
const STATIC_TABLE: readonly HeaderField[] = `
:authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|:status 206
:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept
access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|content-encoding|content-language
content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|if-modified-since
if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range
referer|refresh|retry-after|server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate`
  .trim()
  .split(/[|\n]/)
  .map((line) => {
    const blank = line.indexOf(' ')
    return blank < 0 ? { name: line, value: '' } : { name: line.slice(0, blank), value: line.slice(blank + 1) }
  })

/**
 * RFC 7541 appendix B: the bytes by the length of their codes, shortest first. The code is canonical: codes of one length follow each other in
 * the order of the bytes, and those of the next length go on from there.
 */
const HUFFMAN: readonly (readonly [bits: number, symbols: readonly number[]])[] = [
  [5, [48, 49, 50, 97, 99, 101, 105, 111, 115, 116]],
  [
    6,
    [32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95, 98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117],
  ],
  [
    7,
    [
      58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113,
      118, 119, 120, 121, 122,
    ],
  ],
  [8, [38, 42, 44, 59, 88, 90]],
  [10, [33, 34, 40, 41, 63]],
  [11, [39, 43, 124]],
  [12, [35, 62]],
  [13, [0, 36, 64, 91, 93, 126]],
  [14, [94, 125]],
  [15, [60, 96, 123]],
  [19, [92, 195, 208]],
  [20, [128, 130, 131, 162, 184, 194, 224, 226]],
  [21, [153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230]],
  [
    22,
    [
      129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198,
      228, 232, 233,
    ],
  ],
  [
    23,
    [
      1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182,
      183, 188, 191, 197, 231, 239,
    ],
  ],
  [24, [9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237]],
  [25, [199, 207, 234, 235]],
  [26, [192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255]],
  [27, [203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254]],
  [
    28,
    [2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220, 249],
  ],
  [30, [10, 13, 22]],
]
const LONGEST_CODE = 30

/** By the length of a code: the first code of that length, and its bytes in order. */
const CODES: readonly ({ readonly first: number; readonly symbols: readonly number[] } | undefined)[] = (() => {
  const codes: ({ first: number; symbols: readonly number[] } | undefined)[] = []
  let next = 0
  let length = 0
  for (const [bits, symbols] of HUFFMAN) {
    next *= 2 ** (bits - length)
    length = bits
    codes[bits] = { first: next, symbols }
    next += symbols.length
  }
  return codes
})()

/** Decodes the header blocks of one connection, in their order. */
export class HpackDecoder {
  readonly #maxListBytes: number
  /** Newest first. */
  readonly #table: HeaderField[] = []
  #tableBytes = 0
  #maxTableBytes = DEFAULT_TABLE_SIZE

  /** @param maxListBytes what the fields of one block may come to, each counted with 32 bytes more */
  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes
  }

  /** @throws HpackError for a block that is malformed, or comes to more than may be; the connection cannot go on then */
  decode(block: Uint8Array): HeaderField[] {
    const reader = new Reader(block)
    const fields: HeaderField[] = []
    let bytes = 0
    while (!reader.done) {
      const first = reader.peek()
      let field: HeaderField
      if (first & 0x80) field = this.#field(reader.integer(7))
      else if (first & 0x40) {
        field = this.#literal(reader, 6)
        this.#remember(field)
      } else if (first & 0x20) {
        if (fields.length > 0) throw new HpackError('a change of the table size comes after a field')
        this.#resize(reader.integer(5))
        continue
      } else field = this.#literal(reader, 4)
      bytes += sizeOf(field)
      if (bytes > this.#maxListBytes) throw new HpackError('the header list is too long')
      fields.push(field)
    }
    return fields
  }

  #literal(reader: Reader, prefix: number): HeaderField {
    const index = reader.integer(prefix)
    const name = index === 0 ? reader.text(this.#maxListBytes) : this.#field(index).name
    return { name, value: reader.text(this.#maxListBytes) }
  }

  #field(index: number): HeaderField {
    const field = index <= STATIC_TABLE.length ? STATIC_TABLE[index - 1] : this.#table[index - STATIC_TABLE.length - 1]
    if (field === undefined) throw new HpackError(`there is no field ${index}`)
    return field
  }

  #remember(field: HeaderField): void {
    this.#table.unshift(field)
    this.#tableBytes += sizeOf(field)
    this.#evict()
  }

  #resize(bytes: number): void {
    if (bytes > DEFAULT_TABLE_SIZE) throw new HpackError('the table is larger than allowed')
    this.#maxTableBytes = bytes
    this.#evict()
  }

  #evict(): void {
    while (this.#tableBytes > this.#maxTableBytes) this.#tableBytes -= sizeOf(this.#table.pop()!)
  }
}

/** Encodes fields as literals that no table keeps, without Huffman's code. */
export function encodeLiterals(fields: readonly HeaderField[]): Buffer {
  return Buffer.concat(fields.flatMap(({ name, value }) => [NOT_INDEXED, ...encodedText(name), ...encodedText(value)]))
}

const NOT_INDEXED = Buffer.of(0)

function encodedText(text: string): readonly Buffer[] {
  const bytes = Buffer.from(text, 'latin1')
  return [encodedLength(bytes.length), bytes]
}

/** An integer with a prefix of 7 bits. RFC 7541 5.1 */
function encodedLength(length: number): Buffer {
  if (length < 0x7f) return Buffer.of(length)
  const bytes = [0x7f]
  let rest = length - 0x7f
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) + 0x80)
  return Buffer.from([...bytes, rest])
}

function sizeOf({ name, value }: HeaderField): number {
  return name.length + value.length + FIELD_OVERHEAD
}

class Reader {
  readonly #bytes: Uint8Array
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#offset >= this.#bytes.length
  }

  peek(): number {
    const byte = this.#bytes[this.#offset]
    if (byte === undefined) throw new HpackError('the block is cut short')
    return byte
  }

  /** @param prefix bits of the first byte that belong to the integer. RFC 7541 5.1 */
  integer(prefix: number): number {
    const mask = 2 ** prefix - 1
    let value = this.#byte() & mask
    if (value < mask) return value
    let byte: number
    let weight = 1
    do {
      byte = this.#byte()
      value += (byte & 0x7f) * weight
      weight *= 0x80
      if (value > MAX_INTEGER || weight > MAX_INTEGER * 0x80) throw new HpackError('an integer is too large')
    } while (byte & 0x80)
    return value
  }

  text(maxBytes: number): string {
    const isCoded = (this.peek() & 0x80) !== 0
    const length = this.integer(7)
    const end = this.#offset + length
    if (end > this.#bytes.length) throw new HpackError('a text is cut short')
    const bytes = this.#bytes.subarray(this.#offset, end)
    this.#offset = end
    const plain = isCoded ? decodeHuffman(bytes) : bytes
    if (plain.length > maxBytes) throw new HpackError('a text is too long')
    return Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength).toString('latin1')
  }

  #byte(): number {
    const byte = this.peek()
    this.#offset += 1
    return byte
  }
}

/** RFC 7541 5.2: what is left of the last byte is the beginning of the code that ends a text, and shorter than a byte. */
function decodeHuffman(coded: Uint8Array): Uint8Array {
  // The shortest code has five bits.
  const out = new Uint8Array(Math.floor((coded.length * 8) / 5))
  let length = 0
  let code = 0
  let bits = 0
  for (const byte of coded) {
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + ((byte >> bit) & 1)
      bits += 1
      const group = CODES[bits]
      if (group !== undefined && code - group.first < group.symbols.length && code >= group.first) {
        out[length++] = group.symbols[code - group.first]!
        code = 0
        bits = 0
      } else if (bits >= LONGEST_CODE) throw new HpackError('a text holds the code that ends it')
    }
  }
  if (bits > 7 || code !== 2 ** bits - 1) throw new HpackError('a text is padded wrongly')
  return out.subarray(0, length)
}
