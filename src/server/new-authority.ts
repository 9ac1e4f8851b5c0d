import { type JWTKeyEntry, Status, type X509CAEntry } from '../../proto/spire/server/journal.ts'
import type { JwtAuthority, X509Authority } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import { type Clock, type EpochSeconds, epochSeconds } from '../core/clock.ts'
import { createCsr } from '../core/csr.ts'
import { hex } from '../core/der.ts'
import { jwtSigner } from '../core/jwt-svid.ts'
import type { Signer } from '../core/key-type.ts'
import { issuingKeyId } from '../core/path-validation.ts'
import type { UpstreamAuthority, X509Attributes } from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { trustDomainId } from '../core/spiffe-id.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { WIT_TYPE } from '../core/wit-svid.ts'
import { type DistinguishedName, encodeName } from '../core/x509-name.ts'
import { randomSerial, serialDecimal } from '../core/x509-svid.ts'
import { type JwtKey, selfSignCa, type X509Ca } from './ca.ts'
import { checkMintedCa } from './minted-ca.ts'
import type { Slot } from './slots.ts'

/** A new authority: what goes into its slot, what the journal writes down, and what others must trust. */
export interface NewAuthority<T, E, P> {
  readonly slot: Slot<T>
  readonly entry: E
  readonly published: P
}

export interface NewX509 {
  readonly letter: 'A' | 'B'
  readonly signer: Signer
  readonly trustDomain: TrustDomain
  readonly subject: DistinguishedName
  readonly ttlSeconds: number
  readonly upstream: UpstreamAuthority | undefined
  readonly now: EpochSeconds
  /** An upstream takes its time, and may state the moment at which it signs: the CA is judged when it is there. */
  readonly clock: Clock
  readonly verify: VerifySignature
  readonly random: (bytes: Uint8Array) => Uint8Array
  /** Says what the certificate is to say. */
  readonly compose: (subject: DistinguishedName) => Promise<X509Attributes>
}

/** Makes a CA for a key: self-signed, or minted upstream and looked at. Nothing is stored. */
export async function newX509Authority(
  request: NewX509,
): Promise<NewAuthority<X509Ca, X509CAEntry, readonly X509Authority[]>> {
  const { letter, upstream, now } = request
  const { authority, published } = upstream ? await mintedCa(request, upstream) : await ownRoot(request)
  const { certificate } = authority
  const slot: Slot<X509Ca> = {
    letter,
    status: 'prepared',
    authority,
    authorityId: hex(certificate.subjectKeyId ?? new Uint8Array(0)),
    upstreamAuthorityId: upstream ? issuingKeyId(certificate) : '',
    issuedAt: now,
    notAfter: certificate.notAfter,
  }
  return {
    slot,
    entry: {
      slotId: letter,
      issuedAt: now,
      certificate: certificate.der,
      upstreamChain: [...authority.upstreamChain],
      status: Status.PREPARED,
      authorityId: slot.authorityId,
      notAfter: slot.notAfter,
      upstreamAuthorityId: slot.upstreamAuthorityId,
    },
    published,
  }
}

async function ownRoot({ trustDomain, signer, subject, ttlSeconds, now, random, compose }: NewX509) {
  const authority = await selfSignCa({ trustDomain, signer, subject, notAfter: now + ttlSeconds, now, random, compose })
  return { authority, published: [{ der: authority.certificate.der, tainted: false }] }
}

async function mintedCa(request: NewX509, upstream: UpstreamAuthority) {
  const { trustDomain, signer, ttlSeconds, clock, random, verify } = request
  // Extensions are for the upstream to decide.
  const { subject } = await request.compose({
    ...request.subject,
    serialNumber: request.subject.serialNumber || serialDecimal(randomSerial(random)),
  })
  const csr = await createCsr({ subject: encodeName(subject), uris: [trustDomainId(trustDomain)] }, signer)
  const { caChain, upstreamRoots } = await upstream.mintX509Ca(csr, ttlSeconds)
  const authority = { signer, certificate: parseCertificate(caChain[0] ?? new Uint8Array(0)), upstreamChain: caChain }
  await checkMintedCa(authority, { trustDomain, upstreamRoots, now: epochSeconds(clock), verify, random })
  return { authority, published: upstreamRoots }
}

export interface NewKey {
  readonly kind: 'jwt' | 'wit'
  readonly letter: 'A' | 'B'
  readonly signer: Signer
  readonly ttlSeconds: number
  readonly now: EpochSeconds
  readonly random: (bytes: Uint8Array) => Uint8Array
}

/** Makes a key that signs JWT-SVIDs or WIT-SVIDs out of a bare one. Nothing is stored. */
export function newKeyAuthority(request: NewKey): NewAuthority<JwtKey, JWTKeyEntry, JwtAuthority> {
  const { kind, letter, signer, now } = request
  const notAfter = now + request.ttlSeconds
  const keyId = randomKeyId(request.random)
  const { publicKey } = signer
  return {
    slot: {
      letter,
      status: 'prepared',
      authority: { ...jwtSigner(signer, keyId, kind === 'jwt' ? 'JWT' : WIT_TYPE), notAfter },
      authorityId: keyId,
      upstreamAuthorityId: '',
      issuedAt: now,
      notAfter,
    },
    entry: {
      slotId: letter,
      issuedAt: now,
      notAfter,
      kid: keyId,
      publicKey,
      status: Status.PREPARED,
      authorityId: keyId,
    },
    published: { keyId, publicKey, expiresAt: notAfter, tainted: false },
  }
}

const KEY_ID_LENGTH = 32
const KEY_ID_ALPHABET = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'

function randomKeyId(random: (bytes: Uint8Array) => Uint8Array): string {
  let id = ''
  while (id.length < KEY_ID_LENGTH) {
    // 248 is the largest multiple of 62 below 256: no letter comes more often than another.
    for (const byte of random(new Uint8Array(KEY_ID_LENGTH))) {
      if (byte < 248 && id.length < KEY_ID_LENGTH) id += KEY_ID_ALPHABET[byte % 62]
    }
  }
  return id
}
