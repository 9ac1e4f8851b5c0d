import { StatusError } from '../core/error.ts'
import type { Change, ChangeLog } from '../core/store.ts'

/** Readers that are further behind look at everything. */
const KEPT = 4096
/** More than one caller needs, even while its connections change. */
const WAITS_OF_ONE = 32

/**
 * The newest changes in memory, for a process that is told of every commit: who follows it needs no query, however often it asks.
 */
export class ChangeTail {
  /** Sequence number of the newest change. */
  head = 0
  #kept: Pick<Change, 'sequence' | 'kind'>[] = []
  readonly #waiting = new Set<() => void>()
  readonly #waits = new Map<string, number>()
  readonly #wait: (ms: number, signal: AbortSignal) => Promise<void>

  /** @param wait resolves after that many milliseconds, or when the signal aborts */
  static async open(changes: ChangeLog, wait: (ms: number, signal: AbortSignal) => Promise<void>): Promise<ChangeTail> {
    const tail = new ChangeTail(wait)
    changes.subscribe(
      (news) => tail.#add(news),
      async () => tail.#forget(await changes.head()),
    )
    tail.head = Math.max(tail.head, await changes.head())
    return tail
  }

  private constructor(wait: (ms: number, signal: AbortSignal) => Promise<void>) {
    this.#wait = wait
  }

  #add(news: readonly Change[]): void {
    for (const { sequence, kind } of news) {
      this.#kept.push({ sequence, kind })
      this.head = Math.max(this.head, sequence)
    }
    if (this.#kept.length > 2 * KEPT) this.#kept = this.#kept.slice(-KEPT)
    for (const wake of this.#waiting) wake()
  }

  /** Some changes will never be known: everybody looks at everything. */
  #forget(head: number): void {
    this.#kept = []
    this.head = head
    for (const wake of this.#waiting) wake()
  }

  /** Changes after `sequence`; undefined if they are not all known, or it lies in the future. */
  since(sequence: number): readonly Pick<Change, 'sequence' | 'kind'>[] | undefined {
    if (sequence === this.head) return []
    const oldest = this.#kept[0]?.sequence ?? Number.POSITIVE_INFINITY
    if (sequence > this.head || sequence < oldest - 1) return undefined
    return this.#kept.slice(this.#kept.findIndex((change) => change.sequence > sequence))
  }

  /**
   * Resolves when something is newer than `sequence`, after that many milliseconds, or when the signal aborts.
   * @param who waits
   * @throws StatusError RESOURCE_EXHAUSTED if it waits too many times at once
   */
  async newerThan(sequence: number, ms: number, signal: AbortSignal, who: string): Promise<void> {
    if (this.head > sequence) return
    const waits = (this.#waits.get(who) ?? 0) + 1
    if (waits > WAITS_OF_ONE)
      throw new StatusError('RESOURCE_EXHAUSTED', 'too many calls of one caller wait for changes')
    this.#waits.set(who, waits)
    const woken = new AbortController()
    const wake = () => woken.abort()
    this.#waiting.add(wake)
    try {
      await this.#wait(ms, AbortSignal.any([signal, woken.signal]))
    } finally {
      this.#waiting.delete(wake)
      const left = this.#waits.get(who)! - 1
      if (left > 0) this.#waits.set(who, left)
      else this.#waits.delete(who)
    }
  }
}
