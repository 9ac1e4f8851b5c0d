import { errorMessage, StatusError } from '../core/error.ts'
import type { LogFields } from '../core/log.ts'
import { codeName } from './status-text.ts'

/** The fields that say how an audited call or item ended, as SPIRE names them. */
export function auditOutcome(error?: Error): LogFields {
  if (error === undefined) return { type: 'audit', status: 'success' }
  const code = error instanceof StatusError ? error.code : 'UNKNOWN'
  return { type: 'audit', status: 'error', status_code: codeName(code), status_message: errorMessage(error) }
}
