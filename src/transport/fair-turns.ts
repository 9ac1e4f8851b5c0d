export interface FairTurns<User> {
  /** Starts something for a user: at once while nobody waits and this turn has room, else when their turn comes. */
  take(user: User, start: () => void): void
}

export interface FairTurnsOptions {
  /** Starts in one turn of the event loop, of all users together; default 8. */
  readonly perTurn?: number
  /** Calls back in the next turn of the event loop, after the input that is there was read; default setImmediate. */
  readonly later?: (callback: () => void) => void
}

interface Waiting {
  readonly start: () => void
  after?: Waiting
}

interface Queue {
  first: Waiting
  last: Waiting
}

/**
 * Has users start in turns, one start each: whoever comes while another user's thousands wait is behind one of them, not behind all. Who waits
 * was counted and bounded before.
 */
export function fairTurns<User>({ perTurn = 8, later = setImmediate }: FairTurnsOptions = {}): FairTurns<User> {
  /** In the order of their turns. */
  const waiting = new Map<User, Queue>()
  let started = 0
  let planned = false

  function plan(): void {
    if (planned) return
    planned = true
    later(turn)
  }

  function turn(): void {
    planned = false
    started = 0
    for (const [user, queue] of waiting) {
      if (started === perTurn) break
      const { start, after } = queue.first
      started += 1
      // To the end of the line, or out of it: a Map goes on with what is added while it is walked.
      waiting.delete(user)
      if (after !== undefined) waiting.set(user, { first: after, last: queue.last })
      start()
    }
    if (started > 0) plan()
  }

  return {
    take(user, start) {
      if (started < perTurn && waiting.size === 0) {
        started += 1
        plan()
        start()
        return
      }
      const queue = waiting.get(user)
      const added: Waiting = { start }
      if (queue === undefined) waiting.set(user, { first: added, last: added })
      else {
        queue.last.after = added
        queue.last = added
      }
      plan()
    },
  }
}
