import type { Entry } from '../core/entry.ts'
import { type Selector, selectorText } from '../core/selector.ts'
import { type SpiffeId, serverId, trustDomainOf } from '../core/spiffe-id.ts'
import type { Change, Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'

/** What one agent was entitled to when its entries were last computed. */
interface Entitlement {
  version: number
  selectors: readonly Selector[]
  entries: readonly Entry[]
}

export interface Reading {
  /** Entries of a page: while it is read and put in its place nobody else has a turn. Default 500, which take a few milliseconds. */
  readonly pageSize?: number
  /** Gives everybody else a turn between two pages. */
  pause(): Promise<void>
  /** Told that a page could not be read. All are read again once it resolves; it rejects to give up. */
  failed(error: unknown): Promise<void>
}

const AT_ONCE: Reading = { pause: async () => {}, failed: (error) => Promise.reject(error) }

/**
 * All registration entries in memory, kept by the change log: which entries an agent may serve is asked for with every sync, and
 * must cost nothing while nothing changed. Only once it stands are the answers whole.
 * @see server.md 6.2
 */
export class EntryIndex {
  readonly #store: Pick<Store, 'entries' | 'changes'>
  readonly #trustDomain: TrustDomain
  readonly #byId = new Map<string, Entry>()
  readonly #byParent = new Map<SpiffeId, Group>()
  readonly #bySpiffeId = new Map<SpiffeId, Group>()
  readonly #entitlements = new Map<SpiffeId, Entitlement>()
  #version = 0
  /** While pages are read: what was told meanwhile, the newest of each entry. */
  #told: Told | undefined = new Map()
  readonly #reading: Reading
  #read: Promise<void> | undefined

  /** Follows the changes from now on. It stands when `read` has resolved. */
  constructor(store: Pick<Store, 'entries' | 'changes'>, trustDomain: TrustDomain, reading = AT_ONCE) {
    this.#store = store
    this.#trustDomain = trustDomain
    this.#reading = reading
    store.changes.subscribe(
      (changes) => this.apply(changes),
      () => this.read(),
    )
  }

  /** An index that stands. */
  static async load(store: Pick<Store, 'entries' | 'changes'>, trustDomain: TrustDomain): Promise<EntryIndex> {
    const index = new EntryIndex(store, trustDomain)
    await index.read()
    return index
  }

  /** Whether all entries are here, so that answers are right. */
  get stands(): boolean {
    return this.#told === undefined
  }

  /** Reads all entries, from the beginning if it is called again meanwhile. Resolves once it stands. */
  read(): Promise<void> {
    const told: Told = new Map()
    this.#told = told
    this.#read = this.#readAs(told)
    return this.#read
  }

  async #readAs(told: Told): Promise<void> {
    while (this.#told === told) {
      try {
        await this.#readPages(told)
      } catch (error) {
        if (this.#told === told) await this.#reading.failed(error)
      }
    }
    // Begun anew meanwhile: it stands when that one is done.
    if (this.#told) return this.#read
  }

  /** Returns before the end if reading was begun anew. */
  async #readPages(told: Told): Promise<void> {
    const { pageSize: size = 500, pause } = this.#reading
    for (const known of [this.#byId, this.#byParent, this.#bySpiffeId]) known.clear()
    for (let token: string | undefined = ''; token !== undefined; ) {
      const { items, nextToken } = await this.#store.entries.list({}, { size, token })
      if (this.#told !== told) return
      // An entry that was deleted and made again comes twice.
      for (const entry of items) this.#replace(entry.id, entry)
      token = items.length < size ? undefined : nextToken
      if (token === undefined) break
      await pause()
    }
    // Pages are of different moments. What was told since the first of them is in its last state here.
    for (const [id, entry] of told) this.#replace(id, entry)
    this.#told = undefined
  }

  /**
   * The entries that an agent may serve: those below it, those below the aliases that its node selectors earn it, and all below
   * these in turn. The same array comes back until one of them changes.
   */
  entriesFor(agentId: SpiffeId, selectors: readonly Selector[]): readonly Entry[] {
    const known = this.#entitlements.get(agentId)
    if (known?.version === this.#version && known.selectors === selectors) return known.entries
    let entries: readonly Entry[] = this.#collect(agentId, selectors)
    if (known && sameMembers(known.entries, entries)) entries = known.entries
    this.#entitlements.set(agentId, { version: this.#version, selectors, entries })
    return entries
  }

  get byId(): ReadonlyMap<string, Entry> {
    return this.#byId
  }

  /** Entries that give this ID, whoever their parent is. */
  bySpiffeId(id: SpiffeId): readonly Entry[] {
    return [...members(this.#bySpiffeId.get(id))]
  }

  /** Takes over changes that carry the new value. Those read back from the log carry none and say nothing here. */
  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === 'node' && change.node === null) this.#entitlements.delete(change.key as SpiffeId)
      if (change.kind !== 'entry' || change.entry === undefined) continue
      if (this.#told) this.#told.set(change.key, change.entry ?? undefined)
      else this.#replace(change.key, change.entry ?? undefined)
    }
  }

  #replace(id: string, entry: Entry | undefined): void {
    const before = this.#byId.get(id)
    if (before) {
      this.#byId.delete(id)
      drop(this.#byParent, before.parentId, before)
      drop(this.#bySpiffeId, before.spiffeId, before)
    }
    if (entry) this.#put(entry)
    this.#version += 1
  }

  #put(entry: Entry): void {
    this.#byId.set(entry.id, entry)
    add(this.#byParent, entry.parentId, entry)
    add(this.#bySpiffeId, entry.spiffeId, entry)
  }

  #collect(agentId: SpiffeId, selectors: readonly Selector[]): Entry[] {
    const found: Entry[] = []
    const visited = new Set<SpiffeId>()
    const waiting: SpiffeId[] = [agentId]
    const earned = new Set(selectors.map(selectorText))
    for (const alias of members(this.#byParent.get(serverId(this.#trustDomain)))) {
      if (alias.selectors.every((selector) => earned.has(selectorText(selector)))) waiting.push(alias.spiffeId)
    }
    for (let parent = waiting.pop(); parent !== undefined; parent = waiting.pop()) {
      if (visited.has(parent)) continue
      visited.add(parent)
      for (const entry of members(this.#byParent.get(parent))) {
        if (trustDomainOf(entry.spiffeId) !== this.#trustDomain) continue
        found.push(entry)
        if (this.#byParent.has(entry.spiffeId)) waiting.push(entry.spiffeId)
      }
    }
    return found
  }
}

/** The newest state of each entry that changed; undefined: it is gone. */
type Told = Map<string, Entry | undefined>

/** Entries with one ID in common. Most IDs have but one, and a set of one takes more memory than the entry. */
type Group = Entry | Set<Entry>

function members(group: Group | undefined): Iterable<Entry> {
  if (group === undefined) return []
  return group instanceof Set ? group : [group]
}

function add(groups: Map<SpiffeId, Group>, key: SpiffeId, entry: Entry): void {
  const group = groups.get(key)
  if (group === undefined) groups.set(key, entry)
  else if (group instanceof Set) group.add(entry)
  else groups.set(key, new Set([group, entry]))
}

function drop(groups: Map<SpiffeId, Group>, key: SpiffeId, entry: Entry): void {
  const group = groups.get(key)
  if (group instanceof Set) group.delete(entry)
  if (group === entry || (group instanceof Set && group.size === 0)) groups.delete(key)
}

function sameMembers(a: readonly Entry[], b: readonly Entry[]): boolean {
  if (a.length !== b.length) return false
  const members = new Set(a)
  return b.every((entry) => members.has(entry))
}
