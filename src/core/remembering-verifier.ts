import { equalBytes } from './der.ts'
import type { PublicKeyInfo, SignatureScheme, VerifySignature } from './public-key.ts'

/** RSA with 8192 bits. */
const MAX_SIGNATURE_BYTES = 1024

interface Verified {
  readonly key: PublicKeyInfo
  readonly scheme: SignatureScheme
  readonly data: Uint8Array
}

/**
 * A verifier that remembers what it found good: the same token comes with every request of a client for as long as it lives, and
 * checking its signature is most of the work. Only an equal signature by an equal key over equal data is answered from memory;
 * what was found bad is checked again. Times and audiences are the caller's business and are never remembered.
 *
 * @param size signatures kept; the least recently used goes first
 */
export function rememberingVerifier(verify: VerifySignature, size: number): VerifySignature {
  const good = new Map<string, Verified>()
  return async (key, scheme, data, signature) => {
    if (signature.length > MAX_SIGNATURE_BYTES) return verify(key, scheme, data, signature)
    const id = String.fromCharCode(...signature)
    const known = good.get(id)
    const sameKey = known?.key === key || (known && equalBytes(known.key.spki, key.spki))
    if (known && sameKey && known.scheme === scheme && equalBytes(known.data, data)) {
      good.delete(id)
      good.set(id, known)
      return true
    }
    if (!(await verify(key, scheme, data, signature))) return false
    good.set(id, { key, scheme, data })
    if (good.size > size) good.delete(good.keys().next().value!)
    return true
  }
}
