import { base64Url, fromBase64Url } from './base64.ts'
import type { JwtAuthority } from './bundle.ts'
import type { EpochSeconds } from './clock.ts'
import { utf8 } from './der.ts'
import { errorMessage, StatusError } from './error.ts'
import { isJsonObject, parseJson } from './json-object.ts'
import { KEY_TYPES, type Signer } from './key-type.ts'
import { type PublicKeyInfo, parsePublicKey, type SignatureScheme, type VerifySignature } from './public-key.ts'
import { parseSpiffeId, type SpiffeId, trustDomainOf } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'

/** A key that signs JWTs, with the header that all its tokens share. */
export interface JwtSigner {
  readonly signer: Signer
  readonly keyId: string
  /** Base64url of the protected header, encoded once. */
  readonly header: string
}

export function jwtSigner(signer: Signer, keyId: string, type: 'JWT' | 'wit+jwt' = 'JWT'): JwtSigner {
  const header = JSON.stringify({ alg: KEY_TYPES[signer.keyType].jws, kid: keyId, typ: type })
  return { signer, keyId, header: base64Url(utf8(header)) }
}

/** Claims of a JWT-SVID. Times are whole Unix seconds. */
export interface JwtSvidClaims {
  readonly aud: readonly string[]
  readonly exp: EpochSeconds
  readonly iat: EpochSeconds
  readonly iss?: string
  readonly jti?: string
  readonly sub: SpiffeId
}

/**
 * Signs a JWT-SVID. Members are in alphabetical order, `aud` is always a list.
 * @see JWT-SVID 2 and 3, RFC 7515 7.1
 */
export async function signJwtSvid(claims: JwtSvidClaims, key: JwtSigner): Promise<string> {
  const { aud, exp, iat, iss, jti, sub } = claims
  return signClaims({ aud, exp, iat, iss, jti, sub }, key)
}

/** A JWS in its compact form. RFC 7515 7.1 */
export async function signClaims(claims: object, { header, signer }: JwtSigner): Promise<string> {
  const input = `${header}.${base64Url(utf8(JSON.stringify(claims)))}`
  const signed = signer.sign(utf8(input))
  return `${input}.${base64Url(signed instanceof Uint8Array ? signed : await signed)}`
}

/** The JWS algorithms that SPIFFE allows. JWT-SVID 2.1, WIT-SVID 2.3 */
export const JWS_ALGORITHMS: Readonly<Record<string, SignatureScheme & { readonly curve?: string }>> = {
  ES256: { kind: 'ecdsa', hash: 'SHA-256', curve: 'P-256' },
  ES384: { kind: 'ecdsa', hash: 'SHA-384', curve: 'P-384' },
  ES512: { kind: 'ecdsa', hash: 'SHA-512', curve: 'P-521' },
  RS256: { kind: 'rsa-pkcs1', hash: 'SHA-256' },
  RS384: { kind: 'rsa-pkcs1', hash: 'SHA-384' },
  RS512: { kind: 'rsa-pkcs1', hash: 'SHA-512' },
  PS256: { kind: 'rsa-pss', hash: 'SHA-256' },
  PS384: { kind: 'rsa-pss', hash: 'SHA-384' },
  PS512: { kind: 'rsa-pss', hash: 'SHA-512' },
}

const MAX_TOKEN_LENGTH = 64 * 1024
const LEEWAY_SECONDS = 60

/** A JWS in its compact form, taken apart; nothing in it is verified yet. */
export interface ParsedJws {
  /** One of JWS_ALGORITHMS. */
  readonly algorithm: string
  /** The header's `kid`, empty if it has none. */
  readonly keyId: string
  /** The header's `typ`, undefined if it has none. */
  readonly type: string | undefined
  /** Base64url. */
  readonly payload: string
  readonly signingInput: Uint8Array
  readonly signature: Uint8Array
}

/** A token taken apart; nothing in it is verified yet. */
export interface ParsedJwt extends ParsedJws {
  readonly claims: Readonly<Record<string, unknown>>
}

