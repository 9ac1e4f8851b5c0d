import { utf8 } from '../src/core/der.ts'
import { type KeyEncryptionKey, parseKek } from '../src/plugins/keymanager/database.ts'
import type { WrappingKey } from './options.ts'

/** Reads keys that are text. @throws Error that says nothing of the text */
export function keyEncryptionKeys(keys: readonly WrappingKey[]): readonly KeyEncryptionKey[] {
  return keys.map(({ version, key }) => ({ version, key: typeof key === 'string' ? parseKek(key) : key }))
}

/**
 * The secret that seals unfinished attestations, from the newest key-encryption key, so that all isolates have the same one.
 *
 * A key that cannot be exported stands for what it makes of a fixed block: AES in counter mode under a nonce that is used for nothing else
 * and whose output stays here.
 */
export async function sealSecretOf({ key }: KeyEncryptionKey): Promise<Uint8Array> {
  const material = key instanceof Uint8Array ? key : await keystream(key)
  const imported = await crypto.subtle.importKey('raw', material as BufferSource, 'HKDF', false, ['deriveBits'])
  const parameters = {
    name: 'HKDF',
    hash: 'SHA-256',
    salt: new Uint8Array(0),
    info: utf8('turret key-encryption key: seal of attestations') as BufferSource,
  }
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, imported, 256))
}

async function keystream(key: CryptoKey): Promise<Uint8Array> {
  const nonce = utf8('turret seal!') as BufferSource
  return new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce }, key, new Uint8Array(32)))
}
