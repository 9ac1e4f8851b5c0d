import type { Bundle } from './bundle.ts'
import type { EpochSeconds } from './clock.ts'
import type { Entry, EntryFields } from './entry.ts'
import type { KeyType } from './key-type.ts'
import type { AttestedNode } from './node.ts'
import type { Selector } from './selector.ts'
import type { SpiffeId } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

/**
 * What services ask of storage. Each method is one statement or one atomic batch; each write appends to the change log in
 * the same batch. Failures are StatusErrors with SPIRE's texts (`datastore-sql: ...`), codes as in server.md 9.3.
 */
export interface Store {
  readonly entries: EntryStore
  readonly nodes: NodeStore
  readonly bundles: BundleStore
  readonly joinTokens: JoinTokenStore
  readonly relationships: RelationshipStore
  readonly journals: JournalStore
  readonly uses: UseStore
  readonly leases: LeaseStore
  readonly keys: WrappedKeyStore
  readonly changes: ChangeLog
  /**
   * The parts that rotation writes, each of whose writes fails as a whole once the lease has another owner or fence.
   * @throws StatusError ABORTED from such a write
   */
  guarded(lease: Lease): Pick<Store, 'bundles' | 'journals' | 'keys'>
  close(): Promise<void>
}

/** `size` 0: everything at once, without token. Tokens are opaque decimal row ids. */
export interface Page {
  readonly size: number
  readonly token: string
}

export interface Paged<T> {
  readonly items: readonly T[]
  /** Empty when no page was asked for or the page was empty. */
  readonly nextToken: string
}

/** EXACT: equal; SUBSET: stored within given; SUPERSET: stored holds all given; ANY: they meet. */
export type MatchBehavior = 'exact' | 'subset' | 'superset' | 'any'

export interface EntryFilter {
  readonly spiffeId?: SpiffeId
  readonly parentId?: SpiffeId
  readonly selectors?: { readonly selectors: readonly Selector[]; readonly match: MatchBehavior }
  readonly federatesWith?: { readonly trustDomains: readonly TrustDomain[]; readonly match: MatchBehavior }
  /** Empty: no filter. */
  readonly hint?: string
  /** True filters; false and undefined do not. Applied after the page was cut, as SPIRE does. */
  readonly downstream?: boolean
}

/** An entry to create; an empty id lets the store make a UUIDv4. */
export type NewEntry = EntryFields & { readonly id: string }

export type CreateEntryResult =
  | { readonly outcome: 'created'; readonly entry: Entry }
  /** Same SPIFFE ID, parent and selectors as this stored one; nothing was written. */
  | { readonly outcome: 'similar'; readonly entry: Entry }
  | { readonly outcome: 'failed'; readonly error: Error }

export interface EntryStore {
  /** Creates each entry or says why not; results in the order given. One batch where no entry fails. */
  create(entries: readonly NewEntry[], now: EpochSeconds): Promise<readonly CreateEntryResult[]>
  get(id: string): Promise<Entry | undefined>
  /** @param known entries by id that the caller holds in memory: those still as they are stored are not read again */
  list(filter: EntryFilter, page: Page, known?: ReadonlyMap<string, Entry>): Promise<Paged<Entry>>
  count(filter: EntryFilter): Promise<number>
  /** Writes the given fields (absent ones stay), adds 1 to the revision number. @throws NOT_FOUND */
  update(id: string, fields: Partial<EntryFields>): Promise<Entry>
  /** @returns the removed entry, undefined if there was none */
  delete(id: string): Promise<Entry | undefined>
  /**
   * The entries that an agent may serve: those below it, those below the aliases that its node selectors earn it, and all below these
   * in turn. For where no index is kept in memory.
   */
  authorized(agentId: SpiffeId, selectors: readonly Selector[]): Promise<readonly Entry[]>
  /** Deletes entries whose expiry lies before `now`; returns them. */
  pruneExpired(now: EpochSeconds): Promise<readonly Entry[]>
}

export interface NodeFilter {
  readonly attestationType?: string
  readonly selectors?: { readonly selectors: readonly Selector[]; readonly match: MatchBehavior }
  readonly banned?: boolean
  readonly canReattest?: boolean
  readonly expiresBefore?: EpochSeconds
}

