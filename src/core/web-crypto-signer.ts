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
  const pair = await generatePair(keyType, true)
  const [pkcs8, publicKey] = await Promise.all([exported('pkcs8', pair.privateKey), exported('spki', pair.publicKey)])
  return { pkcs8, publicKey }
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
  const { privateKey, publicKey } = await generatePair(keyType, false)
  return webCryptoSigner(privateKey, keyType, await exported('spki', publicKey))
}

async function generatePair(keyType: KeyType, extractable: boolean): Promise<CryptoKeyPair> {
  const parameters = { ...importParameters(keyType), publicExponent: Uint8Array.of(1, 0, 1) } as RsaHashedKeyGenParams
  return (await crypto.subtle.generateKey(parameters, extractable, ['sign', 'verify'])) as CryptoKeyPair
}

async function exported(format: 'pkcs8' | 'spki', key: CryptoKey): Promise<Uint8Array> {
  return new Uint8Array((await crypto.subtle.exportKey(format, key)) as ArrayBuffer)
}

function importParameters(keyType: KeyType) {
  const { algorithm, hash } = KEY_TYPES[keyType]
  return algorithm.name === 'ECDSA' ? algorithm : { ...algorithm, hash }
}
