import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { PlainObject, PlainValue } from '../../config/plain.ts'
import { type Clock, epochSeconds } from '../../core/clock.ts'
import { errorMessage } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import type { KeyManager } from '../../core/plugin.ts'
import type { WrappedKeyStore } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { diskKeyManager } from '../../plugins/keymanager/disk.ts'
import { memoryKeyManager } from '../../plugins/keymanager/memory.ts'
import { sharedByName } from '../../plugins/keymanager/shared.ts'
import { importSigner } from '../../plugins/signer.ts'
import type { VaultAuth } from '../../plugins/vault/client.ts'
import { type PluginMakers, textOf, withoutData } from '../plugin-set.ts'

export interface KeyManagerEnvironment {
  readonly trustDomain: TrustDomain
  readonly clock: Clock
  readonly log: Log
  readonly env: Readonly<Record<string, string | undefined>>
  /** Of the server's database. */
  readonly keys: WrappedKeyStore
}

/** The key managers by the name in the configuration. Those that talk to a service load its client only when chosen. */
export function keyManagers(environment: KeyManagerEnvironment): PluginMakers<KeyManager> {
  return {
    memory(data) {
      withoutData(data)
      return memoryKeyManager()
    },
    disk(data) {
      const path = textOf(data, 'keys_path')
      if (path === '') throw new Error('keys_path is required')
      return diskKeyManager(resolve(path))
    },
    database: (data) => databaseKeys(data, environment),
    aws_kms: (data) => awsKms(data, environment),
    hashicorp_vault: (data) => hashicorpVault(data, environment),
  }
}

async function databaseKeys(
  data: PlainObject,
  { trustDomain, keys, env, log }: KeyManagerEnvironment,
): Promise<KeyManager> {
  const { databaseKeyManager, parseKek } = await import('../../plugins/keymanager/database.ts')
  const keks = kekSources(data).map(({ version, variable, file }) => {
    const text = variable === '' ? readKek(file, log) : env[variable]
    if (!text) throw new Error(`the environment variable ${variable} is not set`)
    try {
      return { version, key: parseKek(text) }
    } catch (error) {
      throw new Error(`version "${version}" from ${variable || JSON.stringify(file)}: ${errorMessage(error)}`)
    }
  })
  const importKey = (pkcs8: Uint8Array) => {
    // node:crypto signs at once; what it is given here is not to be exported again.
    const { keyType, publicKey, sign } = importSigner(pkcs8)
    return { keyType, publicKey, sign }
  }
  return databaseKeyManager({ trustDomain, keys, keks, importKey })
}

function readKek(file: string, log: Log): string {
  if ((statSync(file).mode & 0o007) !== 0) log.warn('The key-encryption key can be read by everybody', { path: file })
  return readFileSync(file, 'utf8')
}

interface KekSource {
  readonly version: string
  /** One of the two is empty. */
  readonly variable: string
  readonly file: string
}

/**
 * Where the key-encryption keys are, the newest first.
 * @throws Error if a source is missing or given twice, or a key is not known
 */
export function kekSources(data: PlainObject): readonly KekSource[] {
  const previous = data.previous === undefined ? {} : objectOf(data.previous)
  const newest = kekSource(textOf(data, 'kek_version') || '1', data, ['kek_version', 'previous'])
  return [newest, ...Object.entries(previous).map(([version, block]) => kekSource(version, objectOf(block), []))]
}

function kekSource(version: string, data: PlainObject, others: readonly string[]): KekSource {
  for (const key of Object.keys(data)) {
    if (key !== 'kek_env' && key !== 'kek_file' && !others.includes(key)) throw new Error(`unknown key "${key}"`)
  }
  const [variable, file] = [textOf(data, 'kek_env'), textOf(data, 'kek_file')]
  if ((variable === '') === (file === '')) {
    throw new Error(`exactly one of kek_env and kek_file must be configured for version "${version}"`)
  }
  return { version, variable, file: file === '' ? '' : resolve(file) }
}