export interface NodeStore {
  get(id: SpiffeId): Promise<AttestedNode | undefined>
  list(filter: NodeFilter, page: Page, withSelectors: boolean): Promise<Paged<AttestedNode>>
  count(filter: NodeFilter): Promise<number>
  /**
   * Records a successful attestation: replaces the selectors, creates the row or updates serial, expiry and
   * can_reattest of the one there (its pending serial is cleared; attestation type and version stay). One batch.
   * @throws PERMISSION_DENIED if the node is banned by then
   */
  recordAttestation(node: Omit<AttestedNode, 'newSerialNumber' | 'newExpiresAt' | 'agentVersion'>): Promise<void>
  /**
   * Stores the serial of a renewed SVID; the present one stays good until the new one is used.
   * @throws NOT_FOUND, PERMISSION_DENIED if the node is banned by then
   */
  recordRenewal(id: SpiffeId, newSerialNumber: string, newExpiresAt: EpochSeconds): Promise<void>
  /** Makes the pending serial the current one, if it still is `newSerialNumber`. @returns whether it did */
  activateRenewal(id: SpiffeId, newSerialNumber: string): Promise<boolean>
  setAgentVersion(id: SpiffeId, version: string): Promise<void>
  /** Empties both serials. @throws NOT_FOUND */
  ban(id: SpiffeId): Promise<void>
  /** Removes the row, its selectors and, for join_token nodes, the alias entries made for it. @throws NOT_FOUND */
  delete(id: SpiffeId): Promise<{ readonly deletedEntries: readonly Entry[] }>
  /** Deletes unbanned nodes expired before the moment; returns how many. */
  prune(expiredBefore: EpochSeconds, includeNonReattestable: boolean, limit: number): Promise<number>
}

/** What happens to entries that federate with a bundle when it is deleted. */
export type BundleDeletion = 'restrict' | 'delete' | 'dissociate'

export interface BundleStore {
  get(trustDomain: TrustDomain): Promise<Bundle | undefined>
  list(page: Page): Promise<Paged<Bundle>>
  count(): Promise<number>
  /** @throws ALREADY_EXISTS */
  create(bundle: Bundle): Promise<Bundle>
  /** Replaces; @throws NOT_FOUND */
  update(bundle: Bundle): Promise<Bundle>
  /** Creates or replaces. */
  set(bundle: Bundle): Promise<Bundle>
  /**
   * Adds authorities that are not there yet (by DER, by key id), creating the bundle if need be. The sequence number
   * grows by 1 if anything changed. Safe against concurrent appends (compare and set on the sequence number).
   */
  append(
    bundle: Pick<Bundle, 'trustDomain'> &
      Partial<Pick<Bundle, 'x509Authorities' | 'jwtAuthorities' | 'witAuthorities'>>,
  ): Promise<Bundle>
  /**
   * Reads, changes by a pure function and writes back only if nobody else wrote in between; tries again otherwise.
   * `change` returns undefined to leave the bundle as it is. @throws NOT_FOUND
   */
  change(trustDomain: TrustDomain, change: (bundle: Bundle) => Bundle | undefined): Promise<Bundle>
  /** @throws NOT_FOUND, FAILED_PRECONDITION */
  delete(trustDomain: TrustDomain, mode: BundleDeletion): Promise<void>
}

export interface JoinToken {
  readonly value: string
  readonly expiresAt: EpochSeconds
}

export interface JoinTokenStore {
  create(token: JoinToken): Promise<void>
  /** Those that begin with a text, at most so many. */
  startingWith(text: string, atMost: number): Promise<readonly string[]>
  /** Takes the token out in the statement that finds it: of two callers only one gets it. */
  consume(value: string): Promise<JoinToken | undefined>
  /** Removes those that ended before this moment. */
  prune(endedBefore: EpochSeconds): Promise<void>
}

/** How the bundle of another trust domain is fetched. */
export interface FederationRelationship {
  readonly trustDomain: TrustDomain
  readonly bundleEndpointUrl: string
  readonly profile:
    | { readonly type: 'https_web' }
    | { readonly type: 'https_spiffe'; readonly endpointSpiffeId: SpiffeId }
}

