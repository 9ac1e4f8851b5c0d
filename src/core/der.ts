import { StatusError } from './error.ts'

/** Tags of the universal types used in X.509, with the constructed bit where it belongs. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

const MAX_DEPTH = 32

/** Malformed DER. Carries what was wrong for logs; callers choose what the wire says. */
export class DerError extends StatusError {
  constructor(message: string) {
    super('INVALID_ARGUMENT', message)
    this.name = 'DerError'
  }
}

// ---- Writing: elements are byte arrays, put together once, from the inside out.

/** One element: tag, minimal length, contents. */
export function element(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const header = length < 0x80 ? 2 : length < 0x100 ? 3 : length < 0x10000 ? 4 : 5
  const out = new Uint8Array(header + length)
  out[0] = tag
  if (header === 2) out[1] = length
  else {
    out[1] = 0x80 | (header - 2)
    for (let index = header - 1, rest = length; index > 1; index -= 1, rest >>>= 8) out[index] = rest & 0xff
  }
  let offset = header
  for (const part of parts) {
    out.set(part, offset)
    offset += part.length
  }
  return out
}

export function sequence(...parts: readonly Uint8Array[]): Uint8Array {
  return element(TAG.sequence, ...parts)
}

/** INTEGER of unsigned big-endian bytes: leading zeros dropped, one added where the sign bit would be set. */
export function unsignedInteger(bytes: Uint8Array): Uint8Array {
  let start = 0
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1
  const trimmed = bytes.subarray(start)
  return trimmed.length === 0 || trimmed[0]! >= 0x80
    ? element(TAG.integer, Uint8Array.of(0), trimmed)
    : element(TAG.integer, trimmed)
}

export function bitString(bytes: Uint8Array, unusedBits = 0): Uint8Array {
  return element(TAG.bitString, Uint8Array.of(unusedBits), bytes)
}

export function octetString(bytes: Uint8Array): Uint8Array {
  return element(TAG.octetString, bytes)
}

/** OBJECT IDENTIFIER from dotted text that is known to be good. */
export function oid(dotted: string): Uint8Array {
  const arcs = dotted.split('.').map(Number)
  const bytes: number[] = [arcs[0]! * 40 + arcs[1]!]
  for (const arc of arcs.slice(2)) {
    const septets = [arc & 0x7f]
    for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128))
      septets.unshift((rest & 0x7f) | 0x80)
    bytes.push(...septets)
  }
  return element(TAG.oid, Uint8Array.from(bytes))
}

const encoder = new TextEncoder()

export function utf8(text: string): Uint8Array {
  return encoder.encode(text)
}

/**
 * Time as RFC 5280 4.1.2.5 wants it: UTCTime before 2050, GeneralizedTime from then on.
 * @throws DerError if the year does not fit into four digits
 */
export function time(epochSeconds: number): Uint8Array {
  const moment = new Date(epochSeconds * 1000)
  const year = moment.getUTCFullYear()
  if (!(year >= 0 && year <= 9999)) throw new DerError('DER time cannot be represented')
  const short = year >= 1950 && year < 2050
  const out = new Uint8Array(short ? 15 : 17)
  out[0] = short ? TAG.utcTime : TAG.generalizedTime
  out[1] = out.length - 2
  if (!short) twoDigits(out, 2, Math.floor(year / 100))
  const offset = short ? 2 : 4
  twoDigits(out, offset, year % 100)
  twoDigits(out, offset + 2, moment.getUTCMonth() + 1)
  twoDigits(out, offset + 4, moment.getUTCDate())
  twoDigits(out, offset + 6, moment.getUTCHours())
  twoDigits(out, offset + 8, moment.getUTCMinutes())
  twoDigits(out, offset + 10, moment.getUTCSeconds())
  out[offset + 12] = 0x5a
  return out
}

