import {
  constants,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'
import { promisify } from 'node:util'
import type { KeyType, Signer } from '../core/key-type.ts'
import { fits, keyTypeOf, parsePublicKey, type VerifySignature } from '../core/public-key.ts'

const generate = promisify(generateKeyPair)

/** A signer that holds its key in memory and signs at once: a third of what Web Crypto costs on Node. */
export interface MemorySigner extends Signer {
  /** PKCS#8 DER. Who calls this owns a secret. */
  exportPrivateKey(): Uint8Array
}

/** Makes a key. RSA keys are made off the main thread, since that takes long. */
export async function generateSigner(type: KeyType): Promise<MemorySigner> {
  if (type === 'ec-p256' || type === 'ec-p384') {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: type === 'ec-p256' ? 'P-256' : 'P-384' })
    return signerOf(privateKey, type)
  }
  const { privateKey } = await generate('rsa', { modulusLength: type === 'rsa-2048' ? 2048 : 4096 })
  return signerOf(privateKey, type)
}

const ENCODINGS = { 'PRIVATE KEY': 'pkcs8', 'EC PRIVATE KEY': 'sec1', 'RSA PRIVATE KEY': 'pkcs1' } as const

/**
 * A signer of a private key: a JWK, or DER in PKCS#8 or what another PEM label stands for.
 * @throws Error if it is no key, or of a type that SPIRE makes none of
 */
export function importSigner(source: Uint8Array | JsonWebKey, label: string = 'PRIVATE KEY'): MemorySigner {
  const key =
    source instanceof Uint8Array ? keyOfDer(source, label) : createPrivateKey({ key: source as never, format: 'jwk' })
  const type = keyTypeOf(parsePublicKey(spkiOf(key)))
  if (!type) throw new Error('the key is of an unsupported type')
  return signerOf(key, type)
}

function keyOfDer(der: Uint8Array, label: string): KeyObject {
  const encoding = ENCODINGS[label as keyof typeof ENCODINGS]
  if (!encoding) throw new Error(`a PEM block "${label}" is no private key`)
  return createPrivateKey({ key: Buffer.from(der), format: 'der', type: encoding })
}

function spkiOf(key: KeyObject): Uint8Array {
  return new Uint8Array(createPublicKey(key).export({ type: 'spki', format: 'der' }))
}

function signerOf(key: KeyObject, keyType: KeyType): MemorySigner {
  const hash = keyType === 'ec-p384' ? 'sha384' : 'sha256'
  const options = { key, dsaEncoding: 'ieee-p1363' } as const
  return {
    keyType,
    publicKey: spkiOf(key),
    sign: (data) => sign(hash, data, options),
    exportPrivateKey: () => new Uint8Array(key.export({ type: 'pkcs8', format: 'der' })),
  }
}

const HASHES = { 'SHA-256': 'sha256', 'SHA-384': 'sha384', 'SHA-512': 'sha512' } as const
const KEYS_KEPT = 1024

/** Verifies at once with node:crypto; imported keys are kept, since the same few verify again and again. */
export function nodeVerifier(): VerifySignature {
  const imported = new Map<string, KeyObject>()
  return (key, scheme, data, signature) => {
    if (!fits(key, scheme)) return false
    const id = Buffer.from(key.spki.buffer, key.spki.byteOffset, key.spki.length).toString('latin1')
    let object = imported.get(id)
    try {
      if (!object) {
        object = createPublicKey({ key: Buffer.from(key.spki), format: 'der', type: 'spki' })
        if (imported.size >= KEYS_KEPT) imported.delete(imported.keys().next().value!)
        imported.set(id, object)
      }
      const hash = scheme.kind === 'ed25519' ? null : HASHES[scheme.hash]
      if (scheme.kind === 'rsa-pss') {
        const padded = { key: object, padding: constants.RSA_PKCS1_PSS_PADDING }
        const check = (saltLength: number) => verify(hash, data, { ...padded, saltLength }, signature)
        return (
          check(constants.RSA_PSS_SALTLEN_DIGEST) ||
          (scheme.longSalt === true && check(constants.RSA_PSS_SALTLEN_MAX_SIGN))
        )
      }
      return verify(hash, data, { key: object, dsaEncoding: 'ieee-p1363' }, signature)
    } catch {
      // OpenSSL refuses keys that are none (a point off its curve): they verify nothing.
      return false
    }
  }
}
