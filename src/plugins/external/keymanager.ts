import {
  GenerateKeyRequest,
  GenerateKeyResponse,
  GetPublicKeyRequest,
  GetPublicKeyResponse,
  GetPublicKeysRequest,
  GetPublicKeysResponse,
  type PublicKey,
  SignDataRequest,
  SignDataResponse,
} from '../../../proto/spire/plugin/server/keymanager/v1.ts'
import { errorMessage } from '../../core/error.ts'
import { KEY_TYPES, type KeyType, type Signer } from '../../core/key-type.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { keyTypeOf, parsePublicKey, type SignatureScheme } from '../../core/public-key.ts'
import { remoteSigner } from '../keymanager/remote-signer.ts'
import { nodeVerifier } from '../signer.ts'
import type { PluginCalls } from './calls.ts'

/** SPIRE's. */
const TIMEOUT = { timeoutMs: 30_000 }
/** A server has six, and a SPIRE server that shared the plugin before may have left more. */
const MAX_KEYS = 1024

const WIRE_TYPES = { 'ec-p256': 1, 'ec-p384': 2, 'rsa-2048': 3, 'rsa-4096': 4 } as const
/** Numbers of the algorithm in messages are Go's. */
const WIRE_HASHES = { 'SHA-256': 5, 'SHA-384': 6 } as const

const SERVICE = '/spire.plugin.server.keymanager.v1.KeyManager'
const GENERATE = {
  path: `${SERVICE}/GenerateKey`,
  request: GenerateKeyRequest,
  response: GenerateKeyResponse,
}
const GET = {
  path: `${SERVICE}/GetPublicKey`,
  request: GetPublicKeyRequest,
  response: GetPublicKeyResponse,
}
const LIST = {
  path: `${SERVICE}/GetPublicKeys`,
  request: GetPublicKeysRequest,
  response: GetPublicKeysResponse,
}
const SIGN = { path: `${SERVICE}/SignData`, request: SignDataRequest, response: SignDataResponse }

/** Keys in a plugin. What it answers is checked: key, type and each signature. */
export function externalKeyManager(calls: PluginCalls): KeyManager {
  const verify = nodeVerifier()

  const signerOf = (id: string, key: PublicKey | undefined, wanted?: KeyType): Signer => {
    if (key === undefined) throw calls.error('INTERNAL', `plugin response empty for key "${id}"`)
    if (key.id !== id) {
      throw calls.error('INTERNAL', `plugin response has unexpected key id ${JSON.stringify(key.id)} for key "${id}"`)
    }
    if (key.pkixData.length === 0) {
      throw calls.error('INTERNAL', `plugin response missing public key PKIX data for key "${id}"`)
    }
    let info: ReturnType<typeof parsePublicKey>
    try {
      info = parsePublicKey(key.pkixData)
    } catch (error) {
      throw calls.error('INTERNAL', `unable to parse public key PKIX data for key "${id}": ${errorMessage(error)}`)
    }
    const keyType = keyTypeOf(info)
    if (keyType === undefined || (wanted !== undefined && keyType !== wanted)) {
      throw calls.error('INTERNAL', `plugin response has a public key of another type for key "${id}"`)
    }
    const hash = KEY_TYPES[keyType].hash
    const scheme: SignatureScheme = { kind: info.kind === 'rsa' ? 'rsa-pkcs1' : 'ecdsa', hash }
    const remote = remoteSigner(keyType, key.pkixData, async (digest) => {
      const { signature, keyFingerprint } = await calls.unary(
        SIGN,
        { keyId: id, data: digest, hashAlgorithm: WIRE_HASHES[hash], pssOptions: undefined },
        TIMEOUT,
      )
      if (signature.length === 0) throw calls.error('INTERNAL', 'plugin returned empty signature data')
      if (keyFingerprint !== key.fingerprint) {
        throw calls.error(
          'INTERNAL',
          `fingerprint ${JSON.stringify(key.fingerprint)} on key "${id}" does not match ${JSON.stringify(keyFingerprint)}`,
        )
      }
      return signature
    })
    return {
      ...remote,
      async sign(data) {
        const signature = await remote.sign(data)
        // What is signed goes into the world, where nobody could use it.
        if (await verify(info, scheme, data, signature)) return signature
        throw calls.error('INTERNAL', `plugin returned a signature that is not of key "${id}"`)
      },
    }
  }

  return {
    async generateKey(id, type) {
      const { publicKey } = await calls.unary(GENERATE, { keyId: id, keyType: WIRE_TYPES[type] }, TIMEOUT)
      return signerOf(id, publicKey, type)
    },
    async getKey(id) {
      const { publicKey } = await calls.unary(GET, { keyId: id }, TIMEOUT)
      return publicKey && signerOf(id, publicKey)
    },
    async getKeys() {
      const { publicKeys } = await calls.unary(LIST, {}, TIMEOUT)
      if (publicKeys.length > MAX_KEYS) throw calls.error('INTERNAL', `plugin response has more than ${MAX_KEYS} keys`)
      return new Map(publicKeys.map((key) => [key.id, signerOf(key.id, key)]))
    },
  }
}