/** @throws StatusError INVALID_ARGUMENT `unable to parse JWT token: ...` or `token header missing key id` */
export function parseJwt(token: string): ParsedJwt {
  const jws = parseJws(token)
  const claims = jsonObject(jws.payload)
  if (jws.keyId === '') throw invalid('token header missing key id')
  return { ...jws, claims }
}

/** @throws StatusError INVALID_ARGUMENT `unable to parse JWT token: ...` */
export function parseJws(token: string): ParsedJws {
  const parts = token.split('.')
  if (token.length > MAX_TOKEN_LENGTH || parts.length !== 3) {
    throw unparsable('go-jose/go-jose: compact JWS format must have three parts')
  }
  const [header, payload, signature] = parts as [string, string, string]
  const { alg, kid, typ, crit } = jsonObject(header)
  if (typeof alg !== 'string' || !Object.hasOwn(JWS_ALGORITHMS, alg)) {
    throw unparsable(`go-jose/go-jose: unexpected signature algorithm ${JSON.stringify(alg ?? '')}`)
  }
  if (crit !== undefined) throw unparsable('go-jose/go-jose: unsupported crit header')
  if (typ !== undefined && typeof typ !== 'string') throw unparsable('the type in its header is no text')
  return {
    algorithm: alg,
    keyId: typeof kid === 'string' ? kid : '',
    type: typ,
    payload,
    signingInput: utf8(`${header}.${payload}`),
    signature: decodeSegment(signature),
  }
}

export interface JwtValidation {
  readonly token: string
  /** At least one of these must be among the token's audiences. */
  readonly audience: readonly string[]
  /** Keys of a trust domain; undefined if it is not known. */
  readonly authoritiesOf: (trustDomain: TrustDomain) => readonly JwtAuthority[] | undefined
  readonly at: EpochSeconds
  readonly verify: VerifySignature
}

export interface ValidJwtSvid {
  readonly spiffeId: SpiffeId
  /** All claims; `aud` as a list. */
  readonly claims: Readonly<Record<string, unknown>>
}

/**
 * Validates a JWT-SVID. `exp` is required; times have a minute of leeway.
 * @throws StatusError INVALID_ARGUMENT with SPIRE's reasons, in SPIRE's order
 * @see JWT-SVID 3 and 5
 */
export async function validateJwtSvid(input: JwtValidation): Promise<ValidJwtSvid> {
  const parsed = parseJwt(input.token)
  // A WIT-SVID, or any other token of the same keys, is no JWT-SVID. SPIRE's agent takes them; go-spiffe does not.
  if (parsed.type !== undefined && parsed.type !== 'JWT' && parsed.type !== 'JOSE') {
    throw invalid('token header type not equal to either JWT or JOSE')
  }
  const { sub, exp, nbf, iat } = parsed.claims
  if (typeof sub !== 'string' || sub === '') throw invalid('token missing subject claim')
  if (exp === undefined || exp === null) throw invalid('token missing exp claim')
  let spiffeId: SpiffeId
  try {
    spiffeId = parseSpiffeId(sub)
  } catch (error) {
    throw invalid(`token has in invalid subject claim: ${errorMessage(error)}`)
  }
  const authority = authorityOf(parsed, trustDomainOf(spiffeId), input.authoritiesOf)
  if (!(await verifiesJwt(parsed, authority, input.verify))) {
    throw invalid('go-jose/go-jose: error in cryptographic primitive')
  }
  const audience = audienceOf(parsed.claims.aud)
  if (!audience.some((name) => input.audience.includes(name))) {
    throw invalid(`expected audience in ${goStrings(input.audience)} (audience=${goStrings(audience)})`)
  }
  if (numberOf(nbf, 'nbf') > input.at + LEEWAY_SECONDS) {
    throw invalid('go-jose/go-jose/jwt: validation failed, token not valid yet (nbf)')
  }
  if (numberOf(exp, 'exp') < input.at - LEEWAY_SECONDS) throw invalid('token has expired')
  if (numberOf(iat, 'iat') > input.at + LEEWAY_SECONDS) {
    throw invalid('go-jose/go-jose/jwt: validation field, token issued in the future (iat)')
  }
  return { spiffeId, claims: { ...parsed.claims, aud: audience } }
}

