import { STATUS_CODES, type StatusCode, type StatusDetail, StatusError } from '../core/error.ts'

const CODES = Object.keys(STATUS_CODES) as StatusCode[]

/** The name of a wire number; numbers outside the table are UNKNOWN, as the specification asks. */
export function statusCodeOf(number: number): StatusCode {
  return CODES[number] ?? 'UNKNOWN'
}

/** A StatusError stays what it is; anything else is a bug and its text stays here. */
export function toStatusError(error: unknown): StatusError {
  return error instanceof StatusError ? error : new StatusError('INTERNAL', 'internal error', { cause: error })
}

/** Trailers of a failed call: `grpc-status`, `grpc-message` and, with details, `grpc-status-details-bin`. */
export function statusTrailers(error: StatusError): Record<string, string> {
  const trailers: Record<string, string> = { 'grpc-status': String(STATUS_CODES[error.code]) }
  if (error.message !== '') trailers['grpc-message'] = encodeGrpcMessage(error.message)
  if (error.details.length > 0) trailers['grpc-status-details-bin'] = base64WithoutPadding(encodeStatus(error))
  return trailers
}

/** Percent-encodes everything outside printable ASCII, and `%` itself (gRPC over HTTP/2, Status-Message). */
export function encodeGrpcMessage(message: string): string {
  // Header values are Latin-1 on the way out, so whatever leaves here is ASCII only.
  if (/^[ -$&-~]*$/.test(message)) return message
  let encoded = ''
  for (const byte of Buffer.from(message, 'utf8')) {
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return encoded
}

/**
 * Reads a `grpc-timeout`: up to eight digits and one of H M S m u n.
 *
 * @returns milliseconds, a fraction for small units; undefined if malformed
 */
export function parseGrpcTimeout(value: string): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(value)
  if (match === null) return undefined
  return Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS]
}

const UNIT_MS = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 } as const

/** Encodes google.rpc.Status: code 1, message 2, details 3 (each an Any: type_url 1, value 2). */
export function encodeStatus(status: {
  readonly code: StatusCode
  readonly message: string
  readonly details: readonly StatusDetail[]
}): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(0x08), varint(STATUS_CODES[status.code])]
  field(parts, 0x12, Buffer.from(status.message, 'utf8'))
  for (const detail of status.details) {
    const any: Uint8Array[] = []
    field(any, 0x0a, Buffer.from(detail.typeUrl, 'utf8'))
    field(any, 0x12, detail.value)
    field(parts, 0x1a, Buffer.concat(any))
  }
  return Buffer.concat(parts)
}

/** Reads the details out of a google.rpc.Status; malformed bytes give none, since the code and message came separately. */
export function decodeStatusDetails(bytes: Uint8Array): StatusDetail[] {
  const details: StatusDetail[] = []
  try {
    for (const [tag, value] of fields(bytes)) {
      if (tag !== 0x1a) continue
      let typeUrl = ''
      let inner: Uint8Array = new Uint8Array(0)
      for (const [innerTag, innerValue] of fields(value)) {
        if (innerTag === 0x0a) typeUrl = Buffer.from(innerValue).toString('utf8')
        else if (innerTag === 0x12) inner = innerValue
      }
      details.push({ typeUrl, value: inner })
    }
  } catch (error) {
    if (error instanceof RangeError) return []
    throw error
  }
  return details
}

function base64WithoutPadding(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '')
}

function varint(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  bytes.push(rest)
  return Uint8Array.from(bytes)
}

function field(parts: Uint8Array[], tag: number, value: Uint8Array): void {
  parts.push(Uint8Array.of(tag), varint(value.length), value)
}

/** Tag and bytes of each field; varint fields come with no bytes. */
function* fields(bytes: Uint8Array): Generator<[number, Uint8Array]> {
  let position = 0
  const read = (): number => {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = bytes[position++]
      if (byte === undefined) throw new RangeError('truncated status')
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new RangeError('malformed status')
  }
  while (position < bytes.length) {
    const tag = read()
    const wireType = tag & 7
    if (wireType === 0) {
      read()
      yield [tag, new Uint8Array(0)]
    } else if (wireType === 2) {
      const length = read()
      if (length > bytes.length - position) throw new RangeError('truncated status')
      yield [tag, bytes.subarray(position, position + length)]
      position += length
    } else throw new RangeError('unexpected wire type')
  }
}
