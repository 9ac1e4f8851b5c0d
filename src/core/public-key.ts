import {
  bitString,
  DerError,
  DerReader,
  element,
  hex,
  oid,
  readBitString,
  readInteger,
  readOid,
  readSmallInteger,
  sequence,
  TAG,
} from './der.ts'
import { ecdsaDerToRaw } from './ecdsa.ts'
import { StatusError } from './error.ts'
import { KEY_TYPES, type KeyType } from './key-type.ts'
import { sha1 } from './sha1.ts'

const OID_EC = '1.2.840.10045.2.1'
const OID_RSA = '1.2.840.113549.1.1.1'
const OID_RSA_PSS = '1.2.840.113549.1.1.10'
const OID_ED25519 = '1.3.101.112'
const OID_MGF1 = '1.2.840.113549.1.1.8'

const CURVES = {
  '1.2.840.10045.3.1.7': { name: 'P-256', bytes: 32 },
  '1.3.132.0.34': { name: 'P-384', bytes: 48 },
  '1.3.132.0.35': { name: 'P-521', bytes: 66 },
} as const

export type CurveName = 'P-256' | 'P-384' | 'P-521'

/** What a SubjectPublicKeyInfo says. `spki` is fit for Web Crypto (an RSA-PSS key is re-labelled rsaEncryption). */
export type PublicKeyInfo =
  | {
      readonly kind: 'ec'
      readonly curve: CurveName
      readonly coordinateBytes: number
      readonly point: Uint8Array
      readonly spki: Uint8Array
    }
  | {
      readonly kind: 'rsa'
      readonly modulus: Uint8Array
      readonly exponent: Uint8Array
      readonly bits: number
      readonly spki: Uint8Array
    }
  | { readonly kind: 'ed25519'; readonly key: Uint8Array; readonly spki: Uint8Array }

/**
 * Reads a SubjectPublicKeyInfo.
 * @throws DerError if it is malformed or of a kind that is not taken
 * @see RFC 5280 4.1.2.7
 */
export function parsePublicKey(spki: Uint8Array): PublicKeyInfo {
  const outer = new DerReader(spki)
  const info = outer.enter(TAG.sequence)
  outer.end()
  const algorithm = info.enter(TAG.sequence)
  const name = readOid(algorithm.expect(TAG.oid))
  const key = readBitString(info.expect(TAG.bitString))
  info.end()
  if (name === OID_EC) return parseEc(algorithm, key, spki)
  if (name === OID_RSA || name === OID_RSA_PSS) return parseRsa(key, name === OID_RSA ? spki : relabelled(key))
  if (name === OID_ED25519) {
    algorithm.end()
    if (key.length !== 32) throw new DerError('Ed25519 public key has a wrong length')
    return { kind: 'ed25519', key, spki }
  }
  throw new DerError(`unknown public key algorithm ${name}`)
}

function parseEc(algorithm: DerReader, point: Uint8Array, spki: Uint8Array): PublicKeyInfo {
  const curve = CURVES[readOid(algorithm.expect(TAG.oid)) as keyof typeof CURVES]
  algorithm.end()
  if (!curve) throw new DerError('x509: unsupported elliptic curve')
  if (point.length !== 1 + 2 * curve.bytes || point[0] !== 4) throw new DerError('invalid elliptic curve point')
  return { kind: 'ec', curve: curve.name, coordinateBytes: curve.bytes, point, spki }
}

function parseRsa(key: Uint8Array, spki: Uint8Array): PublicKeyInfo {
  const outer = new DerReader(key)
  const numbers = outer.enter(TAG.sequence)
  outer.end()
  const modulus = unsigned(numbers)
  const exponent = unsigned(numbers)
  numbers.end()
  if (exponent.length > 4) throw new DerError('RSA public exponent is too large')
  // With 1 everything padded is a signature; an even one is none.
  if (exponent[exponent.length - 1]! % 2 === 0 || (exponent.length === 1 && exponent[0] === 1)) {
    throw new DerError('RSA public exponent is even or 1')
  }
  const bits = modulus.length * 8 - Math.clz32(modulus[0]!) + 24
  return { kind: 'rsa', modulus, exponent, bits, spki }
}

function unsigned(reader: DerReader): Uint8Array {
  const number = readInteger(reader.expect(TAG.integer))
  if (number[0]! >= 0x80 || (number.length === 1 && number[0] === 0))
    throw new DerError('RSA public key number is not positive')
  return number[0] === 0 ? number.subarray(1) : number
}

/** Web Crypto importers refuse the RSA-PSS label; the numbers are the same. */
function relabelled(key: Uint8Array): Uint8Array {
  return sequence(sequence(oid(OID_RSA), element(TAG.null)), bitString(key))
}

/** Puts together the SubjectPublicKeyInfo of an uncompressed point. */
export function ecSpki(curve: CurveName, point: Uint8Array): Uint8Array {
  const curveOid = Object.entries(CURVES).find(([, value]) => value.name === curve)![0]
  return sequence(sequence(oid(OID_EC), oid(curveOid)), bitString(point))
}

