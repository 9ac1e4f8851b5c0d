import { base64, fromBase64 } from '../core/base64.ts'
import { concat, utf8 } from '../core/der.ts'
import { type StatusCode, type StatusDetail, StatusError } from '../core/error.ts'
import { PrefixedMessages } from './prefixed-messages.ts'

// The Connect protocol, https://connectrpc.com/docs/protocol: unary calls and half-duplex streams of protobuf messages.

/** What our own client sends. */
export const UNARY_TYPE = 'application/proto'
export const STREAM_TYPE = 'application/connect+proto'

const HTTP_STATUS: Readonly<Record<StatusCode, number>> = {
  OK: 200,
  CANCELLED: 499,
  UNKNOWN: 500,
  INVALID_ARGUMENT: 400,
  DEADLINE_EXCEEDED: 504,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  PERMISSION_DENIED: 403,
  RESOURCE_EXHAUSTED: 429,
  FAILED_PRECONDITION: 400,
  ABORTED: 409,
  OUT_OF_RANGE: 400,
  UNIMPLEMENTED: 501,
  INTERNAL: 500,
  UNAVAILABLE: 503,
  DATA_LOSS: 500,
  UNAUTHENTICATED: 401,
}

/** Connect's name of a code: lower case, and `canceled` with one l. */
function connectCode(code: StatusCode): string {
  return code === 'CANCELLED' ? 'canceled' : code.toLowerCase()
}

const CODES = new Map((Object.keys(HTTP_STATUS) as StatusCode[]).map((code) => [connectCode(code), code]))

/** The HTTP status of an error. */
export function httpStatusOf(error: StatusError): number {
  return HTTP_STATUS[error.code]
}

interface ErrorBody {
  readonly code: string
  readonly message?: string
  readonly details?: readonly { readonly type: string; readonly value: string }[]
}

function errorBody(error: StatusError): ErrorBody {
  return {
    code: connectCode(error.code),
    message: error.message,
    ...(error.details.length > 0
      ? {
          details: error.details.map(({ typeUrl, value }) => ({
            type: typeUrl.replace(/^.*\//, ''),
            value: base64(value).replace(/=+$/, ''),
          })),
        }
      : {}),
  }
}

/** An error as the body of a unary answer. */
export function encodeError(error: StatusError): Uint8Array {
  return utf8(JSON.stringify(errorBody(error)))
}

/** Reads the error of a unary answer; an answer of something in between becomes an error of its HTTP status. */
export function decodeError(status: number, body: Uint8Array): StatusError {
  try {
    return errorOf(JSON.parse(new TextDecoder().decode(body)) as ErrorBody)
  } catch {
    // Not from a Connect server: a proxy or another service answered.
    const code =
      status === 404 || status === 405
        ? 'UNIMPLEMENTED'
        : status === 401
          ? 'UNAUTHENTICATED'
          : status === 403
            ? 'PERMISSION_DENIED'
            : 'UNAVAILABLE'
    return new StatusError(code, `unexpected HTTP status ${status}`)
  }
}

function errorOf(body: ErrorBody): StatusError {
  const code = CODES.get(body.code)
  if (code === undefined) throw new Error('no Connect error')
  const details: StatusDetail[] = (Array.isArray(body.details) ? body.details : []).map(({ type, value }) => ({
    typeUrl: `type.googleapis.com/${type}`,
    value: fromBase64(value.padEnd(Math.ceil(value.length / 4) * 4, '=')),
  }))
  return new StatusError(code, body.message ?? '', { details })
}

const COMPRESSED = 1
const END = 2

/** One message of a stream: flags, length, bytes. */
export function envelope(bytes: Uint8Array, flags = 0): Uint8Array {
  const head = new Uint8Array(5)
  head[0] = flags
  new DataView(head.buffer).setUint32(1, bytes.length)
  return concat([head, bytes])
}

/** The last message of a stream: empty, or its error. */
export function endEnvelope(error?: StatusError): Uint8Array {
  return envelope(utf8(JSON.stringify(error ? { error: errorBody(error) } : {})), END)
}

/** More than any stream of ours sends: SyncAuthorizedEntries asks for its entries in pages. */
const MAX_ENVELOPES = 1024

/**
 * Reads the messages of a request body.
 * @throws StatusError INVALID_ARGUMENT, UNIMPLEMENTED for compressed ones, RESOURCE_EXHAUSTED for too many
 */
export function readEnvelopes(body: Uint8Array): Uint8Array[] {
  const messages: Uint8Array[] = []
  const view = new DataView(body.buffer, body.byteOffset, body.length)
  for (let offset = 0; offset < body.length; ) {
    if (messages.length === MAX_ENVELOPES) {
      throw new StatusError('RESOURCE_EXHAUSTED', `protocol error: more than ${MAX_ENVELOPES} messages`)
    }
    if (body.length - offset < 5) throw new StatusError('INVALID_ARGUMENT', 'protocol error: incomplete envelope')
    const flags = body[offset]!
    const length = view.getUint32(offset + 1)
    if (length > body.length - offset - 5)
      throw new StatusError('INVALID_ARGUMENT', 'protocol error: incomplete envelope')
    if (flags === COMPRESSED) throw new StatusError('UNIMPLEMENTED', 'compressed messages are not supported')
    if (flags !== 0) throw new StatusError('INVALID_ARGUMENT', `protocol error: envelope with flags ${flags}`)
    messages.push(body.subarray(offset + 5, offset + 5 + length))
    offset += 5 + length
  }
  return messages
}

/**
 * Reads the messages of an answer as they come; ends with the end message.
 * @throws StatusError the error of the end message, UNAVAILABLE if the answer breaks off
 */
export async function* readStream(
  chunks: AsyncIterable<Uint8Array>,
  maxMessageBytes: number,
): AsyncGenerator<Uint8Array> {
  const reader = new PrefixedMessages((_, length) => {
    if (length > maxMessageBytes)
      throw new StatusError('RESOURCE_EXHAUSTED', `received message larger than max (${length} vs. ${maxMessageBytes})`)
  })
  for await (const chunk of chunks) {
    reader.push(chunk)
    for (let next = reader.next(); next !== undefined; next = reader.next()) {
      const { flags, message } = next
      if (flags & END) {
        const { error } = JSON.parse(new TextDecoder().decode(message)) as { error?: ErrorBody }
        if (error) throw errorOf(error)
        return
      }
      yield message
    }
  }
  throw new StatusError('UNAVAILABLE', 'the stream ended before its end message')
}
