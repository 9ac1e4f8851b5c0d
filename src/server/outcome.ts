import { StatusError } from '../core/error.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'

/** The code of a StatusError, UNKNOWN for anything else. */
export function codeOf(error: unknown) {
  return error instanceof StatusError ? error.code : 'UNKNOWN'
}

/** Runs a conversion of what came from the caller. */
export function orInvalid<T>(call: Call, message: string, convert: () => T): T {
  try {
    return convert()
  } catch (error) {
    throw failure(call.log, 'INVALID_ARGUMENT', message, error)
  }
}

/** Runs what only fails where the server itself does. */
export async function orInternal<T>(call: Call, message: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    throw failure(call.log, 'INTERNAL', message, error)
  }
}

/** Takes from the method's rate limit, and of what may be taken once. */
export async function limited(call: Call, cost: number, message: string): Promise<void> {
  try {
    await call.limit(cost)
  } catch (error) {
    if (codeOf(error) !== 'RESOURCE_EXHAUSTED') throw error
    throw failure(call.log, 'RESOURCE_EXHAUSTED', message, error)
  }
}