async function awsKms(data: PlainObject, { trustDomain, clock, log, env }: KeyManagerEnvironment): Promise<KeyManager> {
  checkAwsKms(data)
  const region = textOf(data, 'region')
  const serverId = serverIdOf(data)
  const policyFile = textOf(data, 'key_policy_file')
  const { awsKmsKeyManager } = await import('../../plugins/keymanager/aws_kms.ts')
  const { awsCredentials, awsEndpoint } = await import('../../plugins/aws/credentials.ts')
  const { awsService } = await import('../../plugins/aws/call.ts')
  const credentials = awsCredentials({
    accessKeyId: textOf(data, 'access_key_id'),
    secretAccessKey: textOf(data, 'secret_access_key'),
    region,
    env,
    nowMs: clock.nowMs,
  })
  const service = (name: string) =>
    awsService({ service: name, region, endpoint: awsEndpoint(name, region, env), credentials })
  const manager = awsKmsKeyManager({
    trustDomain,
    serverId,
    kms: service('kms'),
    sts: service('sts'),
    ...(policyFile === '' ? {} : { keyPolicy: readFileSync(policyFile, 'utf8') }),
    ...(data.key_tags === undefined ? {} : { keyTags: tagsOf(data.key_tags) }),
    log,
  })
  return started(sharedIfAsked(manager, data, `aws_kms ${serverId}`), clock)
}

/** `shared = true`: several servers have this identifier, and so these keys. */
function sharedIfAsked(manager: KeyManager, data: PlainObject, scope: string): KeyManager {
  return data.shared === true ? sharedByName(manager, scope) : manager
}

async function hashicorpVault(data: PlainObject, { clock, log, env }: KeyManagerEnvironment): Promise<KeyManager> {
  checkVault(data)
  const serverId = serverIdOf(data)
  const { vaultKeyManager } = await import('../../plugins/keymanager/hashicorp_vault.ts')
  const { vaultClient } = await import('../../plugins/vault/client.ts')
  const { tlsFetch } = await import('../../plugins/vault/tls-fetch.ts')
  // As in SPIRE, the environment wins over the file here.
  const setting = (variable: string, key: string) => env[variable] ?? textOf(data, key)
  const auth = vaultAuth(data, env)
  const caPath = setting('VAULT_CACERT', 'ca_cert_path')
  const insecureSkipVerify = data.insecure_skip_verify === true
  if (insecureSkipVerify) {
    log.warn('TLS verification of Vault certificates is skipped. This is only recommended for test environments.')
  }
  const address = setting('VAULT_ADDR', 'vault_addr')
  if (address === '') throw new Error('vault_addr must be configured, or VAULT_ADDR be set')
  const vault = vaultClient({
    address,
    namespace: setting('VAULT_NAMESPACE', 'namespace'),
    auth: auth.auth,
    fetch: tlsFetch({
      ...auth.tls,
      ...(caPath === '' ? {} : { ca: readFileSync(caPath, 'utf8') }),
      insecureSkipVerify,
    }),
    clock,
  })
  const transitPath = setting('VAULT_TRANSIT_ENGINE_PATH', 'transit_engine_path')
  const manager = vaultKeyManager({
    serverId,
    ...(transitPath === '' ? {} : { transitPath }),
    vault,
    newUuid: randomUUID,
    log,
  })
  return started(sharedIfAsked(manager, data, `hashicorp_vault ${serverId}`), clock)
}

/** Finds out at the start, not at the first signature, that the service is there and lets us in. */
async function started(manager: KeyManager, clock: Clock): Promise<KeyManager> {
  await manager.getKeys()
  await manager.maintain?.(epochSeconds(clock))
  return manager
}

/** @throws Error with SPIRE's texts */
export function checkAwsKms(data: PlainObject): void {
  if (textOf(data, 'region') === '') throw new Error('configuration is missing a region')
  const value = textOf(data, 'key_identifier_value')
  if (/[^A-Za-z0-9/_-]/.test(value)) {
    throw new Error(
      'Key identifier must contain only alphanumeric characters, forward slashes (/), underscores (_), and dashes (-)',
    )
  }
  if (value.startsWith('alias/aws/')) throw new Error('Key identifier must not start with alias/aws/')
  if (value.length > 256) throw new Error('Key identifier must not be longer than 256 characters')
  const file = textOf(data, 'key_identifier_file')
  if (file === '' && value === '') {
    throw new Error('configuration requires a key identifier file or a key identifier value')
  }
  if (file !== '' && value !== '') {
    throw new Error("configuration can't have a key identifier file and a key identifier value at the same time")
  }
  if (data.key_tags !== undefined) tagsOf(data.key_tags)
  if (data.enable_tag_based_key_discovery === true) {
    throw new Error('enable_tag_based_key_discovery is not supported by this version; keys are found by their aliases')
  }
}

