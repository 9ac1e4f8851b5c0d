import { parseCertificate } from '../core/certificate.ts'
import { type Clock, type EpochSeconds, epochSeconds } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import type { KeyType, Signer } from '../core/key-type.ts'
import type { Log } from '../core/log.ts'
import { issuingKeyId } from '../core/path-validation.ts'
import type { KeyManager, UpstreamAuthority } from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { rfc3339 } from '../core/rfc3339.ts'
import { trustDomainId } from '../core/spiffe-id.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { DistinguishedName } from '../core/x509-name.ts'
import type { Ca, JwtKey, X509Ca } from './ca.ts'
import type { Journal, JournalKind } from './journal.ts'
import type { KeyPublisher } from './key-publisher.ts'
import { newKeyAuthority, newX509Authority } from './new-authority.ts'
import { loadSlots } from './slot-loading.ts'
import { activationTime, emptySlot, KEY_NAMES, preparationTime, type Slot, SlotPair, type Slots } from './slots.ts'

export interface AuthorityOptions {
  readonly trustDomain: TrustDomain
  readonly caTtlSeconds: number
  readonly caKeyType: KeyType
  readonly jwtKeyType: KeyType
  /** Absent: no WIT-SVIDs, and no keys for them. */
  readonly witKeyType?: KeyType | undefined
  readonly caSubject: DistinguishedName
  readonly disableJwtSvids: boolean
}

export interface AuthorityDeps {
  readonly journal: Journal
  readonly publisher: KeyPublisher
  readonly upstream: UpstreamAuthority | undefined
  readonly ca: Ca
  readonly verify: VerifySignature
  readonly clock: Clock
  readonly random: (bytes: Uint8Array) => Uint8Array
  readonly log: Log
}

/** With what authorities are made: for shared keys all of it is guarded by the lease of rotation. */
export interface Hands {
  readonly store: Pick<Store, 'bundles' | 'journals'>
  readonly keyManager: KeyManager
}

/** What signs in each kind of authority. */
interface AuthorityOf {
  readonly x509: X509Ca
  readonly jwt: JwtKey
  readonly wit: JwtKey
}

export type KindName = keyof AuthorityOf

/** How logs name each kind. */
export const TITLES = { x509: 'X509 CA', jwt: 'JWT key', wit: 'WIT key' } as const

/** One kind of authority: its two slots and what is particular about it. */
interface Kind<T> {
  readonly keyType: KeyType
  readonly journal: JournalKind
  pair: SlotPair<T>
  /** Makes, writes down and publishes an authority with this key, in that order, and returns its slot. */
  readonly make: (hands: Hands, letter: 'A' | 'B', signer: Signer, now: EpochSeconds) => Promise<Slot<T>>
  /** Signs with it from now on. */
  readonly use: (authority: T) => void
}

/**
 * The authorities: two slots each for X.509, JWT and WIT, prepared, activated and left behind in turn. Trust goes ahead of use: an
 * authority is in the bundle before it signs anything. It is in the journal before it is in the bundle, so that one that was never
 * finished leaves nothing behind that others would trust.
 *
 * One step at a time, by whoever may take it: see CaManager.
 * @see server.md 5
 */
export class Authorities {
  readonly #options: AuthorityOptions
  readonly #deps: AuthorityDeps
  readonly #kinds: { readonly [K in KindName]: Kind<AuthorityOf[K]> }
  /** The kinds that there are here, in the order in which they are seen to: the CA first. */
  readonly names: readonly KindName[]