/** Puts together the SubjectPublicKeyInfo of an RSA key from its two numbers as DER INTEGERs. */
export function rsaSpki(modulus: Uint8Array, exponent: Uint8Array): Uint8Array {
  return relabelled(sequence(modulus, exponent))
}

/** SPIRE's key type of a public key, undefined for kinds that SPIRE makes no keys of. */
export function keyTypeOf(info: PublicKeyInfo): KeyType | undefined {
  if (info.kind === 'ec') return info.curve === 'P-256' ? 'ec-p256' : info.curve === 'P-384' ? 'ec-p384' : undefined
  if (info.kind === 'rsa') return info.bits === 2048 ? 'rsa-2048' : info.bits === 4096 ? 'rsa-4096' : undefined
  return undefined
}

/** The subject key identifier: SHA-1 of the bit string of the public key. RFC 5280 4.2.1.2 (1). */
export function subjectKeyId(spki: Uint8Array): Uint8Array {
  const outer = new DerReader(spki)
  const info = outer.enter(TAG.sequence)
  info.expect(TAG.sequence)
  return sha1(info.expect(TAG.bitString).contents.subarray(1))
}

/** How a signature was made. `hash` is unused for Ed25519. */
export interface SignatureScheme {
  readonly kind: 'ecdsa' | 'rsa-pkcs1' | 'rsa-pss' | 'ed25519'
  readonly hash: 'SHA-256' | 'SHA-384' | 'SHA-512'
  /** RSA-PSS: a salt as long as the key allows is taken too, beside one as long as the hash. */
  readonly longSalt?: boolean
}

/** X.509 signature algorithms that are verified. SHA-1 and MD5 are not among them. */
export const SIGNATURE_ALGORITHMS: Readonly<Record<string, SignatureScheme>> = {
  '1.2.840.10045.4.3.2': { kind: 'ecdsa', hash: 'SHA-256' },
  '1.2.840.10045.4.3.3': { kind: 'ecdsa', hash: 'SHA-384' },
  '1.2.840.10045.4.3.4': { kind: 'ecdsa', hash: 'SHA-512' },
  '1.2.840.113549.1.1.11': { kind: 'rsa-pkcs1', hash: 'SHA-256' },
  '1.2.840.113549.1.1.12': { kind: 'rsa-pkcs1', hash: 'SHA-384' },
  '1.2.840.113549.1.1.13': { kind: 'rsa-pkcs1', hash: 'SHA-512' },
  '1.3.101.112': { kind: 'ed25519', hash: 'SHA-512' },
  '1.2.840.113549.1.1.10 SHA-256': { kind: 'rsa-pss', hash: 'SHA-256' },
  '1.2.840.113549.1.1.10 SHA-384': { kind: 'rsa-pss', hash: 'SHA-384' },
  '1.2.840.113549.1.1.10 SHA-512': { kind: 'rsa-pss', hash: 'SHA-512' },
}

const PSS_HASHES: Readonly<Record<string, { readonly name: string; readonly bytes: number }>> = {
  '2.16.840.1.101.3.4.2.1': { name: 'SHA-256', bytes: 32 },
  '2.16.840.1.101.3.4.2.2': { name: 'SHA-384', bytes: 48 },
  '2.16.840.1.101.3.4.2.3': { name: 'SHA-512', bytes: 64 },
}

/**
 * Names the algorithm of an AlgorithmIdentifier as SIGNATURE_ALGORITHMS has it: the dotted OID, for RSASSA-PSS with its hash. Like
 * Go, only PSS with one hash for message and mask and a salt of its length gets a name that is verified.
 * @throws DerError if it is malformed
 * @see RFC 4055 3.1
 */
export function readSignatureAlgorithm(identifier: DerReader): string {
  const name = readOid(identifier.expect(TAG.oid))
  if (name !== OID_RSA_PSS || identifier.done) return name
  const parameters = identifier.enter(TAG.sequence)
  const tagged = (tag: number) => {
    const found = parameters.optional(tag)
    return found && parameters.into(found)
  }
  const hash = tagged(0xa0)?.enter(TAG.sequence)
  const mask = tagged(0xa1)?.enter(TAG.sequence)
  const salt = tagged(0xa2)
  if (!hash || !mask || !salt) return name
  const hashName = readOid(hash.expect(TAG.oid))
  const isMgf1 = readOid(mask.expect(TAG.oid)) === OID_MGF1
  const maskHashName = readOid(mask.enter(TAG.sequence).expect(TAG.oid))
  const known = PSS_HASHES[hashName]
  if (!known || !isMgf1 || maskHashName !== hashName || readSmallInteger(salt.next()) !== known.bytes) return name
  return `${name} ${known.name}`
}

/**
 * Verifies a raw signature: r||s for ECDSA. May answer at once where the runtime has a synchronous verifier.
 * A key that does not fit the scheme is `false`, never an error.
 */