/** @throws Error with SPIRE's texts */
export function checkVault(data: PlainObject): void {
  const [file, value] = [textOf(data, 'key_identifier_file'), textOf(data, 'key_identifier_value')]
  if (file !== '' && value !== '') {
    throw new Error("only one of 'key_identifier_file' or 'key_identifier_value' should be provided")
  }
  if (file === '' && value === '') {
    throw new Error("one of 'key_identifier_file' or 'key_identifier_value' must be provided")
  }
  if (!/^[A-Za-z0-9_.-]*$/.test(value)) {
    throw new Error('key_identifier_value must contain only letters, digits, dots, underscores and dashes')
  }
  authMethodOf(data)
}

const AUTH_METHODS = ['token_auth', 'cert_auth', 'approle_auth', 'k8s_auth'] as const

function authMethodOf(data: PlainObject): (typeof AUTH_METHODS)[number] {
  const [method, another] = AUTH_METHODS.filter((name) => data[name] !== undefined)
  if (another) throw new Error('only one authentication method can be configured')
  if (!method)
    throw new Error(
      'must be configured one of these authentication method Token, Client Certificate, AppRole or Kubernetes',
    )
  return method
}

function vaultAuth(
  data: PlainObject,
  env: KeyManagerEnvironment['env'],
): { readonly auth: VaultAuth; readonly tls?: { readonly cert: string; readonly key: string } } {
  const method = authMethodOf(data)
  const block = objectOf(data[method])
  const mountOf = (fallback: string) => textOf(block, `${method}_mount_point`) || fallback
  switch (method) {
    case 'token_auth': {
      const token = env.VAULT_TOKEN ?? textOf(block, 'token')
      if (token === '') throw new Error('token is empty')
      return { auth: { method: 'token', token } }
    }
    case 'approle_auth': {
      const body = {
        role_id: env.VAULT_APPROLE_ID ?? textOf(block, 'approle_id'),
        secret_id: env.VAULT_APPROLE_SECRET_ID ?? textOf(block, 'approle_secret_id'),
      }
      return { auth: { method: 'login', mount: mountOf('approle'), body: () => body } }
    }
    case 'k8s_auth': {
      const role = textOf(block, 'k8s_auth_role_name')
      const path = textOf(block, 'token_path')
      if (role === '') throw new Error('k8s_auth_role_name is required')
      if (path === '') throw new Error('token_path is required')
      const body = async () => ({ role, jwt: (await readFile(path, 'utf8')).trim() })
      return { auth: { method: 'login', mount: mountOf('kubernetes'), body } }
    }
    case 'cert_auth': {
      const name = textOf(block, 'cert_auth_role_name')
      const read = (variable: string, key: string) => readFileSync(env[variable] ?? textOf(block, key), 'utf8')
      const tls = {
        cert: read('VAULT_CLIENT_CERT', 'client_cert_path'),
        key: read('VAULT_CLIENT_KEY', 'client_key_path'),
      }
      return { auth: { method: 'login', mount: mountOf('cert'), body: () => (name === '' ? {} : { name }) }, tls }
    }
  }
}

/** The name of this server in the service: given, or a UUID kept in a file. */
function serverIdOf(data: PlainObject): string {
  const value = textOf(data, 'key_identifier_value')
  if (value !== '') return value
  const path = textOf(data, 'key_identifier_file')
  if (!existsSync(path)) {
    const id = randomUUID()
    writeFileSync(path, id, { mode: 0o600, flag: 'wx' })
    return id
  }
  const id = readFileSync(path, 'utf8').trim()
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) {
    throw new Error(`failed to parse server ID from path: ${path} does not hold a UUID`)
  }
  return id.toLowerCase()
}

function tagsOf(value: PlainValue): Readonly<Record<string, string>> {
  const tags: Record<string, string> = {}
  for (const [key, tag] of Object.entries(objectOf(value))) {
    if (typeof tag !== 'string' || !/^[\p{L}\p{N}\s+\-=._:/@]*$/u.test(tag) || tag.length > 256) {
      throw new Error(`invalid configuration for key tags: the value of ${JSON.stringify(key)} is not allowed`)
    }
    if (!/^[\p{L}\p{N}\s+\-=._:/@]{1,128}$/u.test(key) || key.startsWith('aws:')) {
      throw new Error(`invalid configuration for key tags: the key ${JSON.stringify(key)} is not allowed`)
    }
    tags[key] = tag
  }
  return tags
}

function objectOf(value: PlainValue | undefined): PlainObject {
  if (typeof value !== 'object' || Array.isArray(value)) throw new Error('unable to decode configuration: not a block')
  return value as PlainObject
}