function twoDigits(out: Uint8Array, offset: number, value: number): void {
  out[offset] = 0x30 + Math.floor(value / 10)
  out[offset + 1] = 0x30 + (value % 10)
}

/** Joins byte arrays. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const out = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    out.set(part, offset)
    offset += part.length
  }
  return out
}

// ---- Reading: views into the input, nothing copied.

/** A parsed element. `raw` is the whole encoding, `contents` what is inside; both are views. */
export interface DerElement {
  readonly tag: number
  readonly raw: Uint8Array
  readonly contents: Uint8Array
}

/** Reads elements one after the other. Only definite, minimal lengths are taken. */
export class DerReader {
  readonly #bytes: Uint8Array
  readonly #depth: number
  #offset = 0

  constructor(bytes: Uint8Array, depth = 0) {
    if (depth > MAX_DEPTH) throw new DerError('DER is nested too deeply')
    this.#bytes = bytes
    this.#depth = depth
  }

  get done(): boolean {
    return this.#offset >= this.#bytes.length
  }

  /** The tag of the next element, undefined at the end. */
  get nextTag(): number | undefined {
    return this.#bytes[this.#offset]
  }

  next(): DerElement {
    const bytes = this.#bytes
    const start = this.#offset
    const tag = bytes[start]
    const first = bytes[start + 1]
    if (tag === undefined || first === undefined) throw new DerError('DER is truncated')
    if ((tag & 0x1f) === 0x1f) throw new DerError('DER has a tag of several bytes')
    let offset = start + 2
    let length = first
    if (first >= 0x80) {
      const count = first & 0x7f
      if (count === 0 || count > 4) throw new DerError('DER length is indefinite or too large')
      length = 0
      for (let index = 0; index < count; index += 1) {
        const byte = bytes[offset]
        if (byte === undefined) throw new DerError('DER is truncated')
        length = length * 256 + byte
        offset += 1
      }
      if (length < 0x80 || length < 256 ** (count - 1)) throw new DerError('DER length is not minimal')
    }
    const end = offset + length
    if (end > bytes.length) throw new DerError('DER is truncated')
    this.#offset = end
    return { tag, raw: bytes.subarray(start, end), contents: bytes.subarray(offset, end) }
  }

  /** The next element, which must have this tag. */
  expect(tag: number): DerElement {
    const found = this.next()
    if (found.tag !== tag)
      throw new DerError(`DER tag 0x${found.tag.toString(16)} where 0x${tag.toString(16)} is expected`)
    return found
  }

  /** The next element if it has this tag. */
  optional(tag: number): DerElement | undefined {
    return this.nextTag === tag ? this.next() : undefined
  }

