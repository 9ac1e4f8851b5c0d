import type { JwtAuthority } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import { type Clock, type EpochSeconds, epochSeconds } from '../core/clock.ts'
import { hex } from '../core/der.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { KeyType, Signer } from '../core/key-type.ts'
import type { Log } from '../core/log.ts'
import { issuingKeyId } from '../core/path-validation.ts'
import type { KeyManager, UpstreamAuthority, UpstreamBundle } from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { BundleStore, Lease, LeaseStore, Store, WrappedKeyStore } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { DistinguishedName } from '../core/x509-name.ts'
import type { Ca, JwtKey, X509Ca } from './ca.ts'
import { Journal, type JournalKind } from './journal.ts'
import { newKeyAuthority, newX509Authority } from './new-authority.ts'
import { loadSlots } from './slot-loading.ts'
import { activationTime, KEY_NAMES, preparationTime, type Slot, SlotPair, type Slots } from './slots.ts'
import { takeUpstreamBundle } from './upstream-bundle.ts'

export interface CaManagerOptions {
  readonly trustDomain: TrustDomain
  readonly caTtlSeconds: number
  readonly caKeyType: KeyType
  readonly jwtKeyType: KeyType
  /** Absent: no WIT-SVIDs, and no keys for them. */
  readonly witKeyType?: KeyType | undefined
  readonly caSubject: DistinguishedName
  readonly disableJwtSvids: boolean
}

/** What of a store the life of authorities needs. The optional parts are needed where keys are shared. */
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

/** With what authorities are made: for shared keys all of it is guarded by the lease of rotation. */
interface Hands {
  readonly store: Pick<Store, 'bundles' | 'journals'>
  readonly keyManager: KeyManager
}

type KindName = keyof typeof KEY_NAMES

/** One kind of authority: its two slots and what is particular about it. */
interface Kind<T> {
  readonly name: KindName
  /** As logs name it. */
  readonly title: string
  readonly keyType: KeyType
  readonly journal: JournalKind
  readonly pair: SlotPair<T>
  /** Makes, writes down and publishes an authority with this key, in that order, and returns its slot. */
  readonly make: (hands: Hands, letter: 'A' | 'B', signer: Signer, now: EpochSeconds) => Promise<Slot<T>>
  /** Signs with it from now on. */
  readonly use: (authority: T) => void
}

const PUBLISH_TIMEOUT_MS = 5000
const LEASE = 'authorities'
/** Longer than a rotation takes; fencing, not time, keeps a late owner from harm. */
const LEASE_SECONDS = 30
/** How old what is known of shared authorities may be when something is signed. */
const FRESH_SECONDS = 5
/** From when on a signature does what timer or cron should have done. */
const OVERDUE_SECONDS = 60
const START_ATTEMPTS = 200
const START_PAUSE_MS = 250

/**
 * The life of the authorities: two slots each for X.509, JWT and WIT, prepared, activated and left behind in turn. Trust goes
 * ahead of use: an authority is in the bundle before it signs anything. It is in the journal before it is in the bundle, so that
 * one that was never finished leaves nothing behind that others would trust.
 *
 * Replicas that share their keys share the authorities: whoever holds the lease makes and activates them, and the others take
 * them over from the journal, at the latest before they sign something with what is more than five seconds old.
 * @see server.md 5, edge.md D1 and D2
 */
export class CaManager {
  readonly #options: CaManagerOptions
  readonly #deps: CaManagerDeps
  readonly #journal: Journal
  #x509: Kind<X509Ca>
  #jwt: Kind<JwtKey>
  #wit: Kind<JwtKey>
  #turn: Promise<unknown> = Promise.resolve()
  /** Who this is among the replicas. */
  readonly #owner: string
  /** When the shared journal was last read, and until when nobody else may have changed it. */
  #readAt = Number.NEGATIVE_INFINITY
  #leasedUntil = Number.NEGATIVE_INFINITY
  #looking: Promise<void> | undefined
  #lookedAt = Number.NEGATIVE_INFINITY
  readonly #warned = new Set<string>()
  /** Rotations that failed since the start; more than ten make the server unhealthy. */
  failedRotations = 0

