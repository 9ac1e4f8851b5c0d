import type { KeyType, Signer } from '../../core/key-type.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { half, type PluginDeclaration } from '../plugin.ts'
import { withoutData } from '../plugin-data.ts'
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

const make = half({
  keys: [],
  read: withoutData,
  make: () => memoryKeyManager(),
})
const declaration: PluginDeclaration<'KeyManager'> = { server: make, agent: make }
export default declaration