  /** A reader of what is inside an element. */
  into(parent: DerElement): DerReader {
    return new DerReader(parent.contents, this.#depth + 1)
  }

  /** A reader of what is inside the next element, which must have this tag. */
  enter(tag: number): DerReader {
    return this.into(this.expect(tag))
  }

  /** Nothing may follow. */
  end(): void {
    if (!this.done) throw new DerError('DER has trailing data')
  }
}

/** The contents of an INTEGER, checked to be minimal. */
export function readInteger(found: DerElement): Uint8Array {
  const { contents } = found
  if (found.tag !== TAG.integer || contents.length === 0) throw new DerError('DER integer is empty')
  const [first, second] = contents
  if (contents.length > 1 && ((first === 0 && second! < 0x80) || (first === 0xff && second! >= 0x80))) {
    throw new DerError('DER integer is not minimal')
  }
  return contents
}

/** A small non-negative INTEGER. */
export function readSmallInteger(found: DerElement): number {
  const contents = readInteger(found)
  if (contents.length > 4 || contents[0]! >= 0x80) throw new DerError('DER integer is out of range')
  return contents.reduce((value, byte) => value * 256 + byte, 0)
}

/** The bytes of a BIT STRING that has no unused bits. */
export function readBitString(found: DerElement): Uint8Array {
  const { bytes, unusedBits } = readBits(found)
  if (unusedBits !== 0) throw new DerError('DER bit string has unused bits')
  return bytes
}

/** A BIT STRING of flags. */
export function readBits(found: DerElement): { readonly bytes: Uint8Array; readonly unusedBits: number } {
  if (found.tag !== TAG.bitString) throw new DerError('DER bit string is expected')
  const unusedBits = found.contents[0]
  const bytes = found.contents.subarray(1)
  if (unusedBits === undefined || unusedBits > 7 || (unusedBits > 0 && bytes.length === 0)) {
    throw new DerError('DER bit string is malformed')
  }
  if (unusedBits > 0 && (bytes[bytes.length - 1]! & ((1 << unusedBits) - 1)) !== 0) {
    throw new DerError('DER bit string is not padded with zeros')
  }
  return { bytes, unusedBits }
}

export function readBoolean(found: DerElement): boolean {
  const value = found.contents[0]
  if (found.tag !== TAG.boolean || found.contents.length !== 1 || (value !== 0 && value !== 0xff)) {
    throw new DerError('DER boolean is malformed')
  }
  return value === 0xff
}

/** Dotted text of an OBJECT IDENTIFIER. */
export function readOid(found: DerElement): string {
  const { contents } = found
  if (found.tag !== TAG.oid || contents.length === 0 || contents.length > 64) throw new DerError('DER OID is malformed')
  const arcs: number[] = []
  let arc = 0
  for (let index = 0; index < contents.length; index += 1) {
    const byte = contents[index]!
    if (arc === 0 && byte === 0x80) throw new DerError('DER OID is not minimal')
    arc = arc * 128 + (byte & 0x7f)
    if (arc > Number.MAX_SAFE_INTEGER) throw new DerError('DER OID arc is too large')
    if (byte >= 0x80) {
      if (index === contents.length - 1) throw new DerError('DER OID is truncated')
      continue
    }
    if (arcs.length === 0) {
      const first = Math.min(2, Math.floor(arc / 40))
      arcs.push(first, arc - first * 40)
    } else arcs.push(arc)
    arc = 0
  }
  return arcs.join('.')
}

const UTC_TIME = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
const GENERALIZED_TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/

/** UTCTime or GeneralizedTime in whole Unix seconds. */
export function readTime(found: DerElement): number {
  const text = String.fromCharCode(...found.contents.subarray(0, 20))
  const match = (
    found.tag === TAG.utcTime ? UTC_TIME : found.tag === TAG.generalizedTime ? GENERALIZED_TIME : /^$/
  ).exec(text)
  if (!match || found.contents.length > 20) throw new DerError('DER time is malformed')
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const fullYear = found.tag === TAG.generalizedTime ? year : year < 50 ? 2000 + year : 1900 + year
  const moment = new Date(0)
  moment.setUTCFullYear(fullYear, month - 1, day)
  moment.setUTCHours(hour, minute, second)
  if (moment.getUTCMonth() !== month - 1 || moment.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) {
    throw new DerError('DER time is out of range')
  }
  return moment.getTime() / 1000
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text of a UTF8String, PrintableString or IA5String. */
export function readText(found: DerElement): string {
  if (found.tag !== TAG.utf8String && found.tag !== TAG.printableString && found.tag !== TAG.ia5String) {
    throw new DerError('DER string type is not supported')
  }
  if (found.tag !== TAG.utf8String && found.contents.some((byte) => byte > 0x7f))
    throw new DerError('DER string is not ASCII')
  try {
    return strictUtf8.decode(found.contents)
  } catch {
    throw new DerError('DER string is not UTF-8')
  }
}

/** True if two byte arrays are equal; not for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let index = 0; index < a.length; index += 1) if (a[index] !== b[index]) return false
  return true
}

/** Lower-case hex. */
export function hex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += HEX[byte]
  return text
}

const HEX = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, '0'))
