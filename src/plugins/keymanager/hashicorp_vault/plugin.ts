import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { PlainObject } from '../../../config/plain.ts'
import { half, type PluginDeclaration, type ServerHost } from '../../plugin.ts'
import { objectOf, textOf } from '../../plugin-data.ts'
import type { VaultAuth } from '../../vault/client.ts'
import { readServerName, serverIdOf, started } from '../service.ts'

const NAME = 'hashicorp_vault'
type Environment = ServerHost['env']

const AUTH_METHODS = ['token_auth', 'cert_auth', 'approle_auth', 'k8s_auth'] as const

/** @throws Error with SPIRE's texts */
export function readVault(data: PlainObject) {
  const server = readServerName(data)
  if (server.file !== '' && server.value !== '') {
    throw new Error("only one of 'key_identifier_file' or 'key_identifier_value' should be provided")
  }
  if (server.file === '' && server.value === '') {
    throw new Error("one of 'key_identifier_file' or 'key_identifier_value' must be provided")
  }
  if (!/^[A-Za-z0-9_.-]*$/.test(server.value)) {
    throw new Error('key_identifier_value must contain only letters, digits, dots, underscores and dashes')
  }
  const method = authMethodOf(data)
  return { data, server, method, shared: data.shared === true }
}

const declaration: PluginDeclaration<'KeyManager'> = {
  server: half({
    keys: [
      'vault_addr',
      'namespace',
      'transit_engine_path',
      'key_identifier_file',
      'key_identifier_value',
      'ca_cert_path',
      'insecure_skip_verify',
      'shared',
      'token_auth.token',
      'approle_auth.approle_auth_mount_point',
      'approle_auth.approle_id',
      'approle_auth.approle_secret_id',
      'k8s_auth.k8s_auth_mount_point',
      'k8s_auth.k8s_auth_role_name',
      'k8s_auth.token_path',
      'cert_auth.cert_auth_mount_point',
      'cert_auth.cert_auth_role_name',
      'cert_auth.client_cert_path',
      'cert_auth.client_key_path',
    ],
    read: readVault,
    async make({ data, server, method, shared }, { clock, log, env }) {
      const serverId = serverIdOf(server)
      const { vaultKeyManager } = await import('./hashicorp_vault.ts')
      const { vaultClient } = await import('../../vault/client.ts')
      const { tlsFetch } = await import('../../vault/tls-fetch.ts')
      // As in SPIRE, the environment wins over the file here.
      const setting = (variable: string, key: string) => env[variable] ?? textOf(data, key)
      const auth = vaultAuth(data, method, env)
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
      return started(manager, shared ? `${NAME} ${serverId}` : undefined, clock)
    },
  }),
}
export default declaration

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
  method: (typeof AUTH_METHODS)[number],
  env: Environment,
): { readonly auth: VaultAuth; readonly tls?: { readonly cert: string; readonly key: string } } {
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
