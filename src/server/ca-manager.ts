import type { Bundle, JwtAuthority } from '../core/bundle.ts'
import { type Clock, type EpochSeconds, epochSeconds } from '../core/clock.ts'
import { hex } from '../core/der.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Signer } from '../core/key-type.ts'
import type { Log } from '../core/log.ts'
import type { KeyManager, UpstreamAuthority, UpstreamBundle } from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { Lease, LeaseStore, Store, WrappedKeyStore } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { Authorities, type AuthorityOptions, type Hands, TITLES } from './authorities.ts'
import type { Ca, JwtKey, X509Ca } from './ca.ts'
import { Journal } from './journal.ts'
import { KeyPublisher } from './key-publisher.ts'
import type { Slots } from './slots.ts'
import { taintedRootKeyIds } from './taint.ts'
import { takeUpstreamBundle } from './upstream-bundle.ts'

/** What of a store the authorities need. The optional parts are needed where keys are shared. */
export interface AuthorityStore extends Pick<Store, 'bundles' | 'journals'> {
  readonly keys?: WrappedKeyStore
  readonly leases?: LeaseStore
  /** The same store, whose writes fail, as a whole, once the lease is somebody else's. */
  guarded?(lease: Lease): AuthorityStore
}

export interface CaManagerDeps {
  readonly store: AuthorityStore
  readonly keyManager: KeyManager
  readonly upstream?: UpstreamAuthority
  readonly ca: Ca
  readonly verify: VerifySignature
  readonly clock: Clock
  readonly random: (bytes: Uint8Array) => Uint8Array
  readonly log: Log
  /** Told when authorities of the bundle were tainted, so that what they signed is signed anew. Hex key ids. */
  readonly onTainted?: (keyIds: readonly string[]) => void
}

const LEASE = 'authorities'
/** Longer than a rotation takes; fencing, not time, keeps a late owner from harm. */
const LEASE_SECONDS = 30
/** How old what is known of shared authorities may be when something is signed. */
const FRESH_SECONDS = 5
/** From when on a signature does what timer or cron should have done. */
const OVERDUE_SECONDS = 60
/** How often a CA that depends on a tainted root is made anew while the upstream gives no other. */
const LEAVE_AGAIN_SECONDS = 60
const START_ATTEMPTS = 200
const START_PAUSE_MS = 250

/**
 * Who may change the authorities now, and how old what is known of them may be. One change at a time; and replicas that share
 * their keys share the authorities: whoever holds the lease makes and activates them, and the others take them over from the
 * journal, at the latest before they sign something with what is more than five seconds old.
 * @see server.md 5, edge.md D1 and D2
 */
export class CaManager {
  readonly #trustDomain: TrustDomain
  readonly #deps: CaManagerDeps
  readonly #journal: Journal
  readonly #publisher: KeyPublisher
  readonly #authorities: Authorities
  #turn: Promise<unknown> = Promise.resolve()
  /** Who this is among the replicas. */
  readonly #owner: string
  /** When the shared journal was last read, and until when nobody else may have changed it. */
  #readAt = Number.NEGATIVE_INFINITY
  #leasedUntil = Number.NEGATIVE_INFINITY
  #looking: Promise<void> | undefined
  #lookedAt = Number.NEGATIVE_INFINITY
  /** Roots of the bundle that are known to be tainted, hex key ids. */
  #tainted: ReadonlySet<string> = new Set()
  #announced = new Set<string>()
  #leftTaintedAt = Number.NEGATIVE_INFINITY
  /** Rotations that failed since the start; more than ten make the server unhealthy. */
  failedRotations = 0

  private constructor(options: AuthorityOptions, deps: CaManagerDeps, journal: Journal) {
    const { trustDomain } = options
    const { upstream, ca, verify, clock, random, log } = deps
    const publisher = new KeyPublisher({ trustDomain, upstream, log })
    this.#trustDomain = trustDomain
    this.#deps = deps
    this.#journal = journal
    this.#publisher = publisher
    this.#authorities = new Authorities(options, { journal, publisher, upstream, ca, verify, clock, random, log })
    this.#owner = hex(random(new Uint8Array(16)))
    if (this.#shared && !(deps.store.keys && deps.store.leases && deps.store.guarded)) {
      throw new Error('the data store cannot keep keys that replicas share')
    }
  }

