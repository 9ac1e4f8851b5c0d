import { type KeyEncryptionKey, parseKek } from '../src/plugins/keymanager/database.ts'
import type { WrappingKey } from './options.ts'

/** Reads keys that are text. @throws Error that says nothing of the text */
export function keyEncryptionKeys(keys: readonly WrappingKey[]): readonly KeyEncryptionKey[] {
  return keys.map(({ version, key }) => ({ version, key: typeof key === 'string' ? parseKek(key) : key }))
}
