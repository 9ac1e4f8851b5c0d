import type { JwtAuthority } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import { type Clock, type EpochSeconds, epochSeconds } from '../core/clock.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { KeyType, Signer } from '../core/key-type.ts'
import type { Log } from '../core/log.ts'
import { issuingKeyId } from '../core/path-validation.ts'
import type { KeyManager, UpstreamAuthority } from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { DistinguishedName } from '../core/x509-name.ts'
import type { Ca, JwtKey, X509Ca } from './ca.ts'
import { Journal, type JournalKind } from './journal.ts'
import { newKeyAuthority, newX509Authority } from './new-authority.ts'
import { loadSlots } from './slot-loading.ts'
import { activationTime, KEY_NAMES, preparationTime, type Slot, SlotPair } from './slots.ts'
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

export interface CaManagerDeps {
  readonly store: Pick<Store, 'bundles' | 'journals'>
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

type KindName = keyof typeof KEY_NAMES
type Pair<T> = { readonly current: Slot<T>; readonly next: Slot<T> }

/** One kind of authority: its two slots and what is particular about it. */
interface Kind<T> {
  readonly name: KindName
  /** As logs name it. */
  readonly title: string
  readonly keyType: KeyType
  readonly journal: JournalKind
  readonly pair: SlotPair<T>
  /** Makes, writes down and publishes an authority with this key, in that order, and returns its slot. */
  readonly make: (letter: 'A' | 'B', signer: Signer, now: EpochSeconds) => Promise<Slot<T>>
  /** Signs with it from now on. */
  readonly use: (authority: T) => void
}

const PUBLISH_TIMEOUT_MS = 5000

/**
 * The life of the authorities: two slots each for X.509, JWT and WIT, prepared, activated and left behind in turn. Trust goes
 * ahead of use: an authority is in the bundle before it signs anything. It is in the journal before it is in the bundle, so that
 * one that was never finished leaves nothing behind that others would trust.
 * @see server.md 5
 */
export class CaManager {
  readonly #options: CaManagerOptions
  readonly #deps: CaManagerDeps
  readonly #journal: Journal
  #x509: Kind<X509Ca>
  #jwt: Kind<JwtKey>
  #wit: Kind<JwtKey>
  #turn: Promise<unknown> = Promise.resolve()
  readonly #warned = new Set<string>()
  /** Rotations that failed since the start; more than ten make the server unhealthy. */
  failedRotations = 0

