import { StatusError } from '../src/core/error.ts'

/**
 * The server signed something else than the agent asked for: what the agent knows of the entry, or of the bundle, is old. Nothing of it is
 * kept, and a sync is due.
 */
export class OutdatedError extends StatusError {
  constructor(message: string, cause?: unknown) {
    super('UNAVAILABLE', message, { cause })
  }
}