  constructor(options: AuthorityOptions, deps: AuthorityDeps) {
    this.#options = options
    this.#deps = deps
    const { ca } = deps
    this.#kinds = {
      x509: {
        keyType: options.caKeyType,
        journal: 'x509CAs',
        pair: new SlotPair<X509Ca>(),
        make: (hands, letter, signer, now) => this.#makeX509(hands, letter, signer, now),
        use: (authority) => ca.setX509(authority),
      },
      jwt: {
        keyType: options.jwtKeyType,
        journal: 'jwtKeys',
        pair: new SlotPair<JwtKey>(),
        make: (hands, letter, signer, now) => this.#makeKey(hands, 'jwt', letter, signer, now),
        use: (authority) => ca.setJwt(authority),
      },
      wit: {
        keyType: options.witKeyType ?? options.caKeyType,
        journal: 'witKeys',
        pair: new SlotPair<JwtKey>(),
        make: (hands, letter, signer, now) => this.#makeKey(hands, 'wit', letter, signer, now),
        use: (authority) => ca.setWit(authority),
      },
    }
    this.names = [
      'x509',
      ...(options.disableJwtSvids ? [] : (['jwt'] as const)),
      ...(options.witKeyType === undefined ? [] : (['wit'] as const)),
    ]
  }

  get x509Slots(): Slots<X509Ca> {
    return this.#kinds.x509.pair
  }

  get jwtSlots(): Slots<JwtKey> {
    return this.#kinds.jwt.pair
  }

  get witSlots(): Slots<JwtKey> {
    return this.#kinds.wit.pair
  }

  /** Whether something has to be made or activated at that moment. */
  isDue(at: EpochSeconds): boolean {
    return this.names.some((name) => this.#kinds[name].pair.isDue(at))
  }

  /** Whether there is something of each kind to sign with. */
  isUsable(now: EpochSeconds): boolean {
    return this.names.every((name) => {
      const { current } = this.#kinds[name].pair
      return current.status === 'active' && now < current.notAfter
    })
  }

  /** Fills the slots with what the journal says, with keys that were read after it. */
  async takeUp({ bundles }: Pick<Store, 'bundles'>, keys: ReadonlyMap<string, Signer>): Promise<void> {
    const { journal, upstream, verify, clock, log } = this.#deps
    const loaded = await loadSlots({
      journal,
      keys,
      bundle: await bundles.get(this.#options.trustDomain),
      hasUpstream: upstream !== undefined,
      verify,
      now: epochSeconds(clock),
    })
    for (const name of this.names) this.#fill(name, loaded[name])
    log.debug('Authorities taken up from the journal')
  }

  /** Prepares and activates what of a kind is due. */
  async rotate(hands: Hands, name: KindName, now: EpochSeconds): Promise<void> {
    const { pair } = this.#kinds[name]
    if (pair.current.status === 'empty') await this.prepare(hands, name)
    if (pair.current.status !== 'active') await this.#activate(hands, name)
    // Whoever slept long may find that the successor ended too.
    const ready = pair.next.status === 'prepared' && now < pair.next.notAfter
    if (!ready && now > preparationTime(pair.current)) await this.prepare(hands, name)
    if (pair.next.status === 'prepared' && now > activationTime(pair.current)) await this.#swap(hands, name)
  }

  async prepare<K extends KindName>(hands: Hands, name: K): Promise<void> {
    const { upstream, clock, log } = this.#deps
    const kind: Kind<AuthorityOf[K]> = this.#kinds[name]
    const { letter } = kind.pair.toPrepare
    // The key that is made takes the place of the one there: whatever comes in between, nothing must be activated with another's key.
    kind.pair.put(emptySlot(letter))
    log.debug(`Preparing ${TITLES[name]}`, { slot: letter })
    const signer = await hands.keyManager.generateKey(`${KEY_NAMES[name]}-${letter}`, kind.keyType)
    const slot = await kind.make(hands, letter, signer, epochSeconds(clock))
    kind.pair.put(slot)
    log.info(`${TITLES[name]} prepared`, {
      ...logFields(slot),
      ...(name === 'x509' ? { self_signed: !upstream, upstream_authority_id: slot.upstreamAuthorityId } : {}),
    })
  }

  /** @throws StatusError FAILED_PRECONDITION if this authority is not prepared (any more) */
  async activatePrepared(hands: Hands, name: KindName, authorityId: string): Promise<void> {
    const { next } = this.#kinds[name].pair
    if (next.status !== 'prepared' || next.authorityId !== authorityId) {
      throw new StatusError('FAILED_PRECONDITION', 'the authority is not prepared')
    }
    await this.#swap(hands, name)
  }

  /** Whether the active CA depends on one of these roots (hex key ids). */
  dependsOn(keyIds: ReadonlySet<string>): boolean {
    return dependsOn(this.#kinds.x509.pair.current, keyIds)
  }

  /** Leaves a CA that depends on one of these roots (hex key ids). */
  async replaceTaintedCa(hands: Hands, keyIds: ReadonlySet<string>): Promise<void> {
    const { pair } = this.#kinds.x509
    if (!dependsOn(pair.current, keyIds)) return
    if (pair.next.status !== 'prepared' || dependsOn(pair.next, keyIds)) await this.prepare(hands, 'x509')
    await this.#swap(hands, 'x509')
  }

  async #makeX509({ store }: Hands, letter: 'A' | 'B', signer: Signer, now: EpochSeconds): Promise<Slot<X509Ca>> {
    const { journal, upstream, ca, clock, verify, random } = this.#deps
    const { trustDomain, caSubject: subject, caTtlSeconds: ttlSeconds } = this.#options
    const made = await newX509Authority({
      letter,
      signer,
      trustDomain,
      subject,
      ttlSeconds,
      upstream,
      now,
      clock,
      verify,
      random,
      compose: (said) => ca.composeCa(said),
    })
    // Roots of an upstream are trusted whatever becomes of this CA. A root of our own is not, so it is written down first: what the journal
    // knows and the bundle does not is never taken up.
    const publish = () => store.bundles.append({ trustDomain, x509Authorities: made.published })
    if (upstream) await publish()
    await journal.append(this.#kinds.x509.journal, made.entry, store.journals)
    if (!upstream) await publish()
    return made.slot
  }

  async #makeKey(
    { store }: Hands,
    kind: 'jwt' | 'wit',
    letter: 'A' | 'B',
    signer: Signer,
    now: EpochSeconds,
  ): Promise<Slot<JwtKey>> {
    const { journal, publisher, random } = this.#deps
    const made = newKeyAuthority({ kind, letter, signer, ttlSeconds: this.#options.caTtlSeconds, now, random })
    await journal.append(this.#kinds[kind].journal, made.entry, store.journals)
    if (kind === 'jwt') await publisher.publishJwt(store.bundles, made.published)
    else await publisher.publishWit(store.bundles, made.published)
    return made.slot
  }

  async #activate({ store }: Hands, name: KindName): Promise<void> {
    const { journal, pair } = this.#kinds[name]
    await this.#deps.journal.activate(journal, pair.current.authorityId, undefined, store.journals)
    pair.activateCurrent()
    this.#use(name, pair.current)
  }

  /** The prepared authority takes over. */
  async #swap({ store }: Hands, name: KindName): Promise<void> {
    const { journal, pair } = this.#kinds[name]
    await this.#deps.journal.activate(journal, pair.next.authorityId, pair.current.authorityId, store.journals)
    pair.swap()
    this.#use(name, pair.current)
  }

  #fill<K extends KindName>(name: K, pair: SlotPair<AuthorityOf[K]>): void {
    const kind: Kind<AuthorityOf[K]> = this.#kinds[name]
    const { status, authorityId } = pair.current
    const before = kind.pair.current
    if (status === 'active' && (before.status !== 'active' || before.authorityId !== authorityId)) {
      this.#use(name, pair.current)
    }
    kind.pair = pair
  }

  #use<K extends KindName>(name: K, slot: Slot<AuthorityOf[K]>): void {
    const kind: Kind<AuthorityOf[K]> = this.#kinds[name]
    kind.use(slot.authority!)
    this.#deps.log.info(`${TITLES[name]} activated`, {
      ...logFields(slot),
      ...(name === 'x509' ? { upstream_authority_id: slot.upstreamAuthorityId } : {}),
    })
    if (name === 'x509')
      this.#deps.log.debug('Successfully rotated X.509 CA', {
        trust_domain_id: trustDomainId(this.#options.trustDomain),
        ttl: slot.notAfter - epochSeconds(this.#deps.clock),
      })
  }
}

function dependsOn({ authority }: Slot<X509Ca>, keyIds: ReadonlySet<string>): boolean {
  const last = authority?.upstreamChain.at(-1)
  return last !== undefined && keyIds.has(issuingKeyId(parseCertificate(last)))
}

function logFields(slot: Slot<unknown>) {
  return {
    slot: slot.letter,
    issued_at: rfc3339(slot.issuedAt),
    expiration: rfc3339(slot.notAfter),
    local_authority_id: slot.authorityId,
  }
}
