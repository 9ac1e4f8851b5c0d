import { base64, fromBase64 } from '../../../core/base64.ts'
import { equalBytes, utf8 } from '../../../core/der.ts'
import { StatusError } from '../../../core/error.ts'
import type { KeyType, Signer } from '../../../core/key-type.ts'
import type { KeyManager, SharedKeys } from '../../../core/plugin.ts'
import type { WrappedKey, WrappedKeyStore } from '../../../core/store.ts'
import type { TrustDomain } from '../../../core/trust-domain.ts'
import { generateWebCryptoKey, importWebCryptoSigner } from '../../../core/web-crypto-signer.ts'

/** A key-encryption key from the platform, under the name by which stored keys remember it. */
export interface KeyEncryptionKey {
  readonly version: string
  /** 32 bytes, or an AES-GCM key that may encrypt and decrypt. */
  readonly key: Uint8Array | CryptoKey
}

export interface DatabaseKeyManagerOptions {
  readonly trustDomain: TrustDomain
  readonly keys: WrappedKeyStore
  /** The first one wraps; the others open what they wrapped before. */
  readonly keks: readonly KeyEncryptionKey[]
  /** Makes a signer of a PKCS#8 key; Web Crypto, from which it cannot be taken again, unless given. The bytes are wiped after. */
  readonly importKey?: (pkcs8: Uint8Array, type: KeyType, publicKey: Uint8Array) => Signer | Promise<Signer>
}

/** What all views of one manager have in common. */
interface Vault {
  readonly trustDomain: TrustDomain
  readonly newest: string
  readonly secret: (purpose: string) => Promise<Uint8Array>
  readonly keks: ReadonlyMap<string, CryptoKey>
  readonly importKey: NonNullable<DatabaseKeyManagerOptions['importKey']>
  /** Opened keys by name: a key is unwrapped once, and again when another one has its name. */
  readonly opened: Map<string, Signer>
  needsRewrap: boolean
}

const NONCE_BYTES = 12
const KEK_BYTES = 32
const VERSION = /^[A-Za-z0-9._-]{1,64}$/

/**
 * Keys in the server's database, common to all replicas: PKCS#8 under AES-256-GCM. A wrapped key opens only for its trust
 * domain, name, type, public key and version of the key-encryption key.
 *
 * A key that cannot be opened is an error that names the version and what to do; it is never overwritten.
 * @throws Error if the key-encryption keys are not 32 bytes or their versions no distinct names
 */
export async function databaseKeyManager(options: DatabaseKeyManagerOptions): Promise<KeyManager> {
  const { trustDomain, keys, keks, importKey = importWebCryptoSigner } = options
  const newest = keks[0]?.version
  if (newest === undefined) throw new Error('a key-encryption key must be configured')
  const imported = new Map<string, CryptoKey>()
  for (const { version, key } of keks) {
    if (!VERSION.test(version))
      throw new Error('the version of a key-encryption key is 1 to 64 letters, digits, ".", "_" or "-"')
    if (imported.has(version)) throw new Error(`version "${version}" of the key-encryption key is configured twice`)
    imported.set(version, await importKek(version, key))
  }
  const secret = (purpose: string) => secretOf(keks[0]!, purpose)
  const vault: Vault = { trustDomain, newest, secret, keks: imported, importKey, opened: new Map(), needsRewrap: false }
  return managerOf(vault, keys)
}

/**
 * A secret for one purpose from a key-encryption key, 32 bytes, the same wherever that key is.
 *
 * A key that cannot be exported stands for what it makes of a fixed block: AES in counter mode under a nonce that is used for nothing else
 * and whose output stays here.
 */
async function secretOf({ key }: KeyEncryptionKey, purpose: string): Promise<Uint8Array> {
  const material = key instanceof Uint8Array ? key : await keystream(key)
  const imported = await crypto.subtle.importKey('raw', material as BufferSource, 'HKDF', false, ['deriveBits'])
  const parameters = {
    name: 'HKDF',
    hash: 'SHA-256',
    salt: new Uint8Array(0),
    info: utf8(`turret key-encryption key: ${purpose}`) as BufferSource,
  }
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, imported, 256))
}

async function keystream(key: CryptoKey): Promise<Uint8Array> {
  const nonce = utf8('turret seal!') as BufferSource
  return new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce }, key, new Uint8Array(32)))
}

function managerOf(vault: Vault, keys: WrappedKeyStore): KeyManager {
  const shared: SharedKeys = {
    scope: '',
    through: (store) => managerOf(vault, store),
    get needsRewrap() {
      return vault.needsRewrap
    },
    rewrap: (store) => rewrap(vault, store),
    secret: vault.secret,
  }

  async function generateKey(id: string, keyType: KeyType): Promise<Signer> {
    const present = await keys.get(id)
    // Who cannot open what is there has the wrong key-encryption key, and must not bury the evidence.
    if (present) (await unwrap(vault, present)).fill(0)
    const { pkcs8, publicKey } = await generateWebCryptoKey(keyType)
    try {
      await keys.save(await wrap(vault, { id, keyType, publicKey }, pkcs8))
      const signer = await vault.importKey(pkcs8, keyType, publicKey)
      vault.opened.set(id, signer)
      return signer
    } finally {
      pkcs8.fill(0)
    }
  }

  return {
    generateKey,
    async getKey(id) {
      const stored = await keys.get(id)
      return stored && open(vault, stored)
    },
    async getKeys() {
      const stored = await keys.list()
      vault.needsRewrap = stored.some(({ kekVersion }) => kekVersion !== vault.newest)
      const signers = await Promise.all(stored.map(async (key) => [key.id, await open(vault, key)] as const))
      return new Map(signers)
    },
    shared,
  }
}

