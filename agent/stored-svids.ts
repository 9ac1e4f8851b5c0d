import type { Bundle } from '../src/core/bundle.ts'
import { type Clock, epochSeconds } from '../src/core/clock.ts'
import { concat } from '../src/core/der.ts'
import { errorMessage, StatusError } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import type { SvidStore } from '../src/core/plugin.ts'
import { trustDomainId } from '../src/core/spiffe-id.ts'
import type { TrustDomain } from '../src/core/trust-domain.ts'
import { type AgentEntry, sameTexts } from './entry.ts'
import type { SvidCache, WorkloadSvid } from './svid-cache.ts'

export interface StoredSvidsOptions {
  readonly trustDomain: TrustDomain
  /** By name: the type of an entry's selectors says which store it is for. */
  readonly stores: ReadonlyMap<string, SvidStore>
  /** Holds the entries that are stored, and no others. */
  readonly cache: SvidCache
  readonly clock: Clock
  readonly log: Log
}

/** What a store was given last. */
interface Handled {
  readonly entry: AgentEntry
  readonly svid: WorkloadSvid
  readonly bundles: readonly (Bundle | undefined)[]
}

/** Puts SVIDs of entries with `store_svid` into their stores, and takes out those whose entries are gone. What fails is tried again the next time. */
export class StoredSvids {
  readonly cache: SvidCache
  readonly #options: StoredSvidsOptions
  readonly #handled = new Map<string, Handled>()

  constructor(options: StoredSvidsOptions) {
    this.#options = options
    this.cache = options.cache
  }

  /** Does what is due. Never throws. @see agent.md 19 */
  async process(): Promise<void> {
    for (const [id, { entry }] of this.#handled) {
      const current = this.cache.entry(id)
      // An entry with other selectors is stored elsewhere.
      if (current && sameTexts(current.selectors, entry.selectors)) continue
      if (await this.#delete(entry)) this.#handled.delete(id)
    }
    for (const entry of this.cache.entries()) await this.#put(entry)
  }

  async #put(entry: AgentEntry): Promise<void> {
    const { trustDomain, clock } = this.#options
    const svid = this.cache.svid(entry.id)
    if (!svid || svid.signedFor !== entry || svid.notAfter <= epochSeconds(clock)) return
    const federated = entry.federatesWith.filter((name) => name !== trustDomain)
    const bundles = [trustDomain, ...federated].map((name) => this.cache.bundle(name))
    const [own, ...others] = bundles
    if (!own) return
    const before = this.#handled.get(entry.id)
    const same = before?.entry === entry && before.svid === svid
    if (same && before.bundles.every((bundle, index) => bundle === bundles[index])) return
    const { log, store, metadata } = this.#storeOf(entry)
    if (!store) {
      log.error('Error storing SVID: SVIDStore not found')
      return
    }
    try {
      await store.put({
        spiffeId: svid.spiffeId,
        chain: svid.chain,
        privateKey: svid.privateKey,
        expiresAt: svid.notAfter,
        bundle: derOf(own),
        metadata,
        federatedBundles: new Map(
          others.flatMap((bundle) => (bundle ? [[trustDomainId(bundle.trustDomain), concat(derOf(bundle))]] : [])),
        ),
      })
      this.#handled.set(entry.id, { entry, svid, bundles })
      log.debug('SVID stored successfully')
    } catch (error) {
      log.error('Failed to put X509-SVID', { error: errorMessage(error) })
    }
  }

  /** @returns whether it is gone, or the store can never take it out */
  async #delete(entry: AgentEntry): Promise<boolean> {
    const { log, store, metadata } = this.#storeOf(entry)
    try {
      await store!.delete(metadata)
      log.debug('SVID deleted successfully')
      return true
    } catch (error) {
      const malformed = error instanceof StatusError && error.code === 'INVALID_ARGUMENT'
      if (malformed) log.debug('Failed to delete SVID because of malformed selectors', { error: errorMessage(error) })
      else log.error('Failed to delete SVID', { error: errorMessage(error) })
      return malformed
    }
  }

  /** The server keeps all selectors of such an entry to one type; where it did not, there is no store. */
  #storeOf(entry: AgentEntry) {
    const parts = entry.selectors.map((selector) => {
      const colon = selector.indexOf(':')
      return { type: selector.slice(0, colon), value: selector.slice(colon + 1) }
    })
    const name = parts[0]?.type ?? ''
    const store = parts.every(({ type }) => type === name) ? this.#options.stores.get(name) : undefined
    const log = this.#options.log.child({ entry: entry.id, spiffe_id: entry.spiffeId, svid_store: name })
    return { log, store, metadata: parts.map(({ value }) => value) }
  }
}

function derOf({ x509Authorities }: Bundle): Uint8Array[] {
  return x509Authorities.map(({ der }) => der)
}
