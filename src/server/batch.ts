import type { Status } from '../../proto/spire/api/types.ts'
import { STATUS_CODES, StatusError } from '../core/error.ts'
import type { AuditFields, Call } from '../rpc/method.ts'

/** The status of a batch item that went well. */
export const OK: Status = { code: 0, message: 'OK' }

/** A failure as the status of a batch item. */
export function statusOf(error: StatusError): Status {
  return { code: STATUS_CODES[error.code], message: error.message }
}

/**
 * Runs one item of a batch call and writes its audit line. A StatusError becomes the item's status; anything else is a bug
 * and ends the call.
 */
export async function runItem<T>(
  call: Call,
  fields: () => AuditFields,
  run: () => Promise<T>,
): Promise<{ readonly status: Status; readonly value?: T }> {
  try {
    const value = await run()
    if (call.audited) call.audit(fields())
    return { status: OK, value }
  } catch (error) {
    if (!(error instanceof StatusError)) throw error
    if (call.audited) call.audit(fields(), error)
    return { status: statusOf(error) }
  }
}