async function open(vault: Vault, stored: WrappedKey): Promise<Signer> {
  const known = vault.opened.get(stored.id)
  if (known && equalBytes(known.publicKey, stored.publicKey)) return known
  const pkcs8 = await unwrap(vault, stored)
  try {
    const signer = await vault.importKey(pkcs8, stored.keyType, stored.publicKey)
    vault.opened.set(stored.id, signer)
    return signer
  } finally {
    pkcs8.fill(0)
  }
}

async function rewrap(vault: Vault, keys: WrappedKeyStore): Promise<void> {
  for (const stored of await keys.list()) {
    if (stored.kekVersion === vault.newest) continue
    const pkcs8 = await unwrap(vault, stored)
    try {
      await keys.save(await wrap(vault, stored, pkcs8))
    } finally {
      pkcs8.fill(0)
    }
  }
  vault.needsRewrap = false
}

type KeyFacts = Pick<WrappedKey, 'id' | 'keyType' | 'publicKey'>

async function wrap(vault: Vault, { id, keyType, publicKey }: KeyFacts, pkcs8: Uint8Array): Promise<WrappedKey> {
  const kekVersion = vault.newest
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES))
  const parameters = {
    name: 'AES-GCM',
    iv: nonce,
    additionalData: boundTo(vault, { id, keyType, publicKey }, kekVersion),
  }
  const sealed = await crypto.subtle.encrypt(parameters, vault.keks.get(kekVersion)!, pkcs8 as BufferSource)
  const wrapped = new Uint8Array(NONCE_BYTES + sealed.byteLength)
  wrapped.set(nonce)
  wrapped.set(new Uint8Array(sealed), NONCE_BYTES)
  return { id, keyType, publicKey, wrapped, kekVersion }
}

/** @returns PKCS#8, which the caller wipes @throws StatusError FAILED_PRECONDITION */
async function unwrap(vault: Vault, stored: WrappedKey): Promise<Uint8Array> {
  const { id, wrapped, kekVersion } = stored
  const kek = vault.keks.get(kekVersion)
  if (!kek) {
    const configured = [...vault.keks.keys()].map((version) => `"${version}"`).join(', ')
    throw new StatusError(
      'FAILED_PRECONDITION',
      `key "${id}" is wrapped with version "${kekVersion}" of the key-encryption key, which is not configured (configured: ${configured}); configure it as a previous version. Nothing was changed`,
    )
  }
  const parameters = {
    name: 'AES-GCM',
    iv: wrapped.subarray(0, NONCE_BYTES) as BufferSource,
    additionalData: boundTo(vault, stored, kekVersion),
  }
  try {
    return new Uint8Array(await crypto.subtle.decrypt(parameters, kek, wrapped.subarray(NONCE_BYTES) as BufferSource))
  } catch {
    // Web Crypto says no more than that it failed.
    throw new StatusError(
      'FAILED_PRECONDITION',
      `key "${id}" does not open with version "${kekVersion}" of the key-encryption key: the one configured under that version is not the one that wrapped it, or the stored key was altered; configure the right one. Nothing was changed`,
    )
  }
}

/** What a wrapped key is bound to beside its key-encryption key. */
function boundTo(vault: Vault, { id, keyType, publicKey }: KeyFacts, kekVersion: string): BufferSource {
  return utf8(
    JSON.stringify(['turret wrapped key', vault.trustDomain, id, keyType, kekVersion, base64(publicKey)]),
  ) as BufferSource
}

async function importKek(version: string, key: Uint8Array | CryptoKey): Promise<CryptoKey> {
  if (key instanceof Uint8Array) {
    if (key.length !== KEK_BYTES) {
      throw new Error(
        `version "${version}" of the key-encryption key has ${key.length} bytes; it must have ${KEK_BYTES}`,
      )
    }
    return crypto.subtle.importKey('raw', key as BufferSource, 'AES-GCM', false, ['encrypt', 'decrypt'])
  }
  const { name, length } = key.algorithm as { readonly name: string; readonly length?: number }
  if (
    name !== 'AES-GCM' ||
    length !== KEK_BYTES * 8 ||
    !['encrypt', 'decrypt'].every((use) => key.usages.includes(use as KeyUsage))
  ) {
    throw new Error(
      `version "${version}" of the key-encryption key must be an AES-GCM key of 256 bits that may encrypt and decrypt`,
    )
  }
  return key
}

/**
 * Reads a key-encryption key from text: 32 bytes in hex or in base64 (either alphabet, with or without padding), and white space
 * around it.
 * @throws Error that says nothing of the text
 */
export function parseKek(text: string): Uint8Array {
  const bare = text.trim()
  if (/^[0-9a-fA-F]{64}$/.test(bare)) {
    return Uint8Array.from({ length: KEK_BYTES }, (_, index) =>
      Number.parseInt(bare.slice(2 * index, 2 * index + 2), 16),
    )
  }
  if (/^[A-Za-z0-9+/_-]{43}=?$/.test(bare)) {
    return fromBase64(`${bare.slice(0, 43).replace(/-/g, '+').replace(/_/g, '/')}=`)
  }
  throw new Error('a key-encryption key is 32 bytes in hex or base64')
}