  /** Takes up the authorities of the last run, as far as they are still good. Nothing is made here. */
  static async load(options: AuthorityOptions, deps: CaManagerDeps): Promise<CaManager> {
    const { store, keyManager, log } = deps
    const readAt = epochSeconds(deps.clock)
    const keysOf = keysOnce(keyManager)
    const journal = await Journal.load(store.journals, keysOf, keyManager.shared !== undefined, log)
    const manager = new CaManager(options, deps, journal)
    log.info('Journal loaded', {
      x509_cas: journal.entries('x509CAs').length,
      jwt_keys: journal.entries('jwtKeys').length,
      wit_keys: journal.entries('witKeys').length,
    })
    if (journal.found) await manager.#authorities.takeUp(store, await keysOf())
    const bundle = await store.bundles.get(options.trustDomain)
    if (bundle) manager.#tainted = manager.#announced = new Set(taintedRootKeyIds(bundle))
    manager.#readAt = readAt
    if (manager.#shared) deps.ca.lookFirst(() => manager.#lookFirst())
    return manager
  }

  /**
   * Rotates until there is something of each kind to sign with. That takes more than one look only where another replica is just
   * making the first one, or died over it.
   * @throws Error what rotate throws; UNAVAILABLE if the other replica does not come to an end
   */
  async start(pause: (ms: number) => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      await this.rotate()
      if (this.#authorities.isUsable(epochSeconds(this.#deps.clock))) return
      if (attempt === START_ATTEMPTS) throw busy()
      await pause(START_PAUSE_MS)
      this.#readAt = Number.NEGATIVE_INFINITY
    }
  }

  get x509Slots(): Slots<X509Ca> {
    return this.#authorities.x509Slots
  }

  get jwtSlots(): Slots<JwtKey> {
    return this.#authorities.jwtSlots
  }

  get witSlots(): Slots<JwtKey> {
    return this.#authorities.witSlots
  }

  get hasUpstream(): boolean {
    return this.#deps.upstream !== undefined
  }

  /** Whether there is an upstream that tells its bundle. */
  get followsUpstream(): boolean {
    return this.#deps.upstream?.follow !== undefined
  }

  /**
   * Prepares and activates what is due. Call it every 10 seconds; late or repeated calls do no harm, nor do calls on several
   * replicas at once. Where nothing is due it costs nothing; with shared keys, a read of the journal if that is more than five
   * seconds ago.
   * @throws Error of the first kind that failed; the other kinds were still seen to, unless no CA can sign
   */
  rotate(): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.failedRotations
      try {
        await this.#rotate()
      } catch (error) {
        if (this.failedRotations === before) this.#failed('the authorities', error)
        throw error
      }
    })
  }

  /**
   * Takes over what other replicas prepared and activated, if keys are shared. Where it is called every two seconds no signature
   * has to wait for the database.
   */
  async refresh(): Promise<void> {
    if (this.#shared) await this.#inTurn(() => this.#refresh())
  }

  prepareX509(): Promise<void> {
    return this.#alone((hands) => this.#authorities.prepare(hands, 'x509'))
  }

  prepareJwt(): Promise<void> {
    return this.#alone((hands) => this.#authorities.prepare(hands, 'jwt'))
  }

  /**
   * Makes a prepared authority the active one, whatever its time.
   * @throws StatusError FAILED_PRECONDITION if it is not prepared (any more)
   */
  activateX509(authorityId: string): Promise<void> {
    return this.#alone((hands) => this.#authorities.activatePrepared(hands, 'x509', authorityId))
  }

  activateJwt(authorityId: string): Promise<void> {
    return this.#alone((hands) => this.#authorities.activatePrepared(hands, 'jwt', authorityId))
  }

  /** Says that roots of the bundle were tainted. Hex key ids. */
  announceTaint(keyIds: readonly string[]): void {
    const news = keyIds.filter((id) => !this.#announced.has(id))
    for (const id of news) this.#announced.add(id)
    this.#tainted = new Set([...this.#tainted, ...news])
    if (news.length > 0) this.#deps.onTainted?.(news)
  }

  /**
   * Takes in a new version of the own bundle, whoever wrote it: another server on the same database may have heard of a taint first. The CA
   * is looked after before anything is signed anew.
   */
  async bundleChanged(bundle: Bundle): Promise<void> {
    const tainted = taintedRootKeyIds(bundle)
    this.#tainted = new Set(tainted)
    const news = tainted.filter((id) => !this.#announced.has(id))
    if (news.length === 0) return
    // Logged there if it fails; rotation tries again.
    if (this.#authorities.dependsOn(this.#tainted)) await this.rotate().catch(() => {})
    this.announceTaint(news)
  }

  /**
   * Publishes a JWT key for everybody in the trust domain: upstream if there is one, else in the own bundle.
   * @returns all JWT keys known there
   */
  publishJwtKey(key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    return this.#publisher.publishJwt(this.#deps.store.bundles, key)
  }

  /** The same for a WIT key. */
  publishWitKey(key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    return this.#publisher.publishWit(this.#deps.store.bundles, key)
  }

  /** Keeps the own bundle in step with the upstream's until the signal aborts. */
  async followUpstream(signal: AbortSignal): Promise<void> {
    const { upstream } = this.#deps
    if (!upstream?.follow) return
    for await (const update of upstream.follow(signal)) await this.#takeFromUpstream(update)
  }

  /** The same once, for where nobody can hold on to the upstream: takes what it trusts now. */
  async lookUpstream(): Promise<void> {
    const { upstream } = this.#deps
    if (!upstream?.follow) return
    const stop = new AbortController()
    try {
      for await (const update of upstream.follow(stop.signal)) {
        await this.#takeFromUpstream(update)
        return
      }
    } finally {
      stop.abort()
    }
  }

  #takeFromUpstream(update: UpstreamBundle): Promise<void> {
    const { store, log } = this.#deps
    return takeUpstreamBundle(
      {
        bundles: store.bundles,
        trustDomain: this.#trustDomain,
        log,
        replaceCa: (keyIds) => this.#alone((hands) => this.#authorities.replaceTaintedCa(hands, keyIds)),
        onTainted: (keyIds) => this.announceTaint(keyIds),
      },
      update,
    )
  }

  get #shared() {
    return this.#deps.keyManager.shared
  }

  async #rotate(): Promise<void> {
    const now = epochSeconds(this.#deps.clock)
    if (!this.#isFresh(now)) await this.#refresh()
    if (!this.#isDue(now)) return
    const failures: unknown[] = []
    const turn = await this.#underLease(async (hands) => {
      await this.#leaveTaintedRoots(hands, now).catch((error) => {
        failures.push(error)
        this.#failed(TITLES.x509, error)
      })
      for (const name of this.#authorities.names) {
        // Whose keys they were could not be written down without a CA.
        if (name !== 'x509' && this.x509Slots.current.status !== 'active') break
        try {
          await this.#authorities.rotate(hands, name, now)
        } catch (error) {
          failures.push(error)
          this.#failed(TITLES[name], error)
        }
      }
      if (failures.length > 0) throw failures[0]
    })
    if (turn === 'busy') this.#deps.log.debug('Another server is rotating the authorities')
  }

  #isDue(at: EpochSeconds): boolean {
    return this.#authorities.isDue(at) || this.#shared?.needsRewrap === true || this.#mustLeaveRoot(at)
  }

  /** Not without end: the upstream itself may still sign under the root. */
  #mustLeaveRoot(at: EpochSeconds): boolean {
    return at - this.#leftTaintedAt >= LEAVE_AGAIN_SECONDS && this.#authorities.dependsOn(this.#tainted)
  }

  async #leaveTaintedRoots(hands: Hands, now: EpochSeconds): Promise<void> {
    if (!this.#mustLeaveRoot(now)) return
    this.#leftTaintedAt = now
    await this.#authorities.replaceTaintedCa(hands, this.#tainted)
  }

  #failed(what: string, error: unknown): void {
    this.failedRotations += 1
    this.#deps.log.error(`Unable to rotate ${what}`, { error: errorMessage(error) })
  }

  /**
   * Does what only one replica may do, after having read what the one before it did. Keys that are not shared need no lease.
   * @returns busy if another replica is at it; nothing was done then
   */
  async #underLease(task: (hands: Hands) => Promise<void>): Promise<'done' | 'busy'> {
    const { store, keyManager, clock, log } = this.#deps
    const shared = this.#shared
    if (!shared) {
      await task({ store, keyManager })
      return 'done'
    }
    const now = epochSeconds(clock)
    const lease = await store.leases!.take(
      shared.scope === '' ? LEASE : `${LEASE} ${shared.scope}`,
      this.#owner,
      now,
      LEASE_SECONDS,
    )
    if (!lease) return 'busy'
    try {
      // Keys too: one that its owner did not live to write into the journal has replaced the one that the journal knows.
      const keysOf = keysOnce(keyManager)
      await this.#journal.reload(store.journals, keysOf)
      await this.#authorities.takeUp(store, await keysOf())
      this.#leasedUntil = now + LEASE_SECONDS
      const guarded = store.guarded!(lease)
      await task({ store: guarded, keyManager: shared.through(guarded.keys!) })
      if (shared.needsRewrap) await shared.rewrap(guarded.keys!)
      this.#readAt = epochSeconds(clock)
      return 'done'
    } catch (error) {
      // What of it was written is to be found out before anything is signed.
      this.#readAt = Number.NEGATIVE_INFINITY
      throw error
    } finally {
      this.#leasedUntil = Number.NEGATIVE_INFINITY
      // It ends by itself if this fails.
      await store.leases!.release(lease).catch((error: unknown) => {
        log.warn('The lease of rotation could not be given back', { error: errorMessage(error) })
      })
    }
  }

  /** Something that somebody asked for: it is done, or they are told. */
  #alone(task: (hands: Hands) => Promise<void>): Promise<void> {
    return this.#inTurn(async () => {
      if ((await this.#underLease(task)) === 'busy') throw busy()
    })
  }

  async #refresh(): Promise<void> {
    const { store, keyManager, clock } = this.#deps
    const now = epochSeconds(clock)
    if (!this.#shared) return
    const keysOf = keysOnce(keyManager)
    const news = await this.#journal.reload(store.journals, keysOf)
    if (news) await this.#authorities.takeUp(store, await keysOf())
    this.#readAt = now
  }

  #isFresh(now: EpochSeconds): boolean {
    return Math.abs(now - this.#readAt) < FRESH_SECONDS
  }

  /** What the CA asks before it signs. undefined: what it has is fresh. */
  #lookFirst(): Promise<void> | undefined {
    const now = epochSeconds(this.#deps.clock)
    if (now < this.#leasedUntil && this.#authorities.isUsable(now)) return undefined
    // What cannot be made is not tried for each signature.
    if (now === this.#lookedAt || (this.#isFresh(now) && this.#authorities.isUsable(now))) return this.#looking
    this.#looking ??= this.#look(now)
      .then(() => {
        this.#lookedAt = now
      })
      .finally(() => {
        this.#looking = undefined
      })
    return this.#looking
  }

  async #look(now: EpochSeconds): Promise<void> {
    await this.refresh()
    if (!this.#isDue(now - OVERDUE_SECONDS)) return
    try {
      await this.rotate()
    } catch (error) {
      // Logged already; what there is may still be good for signing.
      if (now >= this.x509Slots.current.notAfter) throw error
    }
  }

  /** One change of the slots at a time. */
  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#turn.then(task, task)
    this.#turn = run.catch(() => {})
    return run
  }
}

/** The keys as they are when they are first asked for. */
function keysOnce(keyManager: KeyManager): () => Promise<ReadonlyMap<string, Signer>> {
  let keys: Promise<ReadonlyMap<string, Signer>> | undefined
  return () => {
    keys ??= keyManager.getKeys()
    return keys
  }
}

function busy(): StatusError {
  return new StatusError('UNAVAILABLE', 'another server is changing the authorities of the trust domain; try again')
}
