import { Status } from '../../proto/spire/server/journal.ts'
import type { Bundle, JwtAuthority, X509Authority } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import { type Clock, epochSeconds } from '../core/clock.ts'
import { createCsr } from '../core/csr.ts'
import { equalBytes, hex } from '../core/der.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import { jwtSigner } from '../core/jwt-svid.ts'
import type { KeyType } from '../core/key-type.ts'
import type { Log } from '../core/log.ts'
import { issuingKeyId, verifyX509Svid } from '../core/path-validation.ts'
import type { KeyManager, UpstreamAuthority } from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { trustDomainId } from '../core/spiffe-id.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { type DistinguishedName, encodeName } from '../core/x509-name.ts'
import { issuerOf, randomSerial, serialDecimal, signCertificate } from '../core/x509-svid.ts'
import { type Ca, type JwtKey, selfSignCa, type X509Ca } from './ca.ts'
import { Journal } from './journal.ts'
import { activationTime, preparationTime, type Slot, SlotPair } from './slots.ts'

export interface CaManagerOptions {
  readonly trustDomain: TrustDomain
  readonly caTtlSeconds: number
  readonly caKeyType: KeyType
  readonly jwtKeyType: KeyType
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

const JWT_KEY_ID_LENGTH = 32
const KEY_ID_ALPHABET = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'
const PUBLISH_TIMEOUT_MS = 5000

/**
 * The life of the authorities: two slots each for X.509 and JWT, prepared, activated and left behind in turn. Trust goes ahead of
 * use: an authority is in the bundle before it signs anything.
 * @see server.md 5
 */
export class CaManager {
  readonly #options: CaManagerOptions
  readonly #deps: CaManagerDeps
  readonly #x509 = new SlotPair<X509Ca>()
  readonly #jwt = new SlotPair<JwtKey>()
  readonly #journal: Journal
  #turn: Promise<unknown> = Promise.resolve()
  #warnedAboutJwt = false
  /** Rotations that failed since the start; more than ten make the server unhealthy. */
  failedRotations = 0

  private constructor(options: CaManagerOptions, deps: CaManagerDeps, journal: Journal) {
    this.#options = options
    this.#deps = deps
    this.#journal = journal
  }

  /** Takes up the authorities of the last run, as far as they are still good. Nothing is made here. */
  static async load(options: CaManagerOptions, deps: CaManagerDeps): Promise<CaManager> {
    const journal = await Journal.load(deps.store.journals, deps.keyManager)
    const manager = new CaManager(options, deps, journal)
    deps.log.info('Journal loaded', { x509_cas: journal.x509Entries.length, jwt_keys: journal.jwtEntries.length })
    await manager.#takeUp()
    return manager
  }

  get x509Slots(): { readonly current: Slot<X509Ca>; readonly next: Slot<X509Ca> } {
    return this.#x509
  }

