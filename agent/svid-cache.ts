import type { Bundle } from '../src/core/bundle.ts'
import type { Clock, EpochSeconds } from '../src/core/clock.ts'
import { epochSeconds } from '../src/core/clock.ts'
import type { Log } from '../src/core/log.ts'
import { type SpiffeId, trustDomainId } from '../src/core/spiffe-id.ts'
import type { TrustDomain } from '../src/core/trust-domain.ts'
import { type AgentEntry, sameTexts } from './entry.ts'
import { isRotationDue, type RotationRule } from './rotation-rule.ts'
import { rootsByKey } from './wire.ts'

/** A signed X.509-SVID with its key, as workloads get it. */
export interface WorkloadSvid {
  /** Of the leaf. */
  readonly spiffeId: SpiffeId
  /** DER certificates, leaf first, root not included. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8 DER. Never logged, never written to disk. */
  readonly privateKey: Uint8Array
  readonly notBefore: EpochSeconds
  readonly notAfter: EpochSeconds
  /** The key of the root that the chain leads to. */
  readonly rootKey: string
  /** The entry as it was when this was asked for. */
  readonly signedFor: AgentEntry
}

export interface Identity {
  readonly entry: AgentEntry
  readonly svid: WorkloadSvid
}

/**
 * What a set of selectors is entitled to at one moment. The same object goes to all subscribers with the same selectors, so
 * what is computed from it (encoded messages) can be kept by its identity.
 */
export interface WorkloadUpdate {
  /** Sorted by entry id. */
  readonly identities: readonly Identity[]
  readonly bundle: Bundle
  /** Bundles that the identities federate with and the agent knows, sorted by trust domain. */
  readonly federatedBundles: readonly Bundle[]
}

export interface SvidCacheOptions {
  readonly trustDomain: TrustDomain
  /** SVIDs kept; soft, since entries with subscribers are always kept. */
  readonly maxSize: number
  readonly clock: Clock
  readonly log: Log
  readonly rotation: RotationRule
}

interface CachedEntry {
  entry: AgentEntry
  svid: WorkloadSvid | undefined
  /** Its root was tainted: sign anew, serve the old one until then. */
  tainted: boolean
  lastAccess: number
}

/** All subscribers with the same selectors share one group. */
interface Group {
  readonly selectors: ReadonlySet<string>
  readonly waiting: Set<() => void>
  subscribers: number
  /** Counts notifications. */
  version: number
  matching: readonly AgentEntry[] | undefined
  update: WorkloadUpdate | undefined
}

const IDLE_GROUPS_KEPT = 512

/**
 * Entries, their SVIDs and the bundles of one agent, and who waits for changes of them.
 *
 * An SVID is kept and served under an entry only while its SPIFFE ID is the entry's and its root is in the bundle. One that was signed for
 * an earlier state of the entry is signed anew, and served until then to those who were entitled to it in that state as well: it may hold
 * DNS names that are none of the others' business.
 *
 * Nothing here calls the server: `needed()` says what is to be signed, `store()` takes the result, `apply()` the outcome of a
 * sync. `onMiss` is called when a subscriber waits for an SVID that is not there.
 */
export class SvidCache {
  readonly #options: SvidCacheOptions
  readonly #entries = new Map<string, CachedEntry>()
  /** Entry ids by the first selector of the entry: each entry is found through exactly one selector. */
  readonly #bySelector = new Map<string, Set<string>>()
  readonly #groups = new Map<string, Group>()
  readonly #subscribed = new Map<string, number>()
  #bundles: ReadonlyMap<TrustDomain, Bundle> = new Map()
  /** Of the own bundle: whether a root is tainted. */
  #roots: ReadonlyMap<string, boolean> = new Map()
  #svidCount = 0
  #accesses = 0
  onMiss: () => void = () => {}

  constructor(options: SvidCacheOptions) {
    this.#options = options
  }

  get svidCount(): number {
    return this.#svidCount
  }

  /** Entries by id, for computing what a sync still needs. */
  entry(id: string): AgentEntry | undefined {
    return this.#entries.get(id)?.entry
  }

  /** What is there for an entry, whether it may still be served or not. */
  svid(id: string): WorkloadSvid | undefined {
    return this.#entries.get(id)?.svid
  }

