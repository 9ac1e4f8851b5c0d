import { type KeyEncryptionKey, parseKek } from './database.ts'

/** A key-encryption key under the name by which stored keys remember it. */
export interface WrappingKey {
  readonly version: string
  /** 32 bytes, or their text in hex or base64, or an AES-GCM key that may encrypt and decrypt. */
  readonly key: string | Uint8Array | CryptoKey
}

/** Reads keys that are text. @throws Error that says nothing of the text */
export function keyEncryptionKeys(keys: readonly WrappingKey[]): readonly KeyEncryptionKey[] {
  return keys.map(({ version, key }) => ({ version, key: typeof key === 'string' ? parseKek(key) : key }))
}