export type VerifySignature = (
  key: PublicKeyInfo,
  scheme: SignatureScheme,
  data: Uint8Array,
  signature: Uint8Array,
) => boolean | Promise<boolean>

const MAX_RSA_BITS = 8192

const MAX_IMPORTED_KEYS = 256

/**
 * The verifier of every runtime: Web Crypto. Imported keys are kept, those in use longest: the few keys of authorities verify
 * again and again, and importing one costs as much as verifying with it.
 * @param subtle another provider, for tests
 */
export function webCryptoVerifier(subtle: SubtleCrypto = crypto.subtle): VerifySignature {
  const keys = new Map<string, CryptoKey>()
  return async (key, scheme, data, signature) => {
    if (!fits(key, scheme)) return false
    const [importParams, verifyParams] = webCryptoParams(key, scheme)
    // A key is imported for one hash and one padding (ECDSA: for any).
    const id = `${scheme.kind} ${key.kind === 'rsa' ? scheme.hash : ''} ${hex(key.spki)}`
    try {
      const imported =
        keys.get(id) ?? (await subtle.importKey('spki', key.spki as BufferSource, importParams, false, ['verify']))
      keys.delete(id)
      if (keys.size >= MAX_IMPORTED_KEYS) keys.delete(keys.keys().next().value!)
      keys.set(id, imported)
      const check = (params: unknown) =>
        subtle.verify(params as AlgorithmIdentifier, imported, signature as BufferSource, data as BufferSource)
      if (await check(verifyParams)) return true
      if (!scheme.longSalt || scheme.kind !== 'rsa-pss' || key.kind !== 'rsa') return false
      return await check({ ...verifyParams, saltLength: Math.ceil((key.bits - 1) / 8) - verifyParams.saltLength - 2 })
    } catch (error) {
      // A point that is not on its curve, an even modulus: the key verifies nothing. Deno says TypeError.
      if (error instanceof Error && /Data|Operation|InvalidAccess|Type/.test(error.name)) return false
      throw error
    }
  }
}

/** Whether key and scheme belong together and the key is not there to burn CPU. */
export function fits(key: PublicKeyInfo, scheme: SignatureScheme): boolean {
  if (key.kind === 'ec') return scheme.kind === 'ecdsa'
  if (key.kind === 'ed25519') return scheme.kind === 'ed25519'
  return (scheme.kind === 'rsa-pkcs1' || scheme.kind === 'rsa-pss') && key.bits >= 1024 && key.bits <= MAX_RSA_BITS
}

// biome-ignore lint/suspicious/noExplicitAny: the parameter types of Web Crypto differ between the runtimes' typings.
function webCryptoParams(key: PublicKeyInfo, scheme: SignatureScheme): [any, any] {
  if (key.kind === 'ec')
    return [
      { name: 'ECDSA', namedCurve: key.curve },
      { name: 'ECDSA', hash: scheme.hash },
    ]
  if (key.kind === 'ed25519') return [{ name: 'Ed25519' }, { name: 'Ed25519' }]
  const name = scheme.kind === 'rsa-pss' ? 'RSA-PSS' : 'RSASSA-PKCS1-v1_5'
  return [
    { name, hash: scheme.hash },
    { name, saltLength: Number(scheme.hash.slice(4)) / 8 },
  ]
}

/**
 * Verifies a signature as X.509 carries it (ECDSA as DER).
 * @param algorithm as readSignatureAlgorithm names it
 */
export async function verifyX509Signature(
  verify: VerifySignature,
  spki: Uint8Array,
  algorithm: string,
  data: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  const scheme = SIGNATURE_ALGORITHMS[algorithm]
  if (!scheme) throw new StatusError('INVALID_ARGUMENT', `x509: unsupported signature algorithm ${algorithm}`)
  const key = parsePublicKey(spki)
  let raw = signature
  if (scheme.kind === 'ecdsa') {
    if (key.kind !== 'ec') return false
    try {
      raw = ecdsaDerToRaw(signature, key.coordinateBytes)
    } catch (error) {
      if (error instanceof DerError) return false
      throw error
    }
  }
  return verify(key, scheme, data, raw)
}

/** AlgorithmIdentifier (DER) of the signatures that keys of a type make. RFC 5758 3.2, RFC 4055 5. */
export function signatureAlgorithmIdentifier(type: KeyType): Uint8Array {
  return SIGNATURE_IDENTIFIERS[type]
}

const RSA_SHA256 = sequence(oid('1.2.840.113549.1.1.11'), element(TAG.null))
const SIGNATURE_IDENTIFIERS: Readonly<Record<KeyType, Uint8Array>> = {
  'ec-p256': sequence(oid('1.2.840.10045.4.3.2')),
  'ec-p384': sequence(oid('1.2.840.10045.4.3.3')),
  'rsa-2048': RSA_SHA256,
  'rsa-4096': RSA_SHA256,
}

export function isEcdsa(type: KeyType): boolean {
  return KEY_TYPES[type].algorithm.name === 'ECDSA'
}