  get jwtSlots(): { readonly current: Slot<JwtKey>; readonly next: Slot<JwtKey> } {
    return this.#jwt
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
   * @throws Error of the first kind that failed; the other kind was still seen to, unless no CA can sign
   */
  rotate(): Promise<void> {
    return this.#inTurn(() => this.#rotate())
  }

  prepareX509(): Promise<void> {
    return this.#inTurn(() => this.#prepareX509())
  }

  prepareJwt(): Promise<void> {
    return this.#inTurn(() => this.#prepareJwt())
  }

  /** Makes the prepared authority the active one, whatever its time. */
  activateX509(): Promise<void> {
    return this.#inTurn(() => this.#swapX509())
  }

  activateJwt(): Promise<void> {
    return this.#inTurn(() => this.#swapJwt())
  }

  /**
   * Publishes a JWT key for everybody in the trust domain: upstream if there is one, else in the own bundle.
   * @returns all JWT keys known there
   */
  async publishJwtKey(key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    const { upstream, store, log } = this.#deps
    const { trustDomain } = this.#options
    let keys: readonly JwtAuthority[] = [key]
    if (upstream?.publishJwtKey) {
      keys = await withTimeout(
        upstream.publishJwtKey(key),
        PUBLISH_TIMEOUT_MS,
        'publishing the JWT key upstream timed out',
      )
    } else if (upstream && !this.#warnedAboutJwt) {
      this.#warnedAboutJwt = true
      log.warn(
        'UpstreamAuthority plugin does not support JWT-SVIDs. Workloads managed by this server may have trouble communicating with workloads outside this cluster when using JWT-SVIDs.',
        {
          plugin_name: upstream.name,
        },
      )
    }
    const bundle = await store.bundles.append({ trustDomain, jwtAuthorities: keys })
    return bundle.jwtAuthorities
  }

  /**
   * Keeps the own bundle in step with the upstream's until the signal aborts: new roots and keys are added, roots that were
   * tainted and are gone upstream are removed, newly tainted ones make the CA below them be replaced first.
   */
  async followUpstream(signal: AbortSignal): Promise<void> {
    const { upstream } = this.#deps
    if (!upstream?.follow) return
    for await (const update of upstream.follow(signal)) await this.#takeUpstreamUpdate(update)
  }

  async #rotate(): Promise<void> {
    const now = epochSeconds(this.#deps.clock)
    let failure: unknown
    try {
      await this.#rotateKind(
        this.#x509,
        now,
        () => this.#prepareX509(),
        () => this.#activateX509(),
        () => this.#swapX509(),
      )
    } catch (error) {
      failure = error
      this.#failed('Unable to rotate X509 CA', error)
    }
    if (this.#x509.current.status !== 'empty' && !this.#options.disableJwtSvids) {
      try {
        await this.#rotateKind(
          this.#jwt,
          now,
          () => this.#prepareJwt(),
          () => this.#activateJwt(),
          () => this.#swapJwt(),
        )
      } catch (error) {
        failure ??= error
        this.#failed('Unable to rotate JWT key', error)
      }
    }
    if (failure !== undefined) throw failure
  }

