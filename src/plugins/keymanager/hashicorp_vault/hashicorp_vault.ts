import { base64, fromBase64 } from '../../../core/base64.ts'
import { StatusError, wrapError } from '../../../core/error.ts'
import type { KeyType, Signer } from '../../../core/key-type.ts'
import type { Log } from '../../../core/log.ts'
import { decodePem } from '../../../core/pem.ts'
import type { KeyManager } from '../../../core/plugin.ts'
import { type VaultData, VaultError, type VaultSend } from '../../vault/client.ts'
import { paced, remoteSigner } from '../remote-signer.ts'

export interface VaultKeysOptions {
  /** Names this server, or all replicas that share their keys; the first part of every key's name. */
  readonly serverId: string
  /** Default `transit`. */
  readonly transitPath?: string
  readonly vault: VaultSend
  readonly newUuid: () => string
  readonly log: Log
  /** Calls at once; default 50. */
  readonly concurrency?: number
}

interface Key {
  readonly name: string
  readonly createdAt: number
  readonly signer: Signer
}

const TYPES = {
  'ec-p256': 'ecdsa-p256',
  'ec-p384': 'ecdsa-p384',
  'rsa-2048': 'rsa-2048',
  'rsa-4096': 'rsa-4096',
} as const
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/**
 * Keys in the transit engine of HashiCorp Vault or OpenBao, named as SPIRE names them (`<server id>-<uuid>-<key id>`), so that either
 * takes over the other's keys. Private keys never leave the engine: each signature is a call.
 *
 * @see server.md 8.1
 */
export function vaultKeyManager(options: VaultKeysOptions): KeyManager {
  const { serverId, log, newUuid } = options
  const path = options.transitPath ?? 'transit'
  const inTurn = paced(options.concurrency ?? 50)
  const known = new Map<string, Key>()
  /** Names of keys that were replaced and could not be deleted yet. */
  const outdated = new Set<string>()

  async function call(complaint: string, ...request: Parameters<VaultSend>): Promise<VaultData> {
    try {
      return await inTurn(() => options.vault(...request))
    } catch (error) {
      throw wrapError('INTERNAL', complaint, error)
    }
  }

  /** Signs with the version whose public key was read: somebody may rotate the key in the engine, whose default is the latest. */
  const signerOf = (name: string, keyVersion: number, type: KeyType, publicKey: Uint8Array): Signer =>
    remoteSigner(type, publicKey, async (digest) => {
      const hash = type === 'ec-p384' ? 'sha2-384' : 'sha2-256'
      const body = {
        input: base64(digest),
        prehashed: true,
        key_version: keyVersion,
        marshaling_algorithm: 'asn1',
        ...(type.startsWith('rsa') ? { signature_algorithm: 'pkcs1v15' } : {}),
      }
      const { signature } = await call('transit engine sign call failed', 'POST', `${path}/sign/${name}/${hash}`, body)
      const match = /^vault:v(\d+):([A-Za-z0-9+/]+={0,2})$/.exec(typeof signature === 'string' ? signature : '')
      if (!match) throw new StatusError('INTERNAL', 'transit engine sign call was successful but signature is missing')
      if (match[1] !== String(keyVersion)) {
        throw new StatusError(
          'INTERNAL',
          `transit engine signed with version ${match[1]} of the key, not with ${keyVersion}`,
        )
      }
      return fromBase64(match[2]!)
    })

  async function fetchKey(name: string): Promise<Key> {
    const data = await call('failed to get transit engine key', 'GET', `${path}/keys/${name}`)
    const type = Object.entries(TYPES).find(([, vaultType]) => vaultType === data.type)?.[0] as KeyType | undefined
    if (!type) throw new StatusError('INTERNAL', `unsupported key type: ${String(data.type)}`)
    const versions = data.keys as
      | Readonly<Record<string, { public_key?: unknown; creation_time?: unknown }>>
      | undefined
    const keyVersion = Number(data.latest_version)
    const version = versions?.[String(keyVersion)]
    if (typeof version?.public_key !== 'string') throw new StatusError('INTERNAL', 'expected public key to be present')
    const [block] = decodePem(version.public_key)
    if (block?.label !== 'PUBLIC KEY') throw new StatusError('INTERNAL', 'unable to decode PEM key')
    return {
      name,
      createdAt: Date.parse(String(version.creation_time)),
      signer: signerOf(name, keyVersion, type, block.bytes),
    }
  }

  /** Key id by name, of the keys of this server. */
  function keyIdOf(name: string): string | undefined {
    const rest = name.startsWith(`${serverId}-`) ? name.slice(serverId.length + 1) : ''
    return UUID.test(rest.slice(0, 36)) && rest[36] === '-' && rest.length > 37 ? rest.slice(37) : undefined
  }

  async function generateKey(id: string, type: KeyType): Promise<Signer> {
    const name = `${serverId}-${newUuid()}-${id}`
    await call('failed to create transit engine key', 'POST', `${path}/keys/${name}`, {
      type: TYPES[type],
      exportable: false,
    })
    const key = await fetchKey(name)
    const former = known.get(id)
    known.set(id, key)
    if (former) await remove(former.name)
    return key.signer
  }

  /** One that cannot be deleted now is tried again at the next maintenance: the new key is in use already. */
  async function remove(name: string): Promise<void> {
    outdated.add(name)
    try {
      const config = { deletion_allowed: true }
      await call('failed to enable deletion of transit engine key', 'POST', `${path}/keys/${name}/config`, config)
      await call('failed to delete transit engine key', 'DELETE', `${path}/keys/${name}`)
      outdated.delete(name)
      log.debug('Key deleted', { key_name: name })
    } catch (error) {
      log.error('It was not possible to delete a key. It is tried again later', {
        key_name: name,
        reason: String(error),
      })
    }
  }

  async function names(): Promise<readonly string[]> {
    try {
      const { keys } = await call('transit engine list keys call failed', 'LIST', `${path}/keys`)
      return Array.isArray(keys) ? keys.map(String) : []
    } catch (error) {
      // An engine without keys answers like one that is not there.
      const cause = (error as Error).cause
      if (cause instanceof VaultError && cause.status === 404) return []
      throw error
    }
  }

  /** Of several keys with one id the newest counts: somebody stopped before the older one was deleted. */
  async function load(wanted?: string): Promise<void> {
    const ours = (await names()).filter((name) => {
      const id = keyIdOf(name)
      return id !== undefined && (wanted === undefined || id === wanted)
    })
    const kept = new Map([...known.values()].map((key) => [key.name, key]))
    const keys = await Promise.all(ours.map(async (name) => kept.get(name) ?? (await fetchKey(name))))
    if (wanted === undefined) known.clear()
    else known.delete(wanted)
    for (const key of keys.sort((a, b) => a.createdAt - b.createdAt)) known.set(keyIdOf(key.name)!, key)
  }

  return {
    generateKey,
    async getKey(id) {
      await load(id)
      return known.get(id)?.signer
    },
    async getKeys() {
      await load()
      return new Map([...known].map(([id, { signer }]) => [id, signer]))
    },
    async maintain() {
      for (const name of [...outdated]) await remove(name)
    },
  }
}