  /** All entries, as of the last sync. */
  *entries(): Iterable<AgentEntry> {
    for (const { entry } of this.#entries.values()) yield entry
  }

  /** The bundle of a trust domain, if the agent knows it. */
  bundle(trustDomain: TrustDomain): Bundle | undefined {
    return this.#bundles.get(trustDomain)
  }

  /**
   * Takes the outcome of a sync: all authorized entries (without those to store elsewhere) and all bundles. Objects equal by
   * identity to those held are taken as unchanged.
   */
  apply(entries: ReadonlyMap<string, AgentEntry>, bundles: ReadonlyMap<TrustDomain, Bundle>): void {
    const before = this.#bundles
    this.#bundles = bundles
    const own = bundles.get(this.#options.trustDomain)
    if (own && own !== before.get(this.#options.trustDomain)) this.#trustOnly(rootsByKey(own))
    if (this.#options.log.debugEnabled) this.#logBundles(before)
    const changed: AgentEntry[] = []
    for (const [id, cached] of this.#entries) {
      if (entries.has(id)) continue
      this.#remove(cached)
      changed.push(cached.entry)
      this.#logChange(cached.entry, undefined)
    }
    for (const entry of entries.values()) {
      const cached = this.#entries.get(entry.id)
      if (cached?.entry === entry) continue
      if (cached) {
        // Other changes show when the new SVID arrives.
        if (differs(cached.entry, entry)) {
          changed.push(cached.entry, entry)
          this.#logChange(cached.entry, entry)
        }
        this.#unindex(cached.entry)
        if (cached.entry.spiffeId !== entry.spiffeId) this.#dropSvid(cached)
        cached.entry = entry
        this.#forgetMatches(entry)
      } else {
        this.#entries.set(entry.id, { entry, svid: undefined, tainted: false, lastAccess: 0 })
        changed.push(entry)
        this.#logChange(undefined, entry)
      }
      this.#index(entry)
    }
    this.#notifyAfterSync(changed, before)
  }

  /**
   * Entries to sign now, those that somebody waits for first: no SVID yet and wanted, due for renewal, signed for an earlier
   * state of the entry, or leading to a tainted root.
   *
   * @param except ids to leave out
   */
  needed(limit: number, except: ReadonlySet<string> = new Set()): readonly AgentEntry[] {
    const now = epochSeconds(this.#options.clock)
    const urgent: AgentEntry[] = []
    const later: AgentEntry[] = []
    let room = this.#options.maxSize - this.#svidCount
    for (const cached of this.#entries.values()) {
      const { entry, svid } = cached
      if (except.has(entry.id)) continue
      if (svid) {
        const changed = svid.signedFor !== entry
        const waited = svid.notAfter <= now || (changed && this.#hasSubscriber(entry))
        if (changed || cached.tainted || isRotationDue(svid, now, this.#options.rotation))
          (waited ? urgent : later).push(entry)
      } else if (this.#hasSubscriber(entry)) {
        urgent.push(entry)
        room -= 1
      } else if (room > 0 && !entry.disableX509SvidPrefetch) {
        later.push(entry)
        room -= 1
      }
    }
    return urgent.concat(later).slice(0, limit)
  }

  /**
   * Keeps freshly signed SVIDs by entry id and tells those who wait. What belongs to nothing any more is dropped: ids that are gone, SVIDs
   * for an ID that the entry no longer gives, and those under a root that was revoked.
   */
  store(svids: ReadonlyMap<string, WorkloadSvid>): void {
    const changed: AgentEntry[] = []
    for (const [id, svid] of svids) {
      const cached = this.#entries.get(id)
      const tainted = this.#roots.get(svid.rootKey)
      if (cached?.entry.spiffeId !== svid.spiffeId || tainted === undefined) continue
      // Marked once: a server that goes on signing under a tainted root is not asked without end.
      cached.tainted = tainted && !(cached.svid && this.#roots.get(cached.svid.rootKey))
      if (!cached.svid) {
        this.#svidCount += 1
        cached.lastAccess = this.#accesses
      }
      cached.svid = svid
      changed.push(cached.entry)
      this.#options.log.debug('SVID updated', { entry: id, spiffe_id: cached.entry.spiffeId })
    }
    this.#evict()
    this.#notify(changed)
  }

  /** Entries whose selectors are all among these, sorted by id. Does not block and does not count as an access. */
  matching(selectors: readonly string[]): readonly AgentEntry[] {
    return this.#matchesOf(this.#group(selectors))
  }

  /** What these selectors are entitled to now, without waiting for SVIDs that are still to be signed. */
  current(selectors: readonly string[]): WorkloadUpdate {
    return this.#updateOf(this.#group(selectors))
  }

  /**
   * Follows what these selectors are entitled to. The first value waits until all matching SVIDs are there; later values come
   * with each change, and only the newest if the consumer is slow. Ends when the signal aborts.
   */
  async *subscribe(selectors: readonly string[], signal: AbortSignal): AsyncGenerator<WorkloadUpdate, void, void> {
    const group = this.#group(selectors)
    this.#enter(group)
    try {
      let seen = -1
      while (!signal.aborted) {
        const ready = seen < 0 ? this.#complete(group) : seen !== group.version && this.#presentable(group)
        if (ready) {
          seen = group.version
          yield this.#updateOf(group)
        } else {
          if (seen < 0) this.onMiss()
          await changeOf(group, signal)
        }
      }
    } finally {
      this.#leave(group)
    }
  }

  #logChange(from: AgentEntry | undefined, to: AgentEntry | undefined): void {
    const { log } = this.#options
    if (!log.debugEnabled) return
    const shown = to ?? from
    log.debug(to ? (from ? 'Entry updated' : 'Entry created') : 'Entry removed', {
      entry: shown?.id,
      spiffe_id: shown?.spiffeId,
      selectors_added: countNew(to?.selectors, from?.selectors),
      selectors_removed: countNew(from?.selectors, to?.selectors),
      federated_added: countNew(to?.federatesWith, from?.federatesWith),
      federated_removed: countNew(from?.federatesWith, to?.federatesWith),
    })
  }

  #logBundles(before: ReadonlyMap<TrustDomain, Bundle>): void {
    const { log } = this.#options
    for (const [trustDomain, bundle] of this.#bundles) {
      const former = before.get(trustDomain)
      if (former !== bundle)
        log.debug(former ? 'Bundle updated' : 'Bundle added', { trust_domain_id: trustDomainId(trustDomain) })
    }
    for (const trustDomain of before.keys())
      if (!this.#bundles.has(trustDomain)) log.debug('Bundle removed', { trust_domain_id: trustDomainId(trustDomain) })
  }

  #complete(group: Group): boolean {
    return this.#matchesOf(group).every((entry) => this.#svidFor(group, entry))
  }

  /** False while entries match but none has an SVID yet: an empty update would tell the workload that it lost everything. */
  #presentable(group: Group): boolean {
    return this.#matchesOf(group).length === 0 || this.#updateOf(group).identities.length > 0
  }

  /** The SVID of an entry, if it is for these workloads. */
  #svidFor(group: Group, entry: AgentEntry): WorkloadSvid | undefined {
    const svid = this.#entries.get(entry.id)?.svid
    return svid && (svid.signedFor === entry || covers(group, svid.signedFor)) ? svid : undefined
  }

  #group(selectors: readonly string[]): Group {
    const sorted = [...new Set(selectors)].sort()
    const key = JSON.stringify(sorted)
    let group = this.#groups.get(key)
    if (!group) {
      group = {
        selectors: new Set(sorted),
        waiting: new Set(),
        subscribers: 0,
        version: 0,
        matching: undefined,
        update: undefined,
      }
      if (this.#groups.size >= IDLE_GROUPS_KEPT) this.#dropIdleGroups()
      this.#groups.set(key, group)
    }
    return group
  }

  #dropIdleGroups(): void {
    for (const [key, group] of this.#groups) if (group.subscribers === 0) this.#groups.delete(key)
  }

  #enter(group: Group): void {
    group.subscribers += 1
    this.#accesses += 1
    for (const entry of this.#matchesOf(group)) this.#entries.get(entry.id)!.lastAccess = this.#accesses
    for (const selector of group.selectors) this.#subscribed.set(selector, (this.#subscribed.get(selector) ?? 0) + 1)
  }

  #leave(group: Group): void {
    group.subscribers -= 1
    for (const selector of group.selectors) {
      const count = this.#subscribed.get(selector)! - 1
      if (count === 0) this.#subscribed.delete(selector)
      else this.#subscribed.set(selector, count)
    }
  }

  #matchesOf(group: Group): readonly AgentEntry[] {
    if (group.matching) return group.matching
    const found: AgentEntry[] = []
    for (const selector of group.selectors) {
      for (const id of this.#bySelector.get(selector) ?? []) {
        const { entry } = this.#entries.get(id)!
        if (covers(group, entry)) found.push(entry)
      }
    }
    group.matching = found.sort((a, b) => (a.id < b.id ? -1 : 1))
    return group.matching
  }

  #updateOf(group: Group): WorkloadUpdate {
    if (group.update) return group.update
    const identities: Identity[] = []
    const federated = new Map<TrustDomain, Bundle>()
    for (const entry of this.#matchesOf(group)) {
      const svid = this.#svidFor(group, entry)
      if (!svid) continue
      identities.push({ entry, svid })
      for (const trustDomain of entry.federatesWith) {
        const bundle = this.#bundles.get(trustDomain)
        if (bundle) federated.set(trustDomain, bundle)
      }
    }
    const bundle = this.#bundles.get(this.#options.trustDomain)
    if (!bundle) throw new Error('the bundle of the own trust domain is not there yet')
    federated.delete(this.#options.trustDomain)
    group.update = {
      identities,
      bundle,
      federatedBundles: [...federated.values()].sort((a, b) => (a.trustDomain < b.trustDomain ? -1 : 1)),
    }
    return group.update
  }

  #notifyAfterSync(changed: readonly AgentEntry[], before: ReadonlyMap<TrustDomain, Bundle>): void {
    const own = this.#options.trustDomain
    if (before.get(own) !== this.#bundles.get(own)) {
      for (const group of this.#groups.values()) wake(group)
      return
    }
    const moved = new Set<TrustDomain>()
    for (const name of new Set([...before.keys(), ...this.#bundles.keys()])) {
      if (before.get(name) !== this.#bundles.get(name)) moved.add(name)
    }
    const federating =
      moved.size === 0
        ? []
        : [...this.#entries.values()]
            .map((cached) => cached.entry)
            .filter((e) => e.federatesWith.some((td) => moved.has(td)))
    this.#notify([...changed, ...federating])
  }

  #notify(changed: readonly AgentEntry[]): void {
    if (changed.length === 0) return
    for (const group of this.#groups.values()) {
      if (changed.some((entry) => covers(group, entry))) wake(group)
    }
  }

  #forgetMatches(entry: AgentEntry): void {
    for (const group of this.#groups.values()) {
      if (covers(group, entry)) {
        group.matching = undefined
        group.update = undefined
      }
    }
  }

  #trustOnly(roots: ReadonlyMap<string, boolean>): void {
    this.#roots = roots
    for (const cached of this.#entries.values()) {
      if (!cached.svid) continue
      const tainted = roots.get(cached.svid.rootKey)
      if (tainted === undefined) this.#dropSvid(cached)
      else cached.tainted = tainted
    }
  }

  #remove(cached: CachedEntry): void {
    this.#dropSvid(cached)
    this.#unindex(cached.entry)
    this.#entries.delete(cached.entry.id)
  }

  #dropSvid(cached: CachedEntry): void {
    if (!cached.svid) return
    cached.svid = undefined
    this.#svidCount -= 1
  }

  #index(entry: AgentEntry): void {
    const first = entry.selectors[0]!
    const ids = this.#bySelector.get(first)
    if (ids) ids.add(entry.id)
    else this.#bySelector.set(first, new Set([entry.id]))
  }

  #unindex(entry: AgentEntry): void {
    const ids = this.#bySelector.get(entry.selectors[0]!)
    ids?.delete(entry.id)
    if (ids?.size === 0) this.#bySelector.delete(entry.selectors[0]!)
  }

  /** Each selector may be somebody else's: rarely more than have a use for it. */
  #hasSubscriber(entry: AgentEntry): boolean {
    return entry.selectors.every((selector) => this.#subscribed.has(selector))
  }

  #evict(): void {
    if (this.#svidCount <= this.#options.maxSize) return
    const idle = [...this.#entries.values()]
      .filter((cached) => cached.svid && !this.#hasSubscriber(cached.entry))
      .sort((a, b) => a.lastAccess - b.lastAccess)
    for (const cached of idle) {
      if (this.#svidCount <= this.#options.maxSize) break
      this.#dropSvid(cached)
      this.#forgetMatches(cached.entry)
    }
  }
}

function covers(group: Group, entry: AgentEntry): boolean {
  return entry.selectors.every((selector) => group.selectors.has(selector))
}

/** Whether a change decides who gets what, so that it cannot wait for a new SVID. */
function differs(a: AgentEntry, b: AgentEntry): boolean {
  return (
    a.spiffeId !== b.spiffeId ||
    !sameTexts(a.selectors, b.selectors) ||
    !sameTexts([...a.federatesWith].sort(), [...b.federatesWith].sort())
  )
}

function wake(group: Group): void {
  group.matching = undefined
  group.update = undefined
  group.version += 1
  for (const resolve of group.waiting) resolve()
  group.waiting.clear()
}

/** Resolves at the next notification of the group, or when the signal aborts. */
function changeOf(group: Group, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      group.waiting.delete(done)
      signal.removeEventListener('abort', done)
      resolve()
    }
    group.waiting.add(done)
    signal.addEventListener('abort', done)
    if (signal.aborted) done()
  })
}

/** How many items the other list has not; undefined: none. */
function countNew(items: readonly string[] = [], others: readonly string[] = []): number | undefined {
  const known = new Set(others)
  return items.filter((item) => !known.has(item)).length || undefined
}
