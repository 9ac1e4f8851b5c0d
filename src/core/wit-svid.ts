import type { JwtAuthority } from './bundle.ts'
import type { EpochSeconds } from './clock.ts'
import { isOnCurve } from './curve-point.ts'
import { errorMessage, StatusError } from './error.ts'
import { type Jwk, jwkOf, spkiOfJwk } from './jwk.ts'
import { authorityOf, fitsJws, type JwtSigner, parseJwt, signClaims, verifiesJwt } from './jwt-svid.ts'
import { type PublicKeyInfo, parsePublicKey, type VerifySignature } from './public-key.ts'
import { parseSpiffeId, type SpiffeId, trustDomainOf } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

/** The `typ` of a WIT-SVID; a token without it is none. */
export const WIT_TYPE = 'wit+jwt'

/** Claims of a WIT-SVID. Times are whole Unix seconds. */
export interface WitSvidClaims {
  readonly jwk: WitKey
  readonly exp: EpochSeconds
  readonly iat: EpochSeconds
  readonly iss?: string
  readonly sub: SpiffeId
}

/** The workload's public key and the one algorithm that it signs with. */
export type WitKey = Jwk & { readonly alg: string }

/**
 * Reads the key that a WIT-SVID is to be bound to.
 * @param spki DER SubjectPublicKeyInfo
 * @throws DerError if it is no public key
 */
export function parseWitKey(spki: Uint8Array): PublicKeyInfo {
  const key = parsePublicKey(spki)
  if (key.kind === 'ec' && !isOnCurve(key.curve, key.point)) {
    throw new StatusError('INVALID_ARGUMENT', 'x509: failed to unmarshal elliptic curve point')
  }
  return key
}

/**
 * Refuses RSA keys that are too short to mean anything, or longer than verifiers take.
 * @throws StatusError INVALID_ARGUMENT
 */
export function requireKeySize(key: PublicKeyInfo): void {
  if (key.kind === 'rsa' && (key.bits < 2048 || key.bits > 8192)) {
    throw invalid(`RSA key has ${key.bits} bits; 2048 to 8192 are allowed`)
  }
}

/**
 * The JWK that a WIT-SVID carries. Members in the order of SPIRE's.
 * @throws StatusError INVALID_ARGUMENT with SPIRE's texts if key and algorithm do not belong together
 */
export function witKeyOf(key: PublicKeyInfo, algorithm: string): WitKey {
  if (key.kind === 'ed25519') throw invalid("unsupported key type 'ed25519.PublicKey'")
  requireKeySize(key)
  if (!fitsJws(key, algorithm)) {
    const name = key.kind === 'rsa' ? 'RSA' : `ec-${key.curve.replace('-', '').toLowerCase()}`
    throw invalid(`unsupported signing algorithm for ${name} key: ${algorithm}`)
  }
  const { kty, crv, ...numbers } = jwkOf(key.spki)
  return { kty, ...(crv === undefined ? {} : { crv }), alg: algorithm, ...numbers }
}

/**
 * Signs a WIT-SVID. Members are in alphabetical order.
 * @param key made by jwtSigner with the type `wit+jwt`
 * @see WIT-SVID 2 and 3
 */
export async function signWitSvid(claims: WitSvidClaims, key: JwtSigner): Promise<string> {
  const { jwk, exp, iat, iss, sub } = claims
  return signClaims({ cnf: { jwk }, exp, iat, iss, sub }, key)
}

export interface WitValidation {
  readonly token: string
  /** WIT authorities of a trust domain; undefined if it is not known. */
  readonly authoritiesOf: (trustDomain: TrustDomain) => readonly JwtAuthority[] | undefined
  readonly at: EpochSeconds
  readonly verify: VerifySignature
}

export interface ValidWitSvid {
  readonly spiffeId: SpiffeId
  /** The key whose possession the holder must prove: a WIT-SVID by itself proves nothing. */
  readonly key: PublicKeyInfo
  /** The only algorithm that the proof may be made with. */
  readonly algorithm: string
  readonly expiresAt: EpochSeconds
  readonly claims: Readonly<Record<string, unknown>>
}

/**
 * Validates a WIT-SVID. Times have no leeway. The caller must then verify a proof of possession with `key` and `algorithm`.
 * @throws StatusError INVALID_ARGUMENT
 * @see WIT-SVID 4, WIMSE Workload Credentials (draft 00) 3.1
 */
export async function validateWitSvid(input: WitValidation): Promise<ValidWitSvid> {
  const parsed = parseJwt(input.token)
  if (parsed.type?.toLowerCase() !== WIT_TYPE) throw invalid(`token type is not "${WIT_TYPE}"`)
  const { sub, exp, nbf, cnf } = parsed.claims
  if (typeof sub !== 'string' || sub === '') throw invalid('token missing subject claim')
  const spiffeId = subject(sub)
  const authority = authorityOf(parsed, trustDomainOf(spiffeId), input.authoritiesOf)
  if (!(await verifiesJwt(parsed, authority, input.verify))) throw invalid('token has an invalid signature')
  if (typeof exp !== 'number' || !Number.isFinite(exp)) throw invalid('token missing exp claim')
  if (exp <= input.at) throw invalid('token has expired')
  if (nbf !== undefined && (typeof nbf !== 'number' || nbf > input.at)) throw invalid('token not valid yet')
  return { spiffeId, ...confirmed(cnf), expiresAt: Math.floor(exp), claims: parsed.claims }
}

function subject(text: string): SpiffeId {
  try {
    return parseSpiffeId(text)
  } catch (error) {
    throw invalid(`token has an invalid subject claim: ${errorMessage(error)}`)
  }
}

/** Reads `cnf.jwk`. RFC 7800 3.2 */
function confirmed(cnf: unknown): { readonly key: PublicKeyInfo; readonly algorithm: string } {
  const jwk = memberOf(cnf, 'jwk')
  const algorithm = memberOf(jwk, 'alg')
  if (typeof jwk !== 'object' || jwk === null || typeof algorithm !== 'string') {
    throw invalid('token missing cnf.jwk claim with an algorithm')
  }
  if (Object.hasOwn(jwk, 'd') || Object.hasOwn(jwk, 'k')) throw invalid('token has a private key in its cnf claim')
  try {
    const key = parseWitKey(spkiOfJwk(jwk as Readonly<Record<string, unknown>>))
    witKeyOf(key, algorithm)
    return { key, algorithm }
  } catch (error) {
    throw invalid(`token has an invalid key in its cnf claim: ${errorMessage(error)}`)
  }
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Readonly<Record<string, unknown>>)[name]
    : undefined
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
