import { performance } from 'node:perf_hooks'

export interface Arrivals {
  /** Somebody came. */
  arrived(): void
  /** Calls back in a turn of the event loop in which nobody came, or a few milliseconds later at the latest. */
  later(callback: () => void): void
}

const LONGEST_MS = 25

/**
 * Puts work off while connections come in. Node accepts one in each turn of the event loop, so whoever connects behind a thousand of them
 * waits for a thousand turns, which had better be short ones.
 */
export function betweenArrivals(
  nowMs: () => number = () => performance.now(),
  nextTurn: (callback: () => void) => void = setImmediate,
): Arrivals {
  let arrivals = 0
  return {
    arrived() {
      arrivals += 1
    },
    later(callback) {
      const askedMs = nowMs()
      // Not those of this turn: whoever asks may have come in it.
      let seen = -1
      const look = (): void => {
        if (arrivals === seen || nowMs() - askedMs >= LONGEST_MS) {
          callback()
          return
        }
        seen = arrivals
        nextTurn(look)
      }
      nextTurn(look)
    },
  }
}