  private constructor(options: CaManagerOptions, deps: CaManagerDeps, journal: Journal) {
    this.#options = options
    this.#deps = deps
    this.#journal = journal
    const { ca } = deps
    this.#owner = hex(deps.random(new Uint8Array(16)))
    if (this.#shared && !(deps.store.keys && deps.store.leases && deps.store.guarded)) {
      throw new Error('the data store cannot keep keys that replicas share')
    }
    this.#x509 = {
      name: 'x509',
      title: 'X509 CA',
      keyType: options.caKeyType,
      journal: 'x509CAs',
      pair: new SlotPair<X509Ca>(),
      make: (hands, letter, signer, now) => this.#makeX509(hands, letter, signer, now),
      use: (authority) => ca.setX509(authority),
    }
    this.#jwt = {
      name: 'jwt',
      title: 'JWT key',
      keyType: options.jwtKeyType,
      journal: 'jwtKeys',
      pair: new SlotPair<JwtKey>(),
      make: (hands, letter, signer, now) => this.#makeKey(hands, 'jwt', letter, signer, now),
      use: (authority) => ca.setJwt(authority),
    }
    this.#wit = {
      name: 'wit',
      title: 'WIT key',
      keyType: options.witKeyType ?? options.caKeyType,
      journal: 'witKeys',
      pair: new SlotPair<JwtKey>(),
      make: (hands, letter, signer, now) => this.#makeKey(hands, 'wit', letter, signer, now),
      use: (authority) => ca.setWit(authority),
    }
  }

  /** Takes up the authorities of the last run, as far as they are still good. Nothing is made here. */
  static async load(options: CaManagerOptions, deps: CaManagerDeps): Promise<CaManager> {
    const { store, keyManager, log } = deps
    const readAt = epochSeconds(deps.clock)
    const journal = await Journal.load(store.journals, () => keyManager.getKeys(), keyManager.shared !== undefined)
    const manager = new CaManager(options, deps, journal)
    log.info('Journal loaded', {
      x509_cas: journal.entries('x509CAs').length,
      jwt_keys: journal.entries('jwtKeys').length,
      wit_keys: journal.entries('witKeys').length,
    })
    if (journal.found) await manager.#takeUp()
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
      if (this.#isUsable(epochSeconds(this.#deps.clock))) return
      if (attempt === START_ATTEMPTS) throw busy()
      await pause(START_PAUSE_MS)
      this.#readAt = Number.NEGATIVE_INFINITY
    }
  }

  get x509Slots(): Slots<X509Ca> {
    return this.#x509.pair
  }

  get jwtSlots(): Slots<JwtKey> {
    return this.#jwt.pair
  }

  get witSlots(): Slots<JwtKey> {
    return this.#wit.pair
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
    return this.#alone((hands) => this.#prepare(hands, this.#x509))
  }

  prepareJwt(): Promise<void> {
    return this.#alone((hands) => this.#prepare(hands, this.#jwt))
  }

  /**
   * Makes the prepared authority the active one, whatever its time.
   * @param authorityId the one that is meant; whichever is prepared unless given
   * @throws StatusError FAILED_PRECONDITION if that is not prepared (any more)
   */
  activateX509(authorityId?: string): Promise<void> {
    return this.#alone((hands) => this.#activatePrepared(hands, this.#x509, authorityId))
  }

  activateJwt(authorityId?: string): Promise<void> {
    return this.#alone((hands) => this.#activatePrepared(hands, this.#jwt, authorityId))
  }

  /** Says that roots of the bundle were tainted. Hex key ids. */
  announceTaint(keyIds: readonly string[]): void {
    this.#deps.onTainted?.(keyIds)
  }

  /**
   * Publishes a JWT key for everybody in the trust domain: upstream if there is one, else in the own bundle.
   * @returns all JWT keys known there
   */
  publishJwtKey(key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    return this.#publishJwt(this.#deps.store.bundles, key)
  }

  /** The same for a WIT key. */
  publishWitKey(key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    return this.#publishWit(this.#deps.store.bundles, key)
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
    const { store, log, onTainted } = this.#deps
    return takeUpstreamBundle(
      {
        bundles: store.bundles,
        trustDomain: this.#options.trustDomain,
        log,
        replaceCa: (keyIds) => this.#alone((hands) => this.#replaceTaintedCa(hands, keyIds)),
        onTainted: (keyIds) => onTainted?.(keyIds),
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
    const seeTo = async <T>(hands: Hands, kind: Kind<T>) => {
      try {
        await this.#rotateKind(hands, kind, now)
      } catch (error) {
        failures.push(error)
        this.#failed(kind.title, error)
      }
    }
    const turn = await this.#underLease(async (hands) => {
      await seeTo(hands, this.#x509)
      // Whose keys they were could not be written down without a CA.
      if (this.#x509.pair.current.status === 'active') {
        if (this.#hasJwt) await seeTo(hands, this.#jwt)
        if (this.#hasWit) await seeTo(hands, this.#wit)
      }
      if (failures.length > 0) throw failures[0]
    })
    if (turn === 'busy') this.#deps.log.debug('Another server is rotating the authorities')
  }

  #failed(what: string, error: unknown): void {
    this.failedRotations += 1
    this.#deps.log.error(`Unable to rotate ${what}`, { error: errorMessage(error) })
  }

  get #hasJwt(): boolean {
    return !this.#options.disableJwtSvids
  }

  get #hasWit(): boolean {
    return this.#options.witKeyType !== undefined
  }

  #isDue(at: EpochSeconds): boolean {
    return (
      this.#x509.pair.isDue(at) ||
      (this.#hasJwt && this.#jwt.pair.isDue(at)) ||
      (this.#hasWit && this.#wit.pair.isDue(at)) ||
      this.#shared?.needsRewrap === true
    )
  }

  async #rotateKind<T>(hands: Hands, kind: Kind<T>, now: EpochSeconds): Promise<void> {
    const { pair } = kind
    if (pair.current.status === 'empty') await this.#prepare(hands, kind)
    if (pair.current.status !== 'active') await this.#activate(hands, kind)
    // Whoever slept long may find that the successor ended too.
    const ready = pair.next.status === 'prepared' && now < pair.next.notAfter
    if (!ready && now > preparationTime(pair.current)) await this.#prepare(hands, kind)
    if (pair.next.status === 'prepared' && now > activationTime(pair.current)) await this.#swap(hands, kind)
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
      await this.#journal.reload(store.journals, () => keyManager.getKeys())
      await this.#takeUp()
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
    if (await this.#journal.reload(store.journals, () => keyManager.getKeys())) await this.#takeUp()
    this.#readAt = now
  }

  #isFresh(now: EpochSeconds): boolean {
    return Math.abs(now - this.#readAt) < FRESH_SECONDS
  }

  /** What the CA asks before it signs. undefined: what it has is fresh. */
  #lookFirst(): Promise<void> | undefined {
    const now = epochSeconds(this.#deps.clock)
    if (now < this.#leasedUntil && this.#isUsable(now)) return undefined
    // What cannot be made is not tried for each signature.
    if (now === this.#lookedAt || (this.#isFresh(now) && this.#isUsable(now))) return this.#looking
    this.#looking ??= this.#look(now)
      .then(() => {
        this.#lookedAt = now
      })
      .finally(() => {
        this.#looking = undefined
      })
    return this.#looking
  }

  #isUsable(now: EpochSeconds): boolean {
    const usable = ({ current }: SlotPair<unknown>) => current.status === 'active' && now < current.notAfter
    return (
      usable(this.#x509.pair) && (!this.#hasJwt || usable(this.#jwt.pair)) && (!this.#hasWit || usable(this.#wit.pair))
    )
  }

  async #look(now: EpochSeconds): Promise<void> {
    await this.refresh()
    if (!this.#isDue(now - OVERDUE_SECONDS)) return
    try {
      await this.rotate()
    } catch (error) {
      // Logged already; what there is may still be good for signing.
      if (now >= this.#x509.pair.current.notAfter) throw error
    }
  }

  async #prepare<T>(hands: Hands, kind: Kind<T>): Promise<void> {
    const { clock, log } = this.#deps
    const { letter } = kind.pair.toPrepare
    log.debug(`Preparing ${kind.title}`, { slot: letter })
    const signer = await hands.keyManager.generateKey(`${KEY_NAMES[kind.name]}-${letter}`, kind.keyType)
    const slot = await kind.make(hands, letter, signer, epochSeconds(clock))
    kind.pair.put(slot)
    log.info(`${kind.title} prepared`, {
      ...logFields(slot),
      ...(kind.name === 'x509'
        ? { self_signed: !this.hasUpstream, upstream_authority_id: slot.upstreamAuthorityId }
        : {}),
    })
  }

  async #makeX509({ store }: Hands, letter: 'A' | 'B', signer: Signer, now: EpochSeconds): Promise<Slot<X509Ca>> {
    const { upstream, verify, random } = this.#deps
    const { trustDomain, caSubject: subject, caTtlSeconds: ttlSeconds } = this.#options
    const made = await newX509Authority({
      letter,
      signer,
      trustDomain,
      subject,
      ttlSeconds,
      upstream,
      now,
      verify,
      random,
    })
    await this.#journal.append('x509CAs', made.entry, store.journals)
    await store.bundles.append({ trustDomain, x509Authorities: made.published })
    return made.slot
  }

  async #makeKey(
    { store }: Hands,
    kind: 'jwt' | 'wit',
    letter: 'A' | 'B',
    signer: Signer,
    now: EpochSeconds,
  ): Promise<Slot<JwtKey>> {
    const { random } = this.#deps
    const made = newKeyAuthority({ kind, letter, signer, ttlSeconds: this.#options.caTtlSeconds, now, random })
    await this.#journal.append(kind === 'jwt' ? 'jwtKeys' : 'witKeys', made.entry, store.journals)
    if (kind === 'jwt') await this.#publishJwt(store.bundles, made.published)
    else await this.#publishWit(store.bundles, made.published)
    return made.slot
  }

  async #activate<T>({ store }: Hands, kind: Kind<T>): Promise<void> {
    await this.#journal.activate(kind.journal, kind.pair.current.authorityId, undefined, store.journals)
    kind.pair.activateCurrent()
    this.#use(kind)
  }

  async #activatePrepared<T>(hands: Hands, kind: Kind<T>, authorityId: string | undefined): Promise<void> {
    const { next } = kind.pair
    if (next.status !== 'prepared' || (authorityId !== undefined && next.authorityId !== authorityId)) {
      throw new StatusError('FAILED_PRECONDITION', 'the authority is not prepared')
    }
    await this.#swap(hands, kind)
  }

  /** The prepared authority takes over. */
  async #swap<T>({ store }: Hands, kind: Kind<T>): Promise<void> {
    const { current, next } = kind.pair
    await this.#journal.activate(kind.journal, next.authorityId, current.authorityId, store.journals)
    kind.pair.swap()
    this.#use(kind)
  }

  #use<T>({ pair, use, title, name }: Kind<T>): void {
    use(pair.current.authority!)
    this.#deps.log.info(`${title} activated`, {
      ...logFields(pair.current),
      ...(name === 'x509' ? { upstream_authority_id: pair.current.upstreamAuthorityId } : {}),
    })
  }

  async #publishJwt(bundles: BundleStore, key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    const { upstream } = this.#deps
    const known = await this.#publishUpstream('JWT', upstream?.publishJwtKey?.bind(upstream), key)
    const { trustDomain } = this.#options
    return (await bundles.append({ trustDomain, jwtAuthorities: known ?? [key] })).jwtAuthorities
  }

  async #publishWit(bundles: BundleStore, key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    const { upstream } = this.#deps
    const known = await this.#publishUpstream('WIT', upstream?.publishWitKey?.bind(upstream), key)
    const { trustDomain } = this.#options
    return (await bundles.append({ trustDomain, witAuthorities: known ?? [key] })).witAuthorities
  }

  /** @returns what the upstream knows; undefined if it takes none of these keys */
  async #publishUpstream(
    what: 'JWT' | 'WIT',
    publish: ((key: JwtAuthority) => Promise<readonly JwtAuthority[] | undefined>) | undefined,
    key: JwtAuthority,
  ): Promise<readonly JwtAuthority[] | undefined> {
    const { upstream, log } = this.#deps
    if (!upstream) return undefined
    const known =
      publish && (await withTimeout(publish(key), PUBLISH_TIMEOUT_MS, `publishing the ${what} key upstream timed out`))
    if (known === undefined && !this.#warned.has(what)) {
      this.#warned.add(what)
      log.warn(
        `UpstreamAuthority plugin does not support ${what}-SVIDs. Workloads managed by this server may have trouble communicating with workloads outside this cluster when using ${what}-SVIDs.`,
        { plugin_name: upstream.name },
      )
    }
    return known
  }

  async #replaceTaintedCa(hands: Hands, keyIds: ReadonlySet<string>): Promise<void> {
    const { pair } = this.#x509
    const dependsOn = (slot: Slot<X509Ca>) => {
      const last = slot.authority?.upstreamChain.at(-1)
      return last !== undefined && keyIds.has(issuingKeyId(parseCertificate(last)))
    }
    if (!dependsOn(pair.current)) return
    if (pair.next.status !== 'prepared' || dependsOn(pair.next)) await this.#prepare(hands, this.#x509)
    await this.#swap(hands, this.#x509)
  }

  /** Fills the slots with what the journal says. */
  async #takeUp(): Promise<void> {
    const { store, keyManager, clock, log } = this.#deps
    const loaded = loadSlots({
      journal: this.#journal,
      keys: await keyManager.getKeys(),
      bundle: await store.bundles.get(this.#options.trustDomain),
      hasUpstream: this.hasUpstream,
      now: epochSeconds(clock),
    })
    this.#x509 = this.#filled(this.#x509, loaded.x509)
    if (this.#hasJwt) this.#jwt = this.#filled(this.#jwt, loaded.jwt)
    if (this.#hasWit) this.#wit = this.#filled(this.#wit, loaded.wit)
    log.debug('Authorities taken up from the journal')
  }

  #filled<T>(kind: Kind<T>, pair: SlotPair<T>): Kind<T> {
    const filled = { ...kind, pair }
    const { status, authorityId } = pair.current
    const before = kind.pair.current
    if (status === 'active' && (before.status !== 'active' || before.authorityId !== authorityId)) this.#use(filled)
    return filled
  }

  /** One change of the slots at a time. */
  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#turn.then(task, task)
    this.#turn = run.catch(() => {})
    return run
  }
}

function busy(): StatusError {
  return new StatusError('UNAVAILABLE', 'another server is changing the authorities of the trust domain; try again')
}

function logFields(slot: Slot<unknown>) {
  return {
    slot: slot.letter,
    issued_at: new Date(slot.issuedAt * 1000).toISOString(),
    expiration: new Date(slot.notAfter * 1000).toISOString(),
    local_authority_id: slot.authorityId,
  }
}

function withTimeout<T>(work: Promise<T>, ms: number, message: string): Promise<T> {
  return Promise.race([
    work,
    new Promise<never>((_, reject) => {
      AbortSignal.timeout(ms).addEventListener('abort', () => reject(new StatusError('DEADLINE_EXCEEDED', message)))
    }),
  ])
}
