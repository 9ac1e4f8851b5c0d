import { base64Url } from '../core/base64.ts'
import type { Certificate } from '../core/certificate.ts'
import { parseCertificate } from '../core/certificate.ts'
import { type Clock, type EpochSeconds, epochSeconds } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import { type JwtSigner, signClaims, signJwtSvid } from '../core/jwt-svid.ts'
import type { Signer } from '../core/key-type.ts'
import type { CredentialComposer, X509Attributes } from '../core/plugin.ts'
import { type SpiffeId, serverId, trustDomainId } from '../core/spiffe-id.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { signWitSvid, type WitKey } from '../core/wit-svid.ts'
import { type DistinguishedName, decodeName, encodeName, isEmptyName } from '../core/x509-name.ts'
import {
  BACKDATE_SECONDS,
  type CertificateProfile,
  type Issuer,
  issuerOf,
  randomSerial,
  SVID_SUBJECT,
  serialDecimal,
  signCertificate,
} from '../core/x509-svid.ts'
import { composeJwt, composeX509 } from './composition.ts'

/** A CA certificate with its key. */
export interface X509Ca {
  readonly signer: Signer
  readonly certificate: Certificate
  /** DER, the CA certificate first, root not in it; empty for a self-signed CA. Appended to every chain. */
  readonly upstreamChain: readonly Uint8Array[]
}

/** A key that signs JWT-SVIDs or WIT-SVIDs until it ends. */
export interface JwtKey extends JwtSigner {
  readonly notAfter: EpochSeconds
}

/** A certificate just issued. */
export interface IssuedX509 {
  /** DER, leaf first, root not in it. */
  readonly chain: readonly Uint8Array[]
  readonly expiresAt: EpochSeconds
  /** Decimal. */
  readonly serialNumber: string
}

export interface IssuedJwt {
  readonly token: string
  readonly issuedAt: EpochSeconds
  readonly expiresAt: EpochSeconds
}

/** Lifetimes in seconds. */
export interface CaOptions {
  readonly trustDomain: TrustDomain
  readonly x509SvidTtlSeconds: number
  readonly jwtSvidTtlSeconds: number
  readonly agentTtlSeconds: number
  readonly caTtlSeconds: number
  /** Absent: tokens have no `iss`. */
  readonly jwtIssuer?: string
  /** The same for WIT-SVIDs. */
  readonly witIssuer?: string
  readonly clock: Clock
  /** Fills the array it gets. */
  readonly random: (bytes: Uint8Array) => Uint8Array
  /** Asked in this order before each signature; default none. */
  readonly composers?: readonly CredentialComposer[]
}

/** Has a composer say what a certificate is to say. */
type Compose = Parameters<typeof composeX509>[2]

export interface WorkloadX509Request {
  readonly id: SpiffeId
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Uint8Array
  /** 0: the default. */
  readonly ttlSeconds: number
  /** Shortens what `ttlSeconds` or the default would give. */
  readonly atMostSeconds?: number
  readonly dnsNames?: readonly string[]
  /** DER of a Name to use instead of C=US, O=SPIRE. */
  readonly subject?: Uint8Array
}

export interface WorkloadJwtRequest {
  readonly id: SpiffeId
  readonly audience: readonly string[]
  /** 0: the default. */
  readonly ttlSeconds: number
  /** Shortens what `ttlSeconds` or the default would give. */
  readonly atMostSeconds?: number
  readonly includeJti?: boolean
}

export interface WorkloadWitRequest {
  readonly id: SpiffeId
  /** The key that the token is bound to. */
  readonly jwk: WitKey
  /** 0: an hour. */
  readonly ttlSeconds: number
  /** Shortens what `ttlSeconds` or the default would give. */
  readonly atMostSeconds?: number
}

const WIT_SVID_TTL_SECONDS = 3600

/**
 * Signs with the active authorities. Which ones these are is the business of rotation; nothing is kept here but them.
 * @see server.md 3 and 4
 */
export class Ca {
  readonly #options: CaOptions
  #x509: (X509Ca & { readonly issuer: Issuer }) | undefined
  #jwt: JwtKey | undefined
  #wit: JwtKey | undefined
  #look: (() => Promise<void> | undefined) | undefined

  constructor(options: CaOptions) {
    this.#options = options
  }

  get x509(): X509Ca | undefined {
    return this.#x509
  }

