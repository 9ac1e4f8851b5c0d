/** Something of which there is only so much, and who holds how much of it: connections of addresses, calls of users. */
export interface SharedBound<Holder> {
  /** @returns false if this holder, or all together, hold as much as they may; nothing is taken then */
  take(holder: Holder): boolean
  /** Once for each `take` that was granted. */
  give(holder: Holder): void
  heldBy(holder: Holder): number
  readonly held: number
  /** Holders of at least one. */
  readonly holders: number
}

export interface SharedBoundOptions {
  readonly perHolder: number
  /** From here on only holders of few get more. */
  readonly inAll: number
  /** What is few; default 8. */
  readonly few?: number
  /** Where those end too; default a quarter more than `inAll`. */
  readonly atMost?: number
}

/**
 * Counts what holders have of a thing. One who takes all they can leaves the rest to others, and several of them together leave to each
 * newcomer the few that somebody honest needs.
 */
export function sharedBound<Holder>(options: SharedBoundOptions): SharedBound<Holder> {
  const { perHolder, inAll, few = 8, atMost = Math.ceil(inAll * 1.25) } = options
  const counts = new Map<Holder, number>()
  let held = 0
  return {
    take(holder) {
      const own = counts.get(holder) ?? 0
      if (own >= perHolder || held >= atMost || (held >= inAll && own >= few)) return false
      counts.set(holder, own + 1)
      held += 1
      return true
    },
    give(holder) {
      const own = counts.get(holder) ?? 0
      if (own > 1) counts.set(holder, own - 1)
      else counts.delete(holder)
      held -= 1
    },
    heldBy: (holder) => counts.get(holder) ?? 0,
    get held() {
      return held
    },
    get holders() {
      return counts.size
    },
  }
}