/** Whether the signature of a token is by this authority, with an algorithm that fits its key. */
export async function verifiesJwt(
  parsed: ParsedJws,
  authority: JwtAuthority,
  verify: VerifySignature,
): Promise<boolean> {
  const scheme = JWS_ALGORITHMS[parsed.algorithm]!
  const key = publicKeyOf(authority)
  return fitsJws(key, parsed.algorithm) && verify(key, scheme, parsed.signingInput, parsed.signature)
}

/** Whether a key may be used with an algorithm of JWS_ALGORITHMS: the curve is the algorithm's, RSA keys are no toys. */
export function fitsJws(key: PublicKeyInfo, algorithm: string): boolean {
  const scheme = Object.hasOwn(JWS_ALGORITHMS, algorithm) ? JWS_ALGORITHMS[algorithm] : undefined
  if (!scheme) return false
  if (scheme.kind === 'ecdsa') return key.kind === 'ec' && key.curve === scheme.curve
  return key.kind === 'rsa' && key.bits >= 2048
}

/** Parsed keys by authority: a bundle keeps its objects for as long as it does not change. */
const parsedKeys = new WeakMap<JwtAuthority, PublicKeyInfo>()

function publicKeyOf(authority: JwtAuthority): PublicKeyInfo {
  let key = parsedKeys.get(authority)
  if (!key) {
    key = parsePublicKey(authority.publicKey)
    parsedKeys.set(authority, key)
  }
  return key
}

function audienceOf(aud: unknown): string[] {
  if (typeof aud === 'string') return [aud]
  if (Array.isArray(aud) && aud.every((name) => typeof name === 'string')) return aud
  if (aud === undefined || aud === null) return []
  throw unparsable('go-jose/go-jose/jwt: invalid aud claim')
}

/** The authority that a token names. @throws StatusError INVALID_ARGUMENT with SPIRE's texts */
export function authorityOf(
  { keyId }: ParsedJwt,
  trustDomain: TrustDomain,
  authoritiesOf: JwtValidation['authoritiesOf'],
): JwtAuthority {
  const authorities = authoritiesOf(trustDomain)
  if (!authorities) throw invalid(`no keys found for trust domain "${trustDomain}"`)
  const authority = authorities.find((candidate) => candidate.keyId === keyId)
  if (!authority) throw invalid(`public key "${keyId}" not found in trust domain "${trustDomain}"`)
  return authority
}

/** Absent times pass: 0 for nbf and iat; exp was checked to be there. */
function numberOf(value: unknown, name: string): number {
  if (value === undefined || value === null) return 0
  if (typeof value !== 'number' || !Number.isFinite(value))
    throw unparsable(`go-jose/go-jose/jwt: invalid ${name} claim`)
  return Math.floor(value)
}

/** Reads a header or payload of a JWS. @throws StatusError INVALID_ARGUMENT */
export function jsonObject(segment: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = parseJson(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(decodeSegment(segment)))
  } catch (error) {
    throw unparsable(errorMessage(error))
  }
  if (!isJsonObject(value)) throw unparsable('a JSON object is expected')
  return value
}

/** @throws StatusError INVALID_ARGUMENT */
export function decodeSegment(segment: string): Uint8Array {
  try {
    return fromBase64Url(segment)
  } catch (error) {
    throw unparsable(errorMessage(error))
  }
}

function goStrings(values: readonly string[]): string {
  return `[${values.map((value) => JSON.stringify(value)).join(' ')}]`
}

function unparsable(reason: string): StatusError {
  return invalid(`unable to parse JWT token: ${reason}`)
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