  setX509(ca: X509Ca): void {
    this.#x509 = { ...ca, issuer: issuerOf(ca.signer, ca.certificate.subject, ca.certificate.subjectKeyId) }
  }

  setJwt(key: JwtKey): void {
    this.#jwt = key
  }

  /**
   * Has something looked at before each signature: whether other replicas that share the keys have changed the authorities. A
   * promise is waited for; its failure is the signature's.
   */
  lookFirst(look: () => Promise<void> | undefined): void {
    this.#look = look
  }

  setWit(key: JwtKey): void {
    this.#wit = key
  }

  signServerX509(spki: Uint8Array): Promise<IssuedX509> {
    const { trustDomain, x509SvidTtlSeconds } = this.#options
    return this.#sign('svid', serverId(trustDomain), spki, x509SvidTtlSeconds, SVID_SUBJECT, [], (composer, said) =>
      composer.composeServerX509Svid?.(said),
    )
  }

  signAgentX509(id: SpiffeId, spki: Uint8Array): Promise<IssuedX509> {
    return this.#sign('svid', id, spki, this.#options.agentTtlSeconds, SVID_SUBJECT, [], (composer, said) =>
      composer.composeAgentX509Svid?.(id, spki, said),
    )
  }

  signWorkloadX509(request: WorkloadX509Request): Promise<IssuedX509> {
    const ttlSeconds = ttlOf(request, this.#options.x509SvidTtlSeconds)
    const { id, spki, dnsNames = [] } = request
    return this.#sign('svid', id, spki, ttlSeconds, workloadSubject(request), dnsNames, (composer, said) =>
      composer.composeWorkloadX509Svid?.(id, spki, said),
    )
  }

  /** What the certificate of a CA of ours is to say. */
  composeCa(subject: DistinguishedName): Promise<X509Attributes> {
    const said = { subject, dnsNames: [], policies: [], extraExtensions: [] }
    return composeX509(this.#options.composers ?? [], said, askForCa)
  }

  /** A CA for a server below this one. Its subject is ours, with an OU that says how deep it is. */
  async signDownstreamCa(spki: Uint8Array, preferredTtlSeconds: number): Promise<IssuedX509> {
    await this.#look?.()
    const ca = this.#requireX509()
    const depth = Math.max(1, ca.upstreamChain.length)
    const subject = encodeName({ ...decodeName(ca.certificate.subject), organizationalUnit: [`DOWNSTREAM-${depth}`] })
    const ttlSeconds = preferredTtlSeconds > 0 ? preferredTtlSeconds : this.#options.caTtlSeconds
    return this.#sign('ca', trustDomainId(this.#options.trustDomain), spki, ttlSeconds, subject, [], askForCa)
  }

  async signJwt(request: WorkloadJwtRequest): Promise<IssuedJwt> {
    const looking = this.#look?.()
    if (looking) await looking
    const key = this.#jwt
    if (!key) throw new StatusError('INTERNAL', 'JWT key is not available for signing')
    const audience = request.audience.filter((name) => name !== '')
    if (audience.length === 0) throw new StatusError('INVALID_ARGUMENT', 'invalid JWT-SVID audience: cannot be empty')
    const { clock, jwtIssuer, jwtSvidTtlSeconds, random } = this.#options
    const issuedAt = epochSeconds(clock)
    const expiresAt = Math.min(issuedAt + ttlOf(request, jwtSvidTtlSeconds), key.notAfter)
    const claims = {
      aud: audience,
      exp: expiresAt,
      iat: issuedAt,
      sub: request.id,
      ...(jwtIssuer ? { iss: jwtIssuer } : {}),
      ...(request.includeJti ? { jti: base64Url(uuidBytes(random)) } : {}),
    }
    const { composers = [] } = this.#options
    if (composers.length === 0) return { token: await signJwtSvid(claims, key), issuedAt, expiresAt }
    const composed = await composeJwt(composers, claims)
    return { token: await signClaims(composed, key), issuedAt, expiresAt: composed.exp }
  }

  async signWit(request: WorkloadWitRequest): Promise<IssuedJwt> {
    const { id, jwk } = request
    const looking = this.#look?.()
    if (looking) await looking
    const key = this.#wit
    if (!key) throw new StatusError('INTERNAL', 'WIT key is not available for signing')
    const { clock, witIssuer } = this.#options
    const issuedAt = epochSeconds(clock)
    const expiresAt = Math.min(issuedAt + ttlOf(request, WIT_SVID_TTL_SECONDS), key.notAfter)
    const claims = { jwk, exp: expiresAt, iat: issuedAt, sub: id, ...(witIssuer ? { iss: witIssuer } : {}) }
    return { token: await signWitSvid(claims, key), issuedAt, expiresAt }
  }

  async #sign(
    kind: CertificateProfile['kind'],
    id: SpiffeId,
    spki: Uint8Array,
    ttlSeconds: number,
    subject: Uint8Array,
    dnsNames: readonly string[],
    ask: Compose,
  ): Promise<IssuedX509> {
    const looking = this.#look?.()
    if (looking) await looking
    const ca = this.#requireX509()
    const { clock, random, composers = [] } = this.#options
    const composed =
      composers.length === 0 ? undefined : await composeX509(composers, attributesOf(subject, dnsNames), ask)
    const now = epochSeconds(clock)
    const expiresAt = Math.min(now + ttlSeconds, ca.certificate.notAfter)
    const serial = randomSerial(random)
    const der = await signCertificate(
      {
        kind,
        serial,
        spki,
        notBefore: now - BACKDATE_SECONDS,
        notAfter: expiresAt,
        uri: id,
        ...(composed ? { ...composed, subject: encodeName(composed.subject) } : { subject, dnsNames }),
      },
      ca.issuer,
    )
    return { chain: [der, ...ca.upstreamChain], expiresAt, serialNumber: serialDecimal(serial) }
  }

  #requireX509() {
    if (!this.#x509) throw new StatusError('INTERNAL', 'X509 CA is not available for signing')
    return this.#x509
  }
}