  async #rotateKind<T>(
    pair: SlotPair<T>,
    now: number,
    prepare: () => Promise<void>,
    activate: () => Promise<void>,
    swap: () => Promise<void>,
  ): Promise<void> {
    if (pair.current.status === 'empty') {
      await prepare()
      await activate()
    }
    if (pair.next.status !== 'prepared' && now > preparationTime(pair.current)) await prepare()
    if (pair.next.status === 'prepared' && now > activationTime(pair.current)) await swap()
  }

  #failed(message: string, error: unknown): void {
    this.failedRotations += 1
    this.#deps.log.error(message, { error: errorMessage(error) })
  }

  async #prepareX509(): Promise<void> {
    const { keyManager, store, upstream, clock, random, log } = this.#deps
    const { caKeyType, caSubject, caTtlSeconds, trustDomain } = this.#options
    const slot = this.#x509.toPrepare
    log.debug('Preparing X509 CA', { slot: slot.letter })
    const signer = await keyManager.generateKey(`x509-CA-${slot.letter}`, caKeyType)
    const now = epochSeconds(clock)
    let authority: X509Ca
    if (upstream) {
      const subject = { ...caSubject, serialNumber: caSubject.serialNumber || serialDecimal(randomSerial(random)) }
      const csr = await createCsr({ subject: encodeName(subject), uris: [trustDomainId(trustDomain)] }, signer)
      const { caChain, upstreamRoots } = await upstream.mintX509Ca(csr, caTtlSeconds)
      authority = { signer, certificate: parseCertificate(caChain[0] ?? new Uint8Array(0)), upstreamChain: caChain }
      await this.#checkMinted(authority, upstreamRoots)
      await store.bundles.append({ trustDomain, x509Authorities: upstreamRoots })
    } else {
      authority = await selfSignCa({
        trustDomain,
        signer,
        subject: caSubject,
        notAfter: now + caTtlSeconds,
        now,
        random,
      })
      await store.bundles.append({ trustDomain, x509Authorities: [{ der: authority.certificate.der, tainted: false }] })
    }
    const { certificate } = authority
    const prepared: Slot<X509Ca> = {
      letter: slot.letter,
      status: 'prepared',
      authority,
      authorityId: hex(certificate.subjectKeyId ?? new Uint8Array(0)),
      upstreamAuthorityId: upstream ? issuingKeyId(certificate) : '',
      issuedAt: now,
      notAfter: certificate.notAfter,
    }
    this.#x509.put(prepared)
    await this.#journal.appendX509({
      slotId: prepared.letter,
      issuedAt: now,
      certificate: certificate.der,
      upstreamChain: [...authority.upstreamChain],
      status: Status.PREPARED,
      authorityId: prepared.authorityId,
      notAfter: prepared.notAfter,
      upstreamAuthorityId: prepared.upstreamAuthorityId,
    })
    log.info('X509 CA prepared', {
      ...logFields(prepared),
      self_signed: !upstream,
      upstream_authority_id: prepared.upstreamAuthorityId,
    })
  }

  /** A minted CA must be able to sign what verifies; found out now with an SVID that is thrown away, not later by workloads. */
  async #checkMinted(authority: X509Ca, upstreamRoots: readonly X509Authority[]): Promise<void> {
    const { certificate, signer, upstreamChain } = authority
    const { clock, random, verify } = this.#deps
    const uri = trustDomainId(this.#options.trustDomain)
    try {
      if (!certificate.isCa) throw new Error('invalid upstream-signed X509 CA: it is not a CA')
      if (!equalBytes(certificate.spki, signer.publicKey))
        throw new Error('invalid upstream-signed X509 CA: it is not for our key')
      if (certificate.uris.length > 1 || (certificate.uris[0] ?? uri) !== uri) {
        throw new Error(`invalid upstream-signed X509 CA: URI SAN "${certificate.uris.join(' ')}" is not "${uri}"`)
      }
      const now = epochSeconds(clock)
      const leaf = await signCertificate(
        {
          kind: 'svid',
          serial: randomSerial(random),
          subject: certificate.subject,
          spki: signer.publicKey,
          notBefore: now - 10,
          notAfter: certificate.notAfter,
          uri: `${uri}/spire/throwaway`,
        },
        issuerOf(signer, certificate.subject, certificate.subjectKeyId),
      )
      const roots = upstreamRoots.map((root) => parseCertificate(root.der))
      await verifyX509Svid({ chain: [leaf, ...upstreamChain], rootsOf: () => roots, at: now, verify }).catch(
        (error) => {
          throw new Error(`X509 CA produced an invalid X509-SVID chain: ${errorMessage(error)}`)
        },
      )
    } catch (error) {
      throw new StatusError('INTERNAL', `X509 CA minted by upstream authority is invalid: ${errorMessage(error)}`, {
        cause: error,
      })
    }
  }

  async #activateX509(): Promise<void> {
    this.#x509.activateCurrent()
    const { authority, authorityId } = this.#x509.current
    this.#deps.ca.setX509(authority!)
    await this.#journal.setStatus(authorityId, Status.ACTIVE)
    this.#deps.log.info('X509 CA activated', {
      ...logFields(this.#x509.current),
      upstream_authority_id: this.#x509.current.upstreamAuthorityId,
    })
  }

  async #swapX509(): Promise<void> {
    this.#x509.swap()
    await this.#journal.setStatus(this.#x509.next.authorityId, Status.OLD)
    await this.#activateX509()
  }

  async #prepareJwt(): Promise<void> {
    const { keyManager, clock, random, log } = this.#deps
    const slot = this.#jwt.toPrepare
    log.debug('Preparing JWT key', { slot: slot.letter })
    const now = epochSeconds(clock)
    const notAfter = now + this.#options.caTtlSeconds
    const signer = await keyManager.generateKey(`JWT-Signer-${slot.letter}`, this.#options.jwtKeyType)
    const keyId = randomKeyId(random)
    await this.publishJwtKey({ keyId, publicKey: signer.publicKey, expiresAt: notAfter, tainted: false })
    const prepared: Slot<JwtKey> = {
      letter: slot.letter,
      status: 'prepared',
      authority: { ...jwtSigner(signer, keyId), notAfter },
      authorityId: keyId,
      upstreamAuthorityId: '',
      issuedAt: now,
      notAfter,
    }
    this.#jwt.put(prepared)
    await this.#journal.appendJwt({
      slotId: prepared.letter,
      issuedAt: now,
      notAfter,
      kid: keyId,
      publicKey: signer.publicKey,
      status: Status.PREPARED,
      authorityId: keyId,
    })
    log.info('JWT key prepared', logFields(prepared))
  }

  async #activateJwt(): Promise<void> {
    this.#jwt.activateCurrent()
    this.#deps.ca.setJwt(this.#jwt.current.authority)
    await this.#journal.setStatus(this.#jwt.current.authorityId, Status.ACTIVE)
    this.#deps.log.info('JWT key activated', logFields(this.#jwt.current))
  }

  async #swapJwt(): Promise<void> {
    this.#jwt.swap()
    await this.#journal.setStatus(this.#jwt.next.authorityId, Status.OLD)
    await this.#activateJwt()
  }

  async #takeUpstreamUpdate(update: Pick<Bundle, 'x509Authorities' | 'jwtAuthorities'>): Promise<void> {
    const { store, log, onTainted } = this.#deps
    const { trustDomain } = this.#options
    const theirs = new Map(update.x509Authorities.map((root) => [keyIdOf(root), root]))
    const own = await store.bundles.get(trustDomain)
    const newlyTainted = (own?.x509Authorities ?? []).filter(
      (root) => !root.tainted && theirs.get(keyIdOf(root))?.tainted,
    )
    if (newlyTainted.length > 0) {
      const ids = newlyTainted.map(keyIdOf)
      // First a CA that does not depend on them, then the word to everybody else.
      await this.#inTurn(() => this.#replaceTaintedCa(new Set(ids)))
      await store.bundles.change(trustDomain, (bundle) => withTaint(bundle, new Set(ids)))
      log.info('X.509 authority tainted', { subject_key_id: ids.join(',') })
      onTainted?.(ids)
    }
    const revoked = new Set(
      (own?.x509Authorities ?? []).filter((root) => root.tainted && !theirs.has(keyIdOf(root))).map(keyIdOf),
    )
    if (revoked.size > 0) {
      await store.bundles.change(trustDomain, (bundle) => ({
        ...bundle,
        x509Authorities: bundle.x509Authorities.filter((root) => !revoked.has(keyIdOf(root))),
        sequenceNumber: bundle.sequenceNumber + 1,
      }))
      log.info('X.509 authority revoked', { subject_key_id: [...revoked].join(',') })
    }
    await store.bundles.append({ trustDomain, ...update })
  }

  async #replaceTaintedCa(keyIds: ReadonlySet<string>): Promise<void> {
    const dependsOn = (slot: Slot<X509Ca>) => {
      const chain = slot.authority?.upstreamChain ?? []
      const last = chain[chain.length - 1]
      return last !== undefined && keyIds.has(issuingKeyId(parseCertificate(last)))
    }
    if (!dependsOn(this.#x509.current)) return
    if (this.#x509.next.status !== 'prepared' || dependsOn(this.#x509.next)) await this.#prepareX509()
    await this.#swapX509()
  }

  async #takeUp(): Promise<void> {
    const { store, keyManager, clock, log } = this.#deps
    const now = epochSeconds(clock)
    if (!this.#journal.found) return
    const bundle = await store.bundles.get(this.#options.trustDomain)
    const roots = new Set(bundle?.x509Authorities.map((root) => hex(root.der)))
    for (const entry of this.#journal.x509Entries) {
      const letter = letterOf(entry.slotId)
      const signer = letter && (await keyManager.getKey(`x509-CA-${letter}`))
      if (!letter || !signer || entry.notAfter < now) continue
      const certificate = parseCertificate(entry.certificate)
      if (!equalBytes(certificate.spki, signer.publicKey)) continue
      if (!this.#deps.upstream && !roots.has(hex(entry.certificate))) continue
      place(this.#x509, {
        letter,
        status: statusOf(entry.status),
        authority: { signer, certificate, upstreamChain: entry.upstreamChain },
        authorityId: entry.authorityId,
        upstreamAuthorityId: entry.upstreamAuthorityId,
        issuedAt: entry.issuedAt,
        notAfter: certificate.notAfter,
      })
    }
    const keyIds = new Set(bundle?.jwtAuthorities.map((key) => key.keyId))
    for (const entry of this.#journal.jwtEntries) {
      const letter = letterOf(entry.slotId)
      const signer = letter && (await keyManager.getKey(`JWT-Signer-${letter}`))
      if (!letter || !signer || entry.notAfter < now) continue
      if (!equalBytes(entry.publicKey, signer.publicKey) || !keyIds.has(entry.kid)) continue
      place(this.#jwt, {
        letter,
        status: statusOf(entry.status),
        authority: { ...jwtSigner(signer, entry.kid), notAfter: entry.notAfter },
        authorityId: entry.authorityId,
        upstreamAuthorityId: '',
        issuedAt: entry.issuedAt,
        notAfter: entry.notAfter,
      })
    }
    settle(this.#x509)
    settle(this.#jwt)
    if (this.#x509.current.status === 'active' && now <= activationTime(this.#x509.current)) await this.#activateX509()
    else if (this.#x509.current.authority) this.#deps.ca.setX509(this.#x509.current.authority)
    if (this.#options.disableJwtSvids) return
    if (this.#jwt.current.status === 'active' && now <= activationTime(this.#jwt.current)) await this.#activateJwt()
    else if (this.#jwt.current.authority) this.#deps.ca.setJwt(this.#jwt.current.authority)
    log.debug('Authorities of the last run taken up')
  }

  /** One change of the slots at a time. */
  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#turn.then(task, task)
    this.#turn = run.catch(() => {})
    return run
  }
}

/** Places an entry by its status: the newest active one is current, the newest other one is next. */
function place<T>(pair: SlotPair<T>, slot: Slot<T>): void {
  if (slot.status === 'active') pair.current = slot
  else pair.next = slot
}

/** Sees to it that the two slots have different letters, the current one deciding. */
function settle<T>(pair: SlotPair<T>): void {
  if (pair.current.status === 'empty' && pair.next.status === 'prepared') {
    // Prepared but never activated: take it as it is, it is in the bundle.
    pair.current = { ...pair.next, status: 'active' }
    pair.next = {
      ...pair.next,
      letter: other(pair.current.letter),
      status: 'empty',
      authority: undefined,
      authorityId: '',
    }
    return
  }
  if (pair.next.letter === pair.current.letter) {
    pair.next = {
      ...pair.next,
      letter: other(pair.current.letter),
      status: 'empty',
      authority: undefined,
      authorityId: '',
    }
  }
}

function other(letter: 'A' | 'B'): 'A' | 'B' {
  return letter === 'A' ? 'B' : 'A'
}

function letterOf(slotId: string): 'A' | 'B' | undefined {
  return slotId === 'A' || slotId === 'B' ? slotId : undefined
}

function statusOf(status: Status): Slot<unknown>['status'] {
  return status === Status.ACTIVE ? 'active' : status === Status.OLD ? 'old' : 'prepared'
}

function keyIdOf(root: X509Authority): string {
  return hex(parseCertificate(root.der).subjectKeyId ?? new Uint8Array(0))
}

function withTaint(bundle: Bundle, keyIds: ReadonlySet<string>): Bundle {
  return {
    ...bundle,
    sequenceNumber: bundle.sequenceNumber + 1,
    x509Authorities: bundle.x509Authorities.map((root) =>
      keyIds.has(keyIdOf(root)) ? { ...root, tainted: true } : root,
    ),
  }
}

function randomKeyId(random: (bytes: Uint8Array) => Uint8Array): string {
  let id = ''
  while (id.length < JWT_KEY_ID_LENGTH) {
    // 248 is the largest multiple of 62 below 256: no letter comes more often than another.
    for (const byte of random(new Uint8Array(JWT_KEY_ID_LENGTH))) {
      if (byte < 248 && id.length < JWT_KEY_ID_LENGTH) id += KEY_ID_ALPHABET[byte % 62]
    }
  }
  return id
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
