/** Whole seconds since 1970-01-01T00:00:00Z. */
export type EpochSeconds = number

/** Where the time comes from; an argument everywhere, so that tests can turn it. */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  nowMs(): number
}

export const systemClock: Clock = { nowMs: () => Date.now() }

/** The present moment of a clock in whole seconds, rounded down. */
export function epochSeconds(clock: Clock): EpochSeconds {
  return Math.floor(clock.nowMs() / 1000)
}
