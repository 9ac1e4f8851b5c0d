import { Status } from '../../proto/google/rpc/status.ts'
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

/**
 * Percent-encodes everything outside printable ASCII, and `%` itself (gRPC over HTTP/2, Status-Message); and a blank at either end, which
 * nghttp2 takes for no header at all (RFC 9113 8.2.1).
 */
export function encodeGrpcMessage(message: string): string {
  // Header values are Latin-1 on the way out, so whatever leaves here is ASCII only.
  if (/^[ -$&-~]*$/.test(message) && !message.startsWith(' ') && !message.endsWith(' ')) return message
  let encoded = ''
  const bytes = Buffer.from(message, 'utf8')
  for (const [at, byte] of bytes.entries()) {
    const isInside = at > 0 && at < bytes.length - 1
    encoded +=
      (byte > 0x20 || (byte === 0x20 && isInside)) && byte <= 0x7e && byte !== 0x25
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

/** Encodes google.rpc.Status. */
export function encodeStatus({
  code,
  message,
  details,
}: Pick<StatusError, 'code' | 'message' | 'details'>): Uint8Array {
  return Status.encode({ code: STATUS_CODES[code], message, details: [...details] }).finish()
}

/** Reads the details out of a google.rpc.Status; malformed bytes give none, since the code and message came separately. */
export function decodeStatusDetails(bytes: Uint8Array): readonly StatusDetail[] {
  try {
    return Status.decode(bytes).details
  } catch {
    return []
  }
}

function base64WithoutPadding(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '')
}