  private constructor(options: CaManagerOptions, deps: CaManagerDeps, journal: Journal) {
    this.#options = options
    this.#deps = deps
    this.#journal = journal
    const { ca } = deps
    this.#x509 = {
      name: 'x509',
      title: 'X509 CA',
      keyType: options.caKeyType,
      journal: 'x509CAs',
      pair: new SlotPair<X509Ca>(),
      make: (letter, signer, now) => this.#makeX509(letter, signer, now),
      use: (authority) => ca.setX509(authority),
    }
    this.#jwt = {
      name: 'jwt',
      title: 'JWT key',
      keyType: options.jwtKeyType,
      journal: 'jwtKeys',
      pair: new SlotPair<JwtKey>(),
      make: (letter, signer, now) => this.#makeKey('jwt', letter, signer, now),
      use: (authority) => ca.setJwt(authority),
    }
    this.#wit = {
      name: 'wit',
      title: 'WIT key',
      keyType: options.witKeyType ?? options.caKeyType,
      journal: 'witKeys',
      pair: new SlotPair<JwtKey>(),
      make: (letter, signer, now) => this.#makeKey('wit', letter, signer, now),
      use: (authority) => ca.setWit(authority),
    }
  }

  /** Takes up the authorities of the last run, as far as they are still good. Nothing is made here. */
  static async load(options: CaManagerOptions, deps: CaManagerDeps): Promise<CaManager> {
    const { store, keyManager, log } = deps
    const journal = await Journal.load(store.journals, () => keyManager.getKeys(), false)
    const manager = new CaManager(options, deps, journal)
    log.info('Journal loaded', {
      x509_cas: journal.entries('x509CAs').length,
      jwt_keys: journal.entries('jwtKeys').length,
      wit_keys: journal.entries('witKeys').length,
    })
    await manager.#takeUp()
    return manager
  }

  get x509Slots(): Pair<X509Ca> {
    return this.#x509.pair
  }

  get jwtSlots(): Pair<JwtKey> {
    return this.#jwt.pair
  }

  get witSlots(): Pair<JwtKey> {
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
   * Prepares and activates what is due. Call it every 10 seconds; late or repeated calls do no harm.
   * @throws Error of the first kind that failed; the other kinds were still seen to, unless no CA can sign
   */
  rotate(): Promise<void> {
    return this.#inTurn(() => this.#rotate())
  }

  prepareX509(): Promise<void> {
    return this.#inTurn(() => this.#prepare(this.#x509))
  }

  prepareJwt(): Promise<void> {
    return this.#inTurn(() => this.#prepare(this.#jwt))
  }

  /** Makes the prepared authority the active one, whatever its time. */
  activateX509(): Promise<void> {
    return this.#inTurn(() => this.#swap(this.#x509))
  }

  activateJwt(): Promise<void> {
    return this.#inTurn(() => this.#swap(this.#jwt))
  }

  /**
   * Publishes a JWT key for everybody in the trust domain: upstream if there is one, else in the own bundle.
   * @returns all JWT keys known there
   */
  async publishJwtKey(key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    const { upstream } = this.#deps
    const known = await this.#publishUpstream('JWT', upstream?.publishJwtKey?.bind(upstream), key)
    const { trustDomain } = this.#options
    return (await this.#deps.store.bundles.append({ trustDomain, jwtAuthorities: known ?? [key] })).jwtAuthorities
  }

  /** The same for a WIT key. */
  async publishWitKey(key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    const { upstream } = this.#deps
    const known = await this.#publishUpstream('WIT', upstream?.publishWitKey?.bind(upstream), key)
    const { trustDomain } = this.#options
    return (await this.#deps.store.bundles.append({ trustDomain, witAuthorities: known ?? [key] })).witAuthorities
  }

  /** Keeps the own bundle in step with the upstream's until the signal aborts. */
  async followUpstream(signal: AbortSignal): Promise<void> {
    const { upstream, store, log, onTainted } = this.#deps
    if (!upstream?.follow) return
    for await (const update of upstream.follow(signal)) {
      await takeUpstreamBundle(
        {
          bundles: store.bundles,
          trustDomain: this.#options.trustDomain,
          log,
          replaceCa: (keyIds) => this.#inTurn(() => this.#replaceTaintedCa(keyIds)),
          onTainted: (keyIds) => onTainted?.(keyIds),
        },
        update,
      )
    }
  }

  async #rotate(): Promise<void> {
    const now = epochSeconds(this.#deps.clock)
    const failures: unknown[] = []
    const seeTo = async <T>(kind: Kind<T>) => {
      try {
        await this.#rotateKind(kind, now)
      } catch (error) {
        failures.push(error)
        this.failedRotations += 1
        this.#deps.log.error(`Unable to rotate ${kind.title}`, { error: errorMessage(error) })
      }
    }
    await seeTo(this.#x509)
    // Whose keys they were could not be written down without a CA.
    if (this.#x509.pair.current.status === 'active') {
      if (!this.#options.disableJwtSvids) await seeTo(this.#jwt)
      if (this.#options.witKeyType) await seeTo(this.#wit)
    }
    if (failures.length > 0) throw failures[0]
  }

  async #rotateKind<T>(kind: Kind<T>, now: EpochSeconds): Promise<void> {
    const { pair } = kind
    if (pair.current.status === 'empty') await this.#prepare(kind)
    if (pair.current.status !== 'active') await this.#activate(kind)
    if (pair.next.status !== 'prepared' && now > preparationTime(pair.current)) await this.#prepare(kind)
    if (pair.next.status === 'prepared' && now > activationTime(pair.current)) await this.#swap(kind)
  }

  async #prepare<T>(kind: Kind<T>): Promise<void> {
    const { keyManager, clock, log } = this.#deps
    const { letter } = kind.pair.toPrepare
    log.debug(`Preparing ${kind.title}`, { slot: letter })
    const signer = await keyManager.generateKey(`${KEY_NAMES[kind.name]}-${letter}`, kind.keyType)
    const slot = await kind.make(letter, signer, epochSeconds(clock))
    kind.pair.put(slot)
    log.info(`${kind.title} prepared`, {
      ...logFields(slot),
      ...(kind.name === 'x509'
        ? { self_signed: !this.hasUpstream, upstream_authority_id: slot.upstreamAuthorityId }
        : {}),
    })
  }

  async #makeX509(letter: 'A' | 'B', signer: Signer, now: EpochSeconds): Promise<Slot<X509Ca>> {
    const { store, upstream, verify, random } = this.#deps
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

  async #makeKey(kind: 'jwt' | 'wit', letter: 'A' | 'B', signer: Signer, now: EpochSeconds): Promise<Slot<JwtKey>> {
    const { store, random } = this.#deps
    const made = newKeyAuthority({ kind, letter, signer, ttlSeconds: this.#options.caTtlSeconds, now, random })
    await this.#journal.append(kind === 'jwt' ? 'jwtKeys' : 'witKeys', made.entry, store.journals)
    if (kind === 'jwt') await this.publishJwtKey(made.published)
    else await this.publishWitKey(made.published)
    return made.slot
  }

  async #activate<T>(kind: Kind<T>): Promise<void> {
    const { pair } = kind
    await this.#journal.activate(kind.journal, pair.current.authorityId, undefined, this.#deps.store.journals)
    pair.activateCurrent()
    this.#use(kind)
  }

  /** The prepared authority takes over. */
  async #swap<T>(kind: Kind<T>): Promise<void> {
    const { current, next } = kind.pair
    await this.#journal.activate(kind.journal, next.authorityId, current.authorityId, this.#deps.store.journals)
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

  async #replaceTaintedCa(keyIds: ReadonlySet<string>): Promise<void> {
    const { pair } = this.#x509
    const dependsOn = (slot: Slot<X509Ca>) => {
      const last = slot.authority?.upstreamChain.at(-1)
      return last !== undefined && keyIds.has(issuingKeyId(parseCertificate(last)))
    }
    if (!dependsOn(pair.current)) return
    if (pair.next.status !== 'prepared' || dependsOn(pair.next)) await this.#prepare(this.#x509)
    await this.#swap(this.#x509)
  }

  async #takeUp(): Promise<void> {
    const { store, keyManager, clock, log } = this.#deps
    if (!this.#journal.found) return
    const loaded = loadSlots({
      journal: this.#journal,
      keys: await keyManager.getKeys(),
      bundle: await store.bundles.get(this.#options.trustDomain),
      hasUpstream: this.hasUpstream,
      now: epochSeconds(clock),
    })
    this.#x509 = { ...this.#x509, pair: loaded.x509 }
    this.#jwt = { ...this.#jwt, pair: loaded.jwt }
    this.#wit = { ...this.#wit, pair: loaded.wit }
    if (this.#x509.pair.current.status === 'active') this.#use(this.#x509)
    if (this.#jwt.pair.current.status === 'active' && !this.#options.disableJwtSvids) this.#use(this.#jwt)
    if (this.#wit.pair.current.status === 'active' && this.#options.witKeyType) this.#use(this.#wit)
    log.debug('Authorities of the last run taken up')
  }

  /** One change of the slots at a time. */
  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#turn.then(task, task)
    this.#turn = run.catch(() => {})
    return run
  }
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
