import { StatusError } from '../core/error.ts'

/** Bytes that many requests share while nobody knows yet who sends them. */
export interface ByteBudget {
  /** @returns false if there are not so many left; nothing is taken then */
  take(bytes: number): boolean
  give(bytes: number): void
}

/** More than hundreds of honest requests under way; less than what hurts a small machine. */
export const STRANGERS_BYTES = 16 * 1024 * 1024

export function byteBudget(bytes: number = STRANGERS_BYTES): ByteBudget {
  let left = bytes
  return {
    take(wanted) {
      if (wanted > left) return false
      left -= wanted
      return true
    },
    give(returned) {
      left += returned
    },
  }
}

export function tooManyStrangers(): StatusError {
  return new StatusError('UNAVAILABLE', 'too many requests of unknown callers are under way: try again')
}
