import { performance } from 'node:perf_hooks'

export interface Arrivals {
  /** Somebody came. */
  arrived(): void
  /** Calls back in a later turn of the event loop, once nobody came for a moment, or 25 ms later at the latest. */
  later(callback: () => void): void
}

/** Without an arrival: longer than it takes any runtime to accept the next one that waits. */
const QUIET_MS = 2
const LONGEST_MS = 25

/**
 * Puts work off while connections come in. Node accepts one in each turn of the event loop, so whoever connects behind a thousand of them
 * waits for a thousand turns, which had better be short ones.
 */
export function betweenArrivals(
  nowMs: () => number = () => performance.now(),
  nextTurn: (callback: () => void) => void = setImmediate,
  after: (callback: () => void, ms: number) => void = setTimeout,
): Arrivals {
  let arrivedMs = Number.NEGATIVE_INFINITY
  return {
    arrived() {
      arrivedMs = nowMs()
    },
    later(callback) {
      const askedMs = nowMs()
      const look = (): void => {
        const now = nowMs()
        if (now - arrivedMs >= QUIET_MS || now - askedMs >= LONGEST_MS) callback()
        // Not in the next turn: connections come in sooner while there is nothing else to do.
        else after(look, QUIET_MS)
      }
      nextTurn(look)
    },
  }
}
