import { KEY_TYPES, type KeyType, type Signer } from './key-type.ts'

/**
 * A signer of every runtime: a Web Crypto key, which need not be extractable.
 * @param publicKey DER SubjectPublicKeyInfo of it
 */
function webCryptoSigner(key: CryptoKey, keyType: KeyType, publicKey: Uint8Array): Signer {
  const { algorithm, hash } = KEY_TYPES[keyType]
  // Web Crypto's ECDSA signatures are r||s already; RSA keys know their hash since they were imported.
  const parameters = algorithm.name === 'ECDSA' ? { name: algorithm.name, hash } : { name: algorithm.name }
  return {
    keyType,
    publicKey,
    sign: async (data) => new Uint8Array(await crypto.subtle.sign(parameters, key, data as BufferSource)),
  }
}

/** Makes a key that can be exported, and so wrapped or shown to TLS; import it again to have one that cannot. */
export async function generateWebCryptoKey(
  keyType: KeyType,
): Promise<{ readonly pkcs8: Uint8Array; readonly publicKey: Uint8Array }> {
  const pair = (await crypto.subtle.generateKey(
    { ...importParameters(keyType), publicExponent: Uint8Array.of(1, 0, 1) } as RsaHashedKeyGenParams,
    true,
    ['sign', 'verify'],
  )) as CryptoKeyPair
  const [pkcs8, publicKey] = await Promise.all([
    crypto.subtle.exportKey('pkcs8', pair.privateKey),
    crypto.subtle.exportKey('spki', pair.publicKey),
  ])
  return { pkcs8: new Uint8Array(pkcs8 as ArrayBuffer), publicKey: new Uint8Array(publicKey as ArrayBuffer) }
}

/**
 * A signer of a PKCS#8 key that cannot be exported again. The bytes stay the caller's.
 * @throws Error if they are no key of that type
 */
export async function importWebCryptoSigner(
  pkcs8: Uint8Array,
  keyType: KeyType,
  publicKey: Uint8Array,
): Promise<Signer> {
  const key = await crypto.subtle.importKey('pkcs8', pkcs8 as BufferSource, importParameters(keyType), false, ['sign'])
  return webCryptoSigner(key, keyType, publicKey)
}

/** A new key in memory only, which cannot be exported. */
export async function generateWebCryptoSigner(keyType: KeyType): Promise<Signer> {
  const { pkcs8, publicKey } = await generateWebCryptoKey(keyType)
  const signer = await importWebCryptoSigner(pkcs8, keyType, publicKey)
  pkcs8.fill(0)
  return signer
}

function importParameters(keyType: KeyType) {
  const { algorithm, hash } = KEY_TYPES[keyType]
  return algorithm.name === 'ECDSA' ? algorithm : { ...algorithm, hash }
}
