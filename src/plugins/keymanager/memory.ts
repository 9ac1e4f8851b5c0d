import type { KeyType, Signer } from '../../core/key-type.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { generateSigner } from '../signer.ts'

/** Keys in memory only: a restart loses them, and with them every authority. */
export function memoryKeyManager(): KeyManager {
  const keys = new Map<string, Signer>()
  return {
    async generateKey(id: string, type: KeyType): Promise<Signer> {
      const signer = await generateSigner(type)
      keys.set(id, signer)
      return signer
    },
    getKey: async (id) => keys.get(id),
    getKeys: async () => keys,
  }
}
