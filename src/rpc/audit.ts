import { errorMessage, type STATUS_CODES, StatusError } from '../core/error.ts'
import type { LogFields } from '../core/log.ts'

/** The fields that say how an audited call or item ended, as SPIRE names them. */
export function auditOutcome(error?: Error): LogFields {
  if (error === undefined) return { type: 'audit', status: 'success' }
  const code = error instanceof StatusError ? error.code : 'UNKNOWN'
  return { type: 'audit', status: 'error', status_code: codeName(code), status_message: errorMessage(error) }
}

/** `InvalidArgument` for INVALID_ARGUMENT: how Go prints a status code. */
export function codeName(code: keyof typeof STATUS_CODES): string {
  if (code === 'OK') return 'OK'
  if (code === 'CANCELLED') return 'Canceled'
  return code
    .split('_')
    .map((word) => word[0] + word.slice(1).toLowerCase())
    .join('')
}
