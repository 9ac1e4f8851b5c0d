import { base64Url, fromBase64Url } from './base64.ts'
import { concat, unsignedInteger, utf8 } from './der.ts'
import { StatusError } from './error.ts'
import { type CurveName, ecSpki, parsePublicKey, rsaSpki } from './public-key.ts'
import { sha256 } from './sha256.ts'

/** The members of a public JWK, in the order in which SPIRE writes them. RFC 7517, RFC 7518 6. */
export interface Jwk {
  readonly kty: string
  readonly kid?: string
  readonly crv?: string
  readonly x?: string
  readonly y?: string
  readonly n?: string
  readonly e?: string
}

/** @throws StatusError INVALID_ARGUMENT if the key is none that JWKs of SPIFFE carry */
export function jwkOf(spki: Uint8Array, keyId?: string): Jwk {
  const key = parsePublicKey(spki)
  const kid = keyId === undefined ? {} : { kid: keyId }
  if (key.kind === 'ec') {
    const size = key.coordinateBytes
    return {
      kty: 'EC',
      ...kid,
      crv: key.curve,
      x: base64Url(key.point.subarray(1, 1 + size)),
      y: base64Url(key.point.subarray(1 + size)),
    }
  }
  if (key.kind === 'rsa') return { kty: 'RSA', ...kid, n: base64Url(key.modulus), e: base64Url(key.exponent) }
  return { kty: 'OKP', ...kid, crv: 'Ed25519', x: base64Url(key.key) }
}

const COORDINATE_BYTES: Readonly<Record<string, number>> = { 'P-256': 32, 'P-384': 48, 'P-521': 66 }

/** SubjectPublicKeyInfo (DER) of a JWK. @throws StatusError INVALID_ARGUMENT */
export function spkiOfJwk(jwk: Readonly<Record<string, unknown>>): Uint8Array {
  const text = (name: string) => {
    const value = jwk[name]
    if (typeof value !== 'string') throw new StatusError('INVALID_ARGUMENT', `JWK has no "${name}"`)
    return fromBase64Url(value)
  }
  if (jwk.kty === 'EC') {
    const size = COORDINATE_BYTES[String(jwk.crv)]
    const [x, y] = [text('x'), text('y')]
    if (size === undefined || x.length !== size || y.length !== size)
      throw new StatusError('INVALID_ARGUMENT', 'JWK has an invalid curve or point')
    return ecSpki(jwk.crv as CurveName, concat([Uint8Array.of(4), x, y]))
  }
  if (jwk.kty === 'RSA') return rsaSpki(unsignedInteger(text('n')), unsignedInteger(text('e')))
  throw new StatusError('INVALID_ARGUMENT', 'JWK has an unsupported key type')
}

/**
 * The name of a public key: base64url of SHA-256 over its JWK with the required members alone, in alphabetical order.
 * @see RFC 7638
 */
export async function jwkThumbprint(spki: Uint8Array): Promise<string> {
  const { kty, crv, x, y, n, e } = jwkOf(spki)
  const members = kty === 'RSA' ? { e, kty, n } : { crv, kty, x, ...(y === undefined ? {} : { y }) }
  return base64Url(await sha256(utf8(JSON.stringify(members))))
}
