/** The key types of SPIRE's configuration, with what Web Crypto calls them. */
export const KEY_TYPES = {
  'ec-p256': { algorithm: { name: 'ECDSA', namedCurve: 'P-256' }, hash: 'SHA-256', jws: 'ES256' },
  'ec-p384': { algorithm: { name: 'ECDSA', namedCurve: 'P-384' }, hash: 'SHA-384', jws: 'ES384' },
  'rsa-2048': { algorithm: { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048 }, hash: 'SHA-256', jws: 'RS256' },
  'rsa-4096': { algorithm: { name: 'RSASSA-PKCS1-v1_5', modulusLength: 4096 }, hash: 'SHA-256', jws: 'RS256' },
} as const

export type KeyType = keyof typeof KEY_TYPES

/**
 * A private key that can sign and never leaves its place.
 *
 * `sign` hashes `data` with the hash of the key type and returns raw r||s (IEEE P1363) for ECDSA, PKCS#1 v1.5 for RSA.
 * It may answer at once: on Node a synchronous signature costs a third of a Web Crypto one.
 */
export interface Signer {
  readonly keyType: KeyType
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  sign(data: Uint8Array): Uint8Array | Promise<Uint8Array>
  /** PKCS#8 DER, only where the key lies in this process's memory (TLS wants it). Who calls this owns a secret. */
  exportPrivateKey?(): Uint8Array
}