const askForCa: Compose = (composer, said) => composer.composeServerX509Ca?.(said)

function attributesOf(subject: Uint8Array, dnsNames: readonly string[]): X509Attributes {
  return { subject: decodeName(subject), dnsNames, policies: [], extraExtensions: [] }
}

function ttlOf(
  { ttlSeconds, atMostSeconds }: { readonly ttlSeconds: number; readonly atMostSeconds?: number },
  defaultSeconds: number,
): number {
  const wanted = ttlSeconds > 0 ? ttlSeconds : defaultSeconds
  return atMostSeconds === undefined ? wanted : Math.min(wanted, atMostSeconds)
}

/** The CSR's subject if it has one; the first DNS name becomes the common name in any case. */
function workloadSubject({ subject, dnsNames }: WorkloadX509Request): Uint8Array {
  const base = subject && !isEmptyName(subject) ? subject : SVID_SUBJECT
  const commonName = dnsNames?.[0]
  if (base === SVID_SUBJECT && commonName === undefined) return SVID_SUBJECT
  return encodeName({ ...decodeName(base), ...(commonName === undefined ? {} : { commonName }) })
}

function uuidBytes(random: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const bytes = random(new Uint8Array(16))
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return bytes
}

export interface SelfSignedCaRequest {
  readonly trustDomain: TrustDomain
  readonly signer: Signer
  /** `serialNumber` is added by the one who signs, if it is not there. */
  readonly subject: Parameters<typeof encodeName>[0]
  readonly notAfter: EpochSeconds
  readonly now: EpochSeconds
  readonly random: (bytes: Uint8Array) => Uint8Array
  /** Says what the certificate is to say; default what it is told. */
  readonly compose?: (subject: DistinguishedName) => Promise<X509Attributes>
}

/** Makes a root: a CA certificate that its own key signs. */
export async function selfSignCa(request: SelfSignedCaRequest): Promise<X509Ca> {
  const { signer, now } = request
  const serial = randomSerial(request.random)
  const wanted = { ...request.subject, serialNumber: request.subject.serialNumber || serialDecimal(serial) }
  const composed = await request.compose?.(wanted)
  const subject = encodeName(composed?.subject ?? wanted)
  const der = await signCertificate(
    {
      kind: 'ca',
      serial,
      ...(composed ? { policies: composed.policies, extraExtensions: composed.extraExtensions } : {}),
      subject,
      spki: signer.publicKey,
      notBefore: now - BACKDATE_SECONDS,
      notAfter: request.notAfter,
      uri: trustDomainId(request.trustDomain),
    },
    issuerOf(signer, subject),
  )
  return { signer, certificate: parseCertificate(der), upstreamChain: [] }
}
