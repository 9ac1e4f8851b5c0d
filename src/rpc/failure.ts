import { errorMessage, type StatusCode, StatusError, wrapError } from '../core/error.ts'
import type { Log } from '../core/log.ts'

/**
 * Logs a failure as SPIRE does and returns what the caller gets to see: `<message>: <inner>`. NOT_FOUND neither logs nor
 * sends the inner error.
 */
export function failure(log: Log, code: StatusCode, message: string, inner?: unknown): StatusError {
  const fields = inner === undefined || code === 'NOT_FOUND' ? undefined : { error: errorMessage(inner) }
  log.error(code === 'INVALID_ARGUMENT' ? `Invalid argument: ${message}` : capitalise(message), fields)
  return inner === undefined ? new StatusError(code, message) : wrapError(code, message, inner)
}

function capitalise(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
