import { ecdsaDerToRaw } from '../../core/ecdsa.ts'
import { KEY_TYPES, type KeyType, type Signer } from '../../core/key-type.ts'

const COORDINATE_BYTES: Readonly<Partial<Record<KeyType, number>>> = { 'ec-p256': 32, 'ec-p384': 48 }

/**
 * A signer whose key lies in a service far away: the data is hashed here, only the digest travels.
 *
 * @param signDigest signs a digest of the key type's hash; DER for ECDSA, PKCS#1 v1.5 for RSA
 */
export function remoteSigner(
  keyType: KeyType,
  publicKey: Uint8Array,
  signDigest: (digest: Uint8Array) => Promise<Uint8Array>,
): Signer {
  const { hash } = KEY_TYPES[keyType]
  const coordinateBytes = COORDINATE_BYTES[keyType]
  return {
    keyType,
    publicKey,
    async sign(data) {
      const digest = new Uint8Array(await crypto.subtle.digest(hash, data as BufferSource))
      const signature = await signDigest(digest)
      return coordinateBytes === undefined ? signature : ecdsaDerToRaw(signature, coordinateBytes)
    },
  }
}

/**
 * Lets at most `limit` tasks run at once, the others in turn: a batch of 500 SVIDs must not open 500 connections, and some platforms
 * allow six.
 */
export function paced(limit: number): <T>(task: () => Promise<T>) => Promise<T> {
  let running = 0
  const waiting: (() => void)[] = []
  return async (task) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve))
    else running += 1
    try {
      return await task()
    } finally {
      // The place goes straight to the next in line, so that nobody who comes now can take it before.
      const next = waiting.shift()
      if (next) next()
      else running -= 1
    }
  }
}
