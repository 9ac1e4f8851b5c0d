import type { Entry } from '../core/entry.ts'
import { type Selector, selectorText } from '../core/selector.ts'
import { type SpiffeId, serverId, trustDomainOf } from '../core/spiffe-id.ts'
import type { Change, Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'

const NONE: ReadonlyMap<string, Entry> = new Map()

/** What one agent was entitled to when its entries were last computed. */
interface Entitlement {
  version: number
  selectors: readonly Selector[]
  entries: readonly Entry[]
}

/**
 * All registration entries in memory, kept by the change log: which entries an agent may serve is asked for with every sync, and
 * must cost nothing while nothing changed.
 * @see server.md 6.2
 */
export class EntryIndex {
  readonly #trustDomain: TrustDomain
  readonly #byId = new Map<string, Entry>()
  readonly #byParent = new Map<SpiffeId, Map<string, Entry>>()
  readonly #bySpiffeId = new Map<SpiffeId, Map<string, Entry>>()
  readonly #entitlements = new Map<SpiffeId, Entitlement>()
  #version = 0

  private constructor(trustDomain: TrustDomain) {
    this.#trustDomain = trustDomain
  }

  /** Reads all entries and follows the changes from then on. */
  static async load(store: Pick<Store, 'entries' | 'changes'>, trustDomain: TrustDomain): Promise<EntryIndex> {
    const index = new EntryIndex(trustDomain)
    const early: Change[] = []
    let take = (changes: readonly Change[]) => {
      early.push(...changes)
    }
    const read = async () => index.#putAll((await store.entries.list({}, { size: 0, token: '' })).items)
    store.changes.subscribe((changes) => take(changes), read)
    await read()
    take = (changes) => index.apply(changes)
    index.apply(early)
    return index
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
    return [...(this.#bySpiffeId.get(id) ?? NONE).values()]
  }

  /** Takes over changes that carry the new value. Those read back from the log carry none and say nothing here. */
  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === 'node' && change.node === null) this.#entitlements.delete(change.key as SpiffeId)
      if (change.kind === 'entry' && change.entry !== undefined) this.#replace(change.key, change.entry ?? undefined)
    }
  }

  #replace(id: string, entry: Entry | undefined): void {
    const before = this.#byId.get(id)
    if (before) {
      this.#byId.delete(id)
      drop(this.#byParent, before.parentId, id)
      drop(this.#bySpiffeId, before.spiffeId, id)
    }
    if (entry) this.#put(entry)
    this.#version += 1
  }

  #putAll(entries: readonly Entry[]): void {
    for (const group of [this.#byId, this.#byParent, this.#bySpiffeId]) group.clear()
    for (const entry of entries) this.#put(entry)
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
    for (const alias of (this.#byParent.get(serverId(this.#trustDomain)) ?? NONE).values()) {
      if (alias.selectors.every((selector) => earned.has(selectorText(selector)))) waiting.push(alias.spiffeId)
    }
    for (let parent = waiting.pop(); parent !== undefined; parent = waiting.pop()) {
      if (visited.has(parent)) continue
      visited.add(parent)
      for (const entry of (this.#byParent.get(parent) ?? NONE).values()) {
        if (trustDomainOf(entry.spiffeId) !== this.#trustDomain) continue
        found.push(entry)
        if (this.#byParent.has(entry.spiffeId)) waiting.push(entry.spiffeId)
      }
    }
    return found
  }
}

function add(groups: Map<SpiffeId, Map<string, Entry>>, key: SpiffeId, entry: Entry): void {
  const group = groups.get(key)
  if (group) group.set(entry.id, entry)
  else groups.set(key, new Map([[entry.id, entry]]))
}

function drop(groups: Map<SpiffeId, Map<string, Entry>>, key: SpiffeId, id: string): void {
  const group = groups.get(key)
  group?.delete(id)
  if (group?.size === 0) groups.delete(key)
}

function sameMembers(a: readonly Entry[], b: readonly Entry[]): boolean {
  if (a.length !== b.length) return false
  const members = new Set(a)
  return b.every((entry) => members.has(entry))
}
