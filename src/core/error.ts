/** gRPC status codes by their canonical names; the numbers are those of the wire. */
export const STATUS_CODES = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const

export type StatusCode = keyof typeof STATUS_CODES

/** One `google.rpc.Status` detail: an Any of type URL and encoded message. */
export interface StatusDetail {
  readonly typeUrl: string
  readonly value: Uint8Array
}

export interface StatusErrorOptions {
  readonly cause?: unknown
  readonly details?: readonly StatusDetail[]
}

/**
 * A failure that a caller can act on. Code and message go over the wire as they are, so the message never holds a
 * secret. Any other error that reaches a transport is a bug and leaves as INTERNAL or UNKNOWN without its text.
 */
export class StatusError extends Error {
  readonly code: StatusCode
  readonly details: readonly StatusDetail[]

  constructor(code: StatusCode, message: string, options: StatusErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'StatusError'
    this.code = code
    this.details = options.details ?? []
  }
}

/**
 * Puts a message in front of an error, as SPIRE composes its wire messages (`<message>: <inner>`).
 * NOT_FOUND drops the inner text. The inner error becomes the cause.
 */
export function wrapError(code: StatusCode, message: string, inner: unknown): StatusError {
  const text = code === 'NOT_FOUND' ? message : `${message}: ${errorMessage(inner)}`
  const details = inner instanceof StatusError ? inner.details : []
  return new StatusError(code, text, { cause: inner, details })
}

/** The text of anything that can be thrown; failures of files read as Go's, `open /x: no such file or directory`. Never throws. */
export function errorMessage(error: unknown): string {
  if (!(error instanceof Error)) return textOf(error)
  const { code, syscall, path } = error as { code?: unknown; syscall?: unknown; path?: unknown }
  const reason = typeof code === 'string' && Object.hasOwn(FILE_REASONS, code) ? FILE_REASONS[code] : undefined
  if (reason === undefined || typeof path !== 'string') return error.message
  return `${syscall} ${path}: ${reason}`
}

/** An object may have no text, or a text that throws. */
function textOf(thrown: unknown): string {
  try {
    return String(thrown)
  } catch {
    return typeof thrown
  }
}

/** What Go says where Node has a code. */
export const FILE_REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EISDIR: 'is a directory',
  ENOTDIR: 'not a directory',
  EEXIST: 'file exists',
  EROFS: 'read-only file system',
  ENOSPC: 'no space left on device',
}
