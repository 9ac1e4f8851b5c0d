import { createPrivateKey } from 'node:crypto'
import { KeyType as WireKeyType } from '../../proto/spire/plugin/server/keymanager/v1.ts'
import { hex } from '../core/der.ts'
import { StatusError } from '../core/error.ts'
import type { KeyType, Signer } from '../core/key-type.ts'
import type { KeyManager } from '../core/plugin.ts'
import { sha256 } from '../core/sha256.ts'
import type { Implementation } from './kinds.ts'
import { signDigest } from './sign-digest.ts'

const TYPES: Readonly<Record<KeyType, WireKeyType>> = {
  'ec-p256': WireKeyType.EC_P256,
  'ec-p384': WireKeyType.EC_P384,
  'rsa-2048': WireKeyType.RSA_2048,
  'rsa-4096': WireKeyType.RSA_4096,
}

/** A key manager whose keys lie in memory, as a plugin of either side: hosts have digests signed, and other keys sign messages only. */
export function servedKeyManager(keys: KeyManager): Implementation<'server/KeyManager'> {
  return {
    async generateKey({ keyId, keyType }) {
      requireId(keyId)
      const type = (Object.keys(TYPES) as KeyType[]).find((name) => TYPES[name] === keyType)
      if (!type) throw new StatusError('INVALID_ARGUMENT', 'key type is required')
      return { publicKey: await publicKey(keyId, await keys.generateKey(keyId, type)) }
    },
    async getPublicKey({ keyId }) {
      requireId(keyId)
      const found = await keys.getKey(keyId)
      return { publicKey: found && (await publicKey(keyId, found)) }
    },
    async getPublicKeys() {
      return { publicKeys: await Promise.all([...(await keys.getKeys())].map(([id, key]) => publicKey(id, key))) }
    },
    async signData({ keyId, data, ...options }) {
      requireId(keyId)
      const found = await keys.getKey(keyId)
      if (!found) throw new StatusError('NOT_FOUND', `no such key "${keyId}"`)
      if (!found.exportPrivateKey) throw new StatusError('UNIMPLEMENTED', 'this key signs messages, not digests')
      const key = createPrivateKey({ key: Buffer.from(found.exportPrivateKey()), format: 'der', type: 'pkcs8' })
      return {
        signature: await signDigest(key, data, options),
        keyFingerprint: await fingerprint(found.publicKey),
      }
    },
  }
}

function requireId(id: string): void {
  if (id === '') throw new StatusError('INVALID_ARGUMENT', 'key id is required')
}

async function publicKey(id: string, { keyType, publicKey: pkixData }: Signer) {
  return { id, type: TYPES[keyType], pkixData, fingerprint: await fingerprint(pkixData) }
}

async function fingerprint(spki: Uint8Array): Promise<string> {
  return hex(await sha256(spki))
}