export interface RelationshipStore {
  get(trustDomain: TrustDomain): Promise<FederationRelationship | undefined>
  list(page: Page): Promise<Paged<FederationRelationship>>
  /** With a bundle, sets that too, in the same batch. */
  create(relationship: FederationRelationship, bundle?: Bundle): Promise<void>
  update(relationship: FederationRelationship, bundle?: Bundle): Promise<void>
  delete(trustDomain: TrustDomain): Promise<void>
}

/** One server's record of its authorities: encoded `Entries` of proto/spire/server/journal.proto. */
export interface JournalRow {
  readonly id: number
  readonly activeX509AuthorityId: string
  readonly data: Uint8Array
}

export interface JournalStore {
  list(): Promise<readonly JournalRow[]>
  /** id 0 creates. @returns the row's id */
  save(row: JournalRow): Promise<number>
  delete(id: number): Promise<void>
}

/** Things that may happen once: nonces of requests, tokens that were exchanged. */
export interface UseStore {
  /**
   * Marks a key as used until `expiresAt`, in one statement.
   * @param key at most 512 characters; hash what is secret
   * @returns false if a mark that has not ended is there: of two callers only one gets true
   */
  take(key: string, expiresAt: EpochSeconds, now: EpochSeconds): Promise<boolean>
  prune(now: EpochSeconds): Promise<void>
}

/** The right to do periodic work for all replicas. `fence` grows with each owner, so that a late former owner is told from the present one. */
export interface Lease {
  readonly name: string
  readonly owner: string
  readonly fence: number
}

export interface LeaseStore {
  /** Takes a lease that is free, ended or one's own, in one statement. @returns undefined if another owner holds it */
  take(name: string, owner: string, now: EpochSeconds, seconds: number): Promise<Lease | undefined>
  /** Ends it early; does nothing if it is somebody else's by now. */
  release(lease: Lease): Promise<void>
}

/** A private key, wrapped. */
export interface WrappedKey {
  readonly id: string
  readonly keyType: KeyType
  /** DER SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array
  /** What the KeyManager makes of the PKCS#8: nonce and ciphertext. */
  readonly wrapped: Uint8Array
  /** Names the key that wraps it. */
  readonly kekVersion: string
}

export interface WrappedKeyStore {
  get(id: string): Promise<WrappedKey | undefined>
  list(): Promise<readonly WrappedKey[]>
  /** Creates or replaces. */
  save(key: WrappedKey): Promise<void>
  delete(id: string): Promise<void>
}

/** One write, in commit order. `key`: entry id, agent SPIFFE ID or trust domain. */
export interface Change {
  readonly sequence: number
  readonly kind: 'entry' | 'node' | 'bundle' | 'relationship'
  readonly key: string
  /**
   * What the key names after the write, or after a later one where another process wrote; null if it is gone. Changes delivered to
   * subscribers have it; those of `since` do not.
   */
  readonly entry?: Entry | null
  readonly node?: AttestedNode | null
  readonly bundle?: Bundle | null
}

export interface ChangeLog {
  /** The sequence number of the newest change, 0 if there was none. */
  head(): Promise<number>
  /** Changes after `sequence`, oldest first, at most `limit`. */
  since(sequence: number, limit: number): Promise<readonly Change[]>
  /**
   * Called after each commit of this process, in commit order, before the write's promise resolves; with `catchUp`, of other processes, too.
   * @param reload called instead when changes cannot be told any more, since they were pruned before this process read them: what was
   * read of the store is to be read again
   * @returns unsubscribe
   */
  subscribe(listener: (changes: readonly Change[]) => void, reload?: () => void | Promise<void>): () => void
  /**
   * Tells subscribers what other processes wrote since the last call; the first one only says where to begin, and so belongs before the
   * first read of what is to be kept. One indexed read if there is nothing new. Once called, a write of this process is told after those
   * of others before it.
   */
  catchUp(): Promise<void>
  prune(keepAfter: EpochSeconds): Promise<void>
}
