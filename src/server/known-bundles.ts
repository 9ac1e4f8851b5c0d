import type { Bundle } from '../core/bundle.ts'
import type { Clock } from '../core/clock.ts'
import type { Store } from '../core/store.ts'
import { changesAfter } from './news.ts'

/** How old what others wrote may be; own writes are seen at once. Less than any reader's cache. */
const LOOK_EVERY_MS = 5_000

/**
 * All bundles of the store in memory, for readers who may ask as often as they like: also for names that are not there. The change log is
 * looked at every few seconds, and the bundles are read again if one of them changed.
 */
export class KnownBundles {
  readonly #store: Pick<Store, 'bundles' | 'changes'>
  readonly #clock: Clock
  #bundles = new Map<string, Bundle>()
  #sequence = -1
  #lookAtMs = 0

  constructor(store: Pick<Store, 'bundles' | 'changes'>, clock: Clock) {
    this.#store = store
    this.#clock = clock
    store.changes.subscribe((changes) => {
      if (changes.some((change) => change.kind === 'bundle')) this.#lookAtMs = 0
    })
  }

  /** @param name as it came */
  async get(name: string): Promise<Bundle | undefined> {
    // Whoever is first looks, and the others take what is there: at the edge a promise of another request may never be kept.
    if (this.#sequence < 0 || this.#clock.nowMs() >= this.#lookAtMs) {
      try {
        await this.#look()
      } catch (error) {
        // What was read before is good until the database answers again.
        if (this.#sequence < 0) throw error
      }
    }
    return this.#bundles.get(name)
  }

  async #look(): Promise<void> {
    // Set first: a write while we read sets it back.
    this.#lookAtMs = this.#clock.nowMs() + LOOK_EVERY_MS
    const { changes, bundles } = this.#store
    const { head, changes: news } =
      this.#sequence < 0 ? { head: await changes.head() } : await changesAfter(changes, this.#sequence)
    if (news && !news.some((change) => change.kind === 'bundle')) {
      this.#sequence = head
      return
    }
    const { items } = await bundles.list({ size: 0, token: '' })
    this.#bundles = new Map(items.map((bundle) => [bundle.trustDomain, bundle]))
    this.#sequence = head
  }
}
