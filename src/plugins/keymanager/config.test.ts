import { chmodSync, mkdtempSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { memoryWrappedKeys } from '../../../test/support/wrapped-keys.ts'
import type { PlainObject } from '../../config/plain.ts'
import { type Log, silentLog } from '../../core/log.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { parseTrustDomainName } from '../../core/trust-domain.ts'
import type { HostOf } from '../plugin.ts'
import awsKms from './aws_kms/plugin.ts'
import database from './database/plugin.ts'
import disk from './disk.ts'
import vault from './hashicorp_vault/plugin.ts'
import memory from './memory.ts'

type Host = HostOf<'server', 'KeyManager'>

const folder = mkdtempSync(join(tmpdir(), 'turret-keymanager-'))
const READ = { trustDomain: parseTrustDomainName('example.org'), dataDir: folder }
const warned: string[] = []
const log: Log = { ...silentLog, warn: (message) => void warned.push(message) }
const file = (name: string, text: string, mode = 0o600) => {
  const path = join(folder, name)
  writeFileSync(path, text, { mode })
  chmodSync(path, mode)
  return path
}

/** A service that lets everybody in, has no keys, and notes who asked for what. */
const asked: { readonly request: string; readonly headers: Record<string, string>; readonly body: string }[] = []
// Of bytes: LIST, which Vault has, is a method that node:http does not read.
const service = createServer((socket) => {
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk) => {
    text += chunk
    const [head, body] = text.split('\r\n\r\n')
    const [first, ...lines] = head!.split('\r\n')
    const headers = Object.fromEntries(lines.map((line) => line.toLowerCase().split(': ') as [string, string]))
    if (body === undefined || body.length < Number(headers['content-length'] ?? 0)) return
    const request = first!.replace(/ HTTP.*$/, '')
    asked.push({ request, headers, body })
    const answer = JSON.stringify(request.endsWith('/login') ? { auth: { client_token: 'a-token' } } : {})
    socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${answer.length}\r\nconnection: close\r\n\r\n${answer}`)
  })
})
let address = ''
beforeAll(async () => {
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve))
  address = `http://127.0.0.1:${(service.address() as AddressInfo).port}`
})
afterAll(() => service.close())

/** Makes a manager on a host that lends what key managers take. */
async function make(
  plugin: { readonly server?: { make(data: PlainObject, host: Host): Promise<KeyManager> } },
  data: PlainObject,
  env: Record<string, string> = {},
): Promise<KeyManager> {
  asked.length = 0
  warned.length = 0
  const host = { ...READ, env, log, keys: memoryWrappedKeys(), clock: { nowMs: () => 0 } }
  return plugin.server!.make(data, host as Partial<Host> as Host)
}

const AWS = { region: 'eu-west-1', key_identifier_value: 'one' }
const TOKEN = { token_auth: { token: 'root' } }
const VAULT = { ...TOKEN, key_identifier_value: 'one' }
const TWICE = 'key identifier file and a key identifier value at the same time'
const METHODS = 'must be configured one of these authentication method Token, Client Certificate, AppRole or Kubernetes'

test.each<
  [string, { server?: { check(data: PlainObject, host: typeof READ): Promise<unknown> } }, PlainObject, string]
>([
  ['memory with data', memory, { a: 'b' }, 'no supported configuration interface found'],
  ['disk without a path', disk, {}, 'keys_path is required'],
  ['aws_kms without a region', awsKms, { key_identifier_value: 'one' }, 'configuration is missing a region'],
  ['aws_kms without a name', awsKms, { region: 'r' }, 'configuration requires a key identifier file'],
  ['aws_kms with two names', awsKms, { ...AWS, key_identifier_file: 'f' }, TWICE],
  ['aws_kms with a dot in its name', awsKms, { ...AWS, key_identifier_value: 'a.b' }, 'must contain only alpha'],
  ['aws_kms with a name of AWS', awsKms, { ...AWS, key_identifier_value: 'alias/aws/x' }, 'must not start with'],
  ['aws_kms with a long name', awsKms, { ...AWS, key_identifier_value: 'x'.repeat(257) }, 'must not be longer'],
  ['aws_kms with discovery', awsKms, { ...AWS, enable_tag_based_key_discovery: true }, 'is not supported'],
  ['aws_kms with a text for tags', awsKms, { ...AWS, key_tags: 'x' }, 'not a block'],
  ['aws_kms with a block for a tag', awsKms, { ...AWS, key_tags: { a: { b: 'c' } } }, 'the value of "a" is not'],
  ['aws_kms with odd letters in a tag', awsKms, { ...AWS, key_tags: { a: 'b!' } }, 'the value of "a" is not'],
  ['aws_kms with odd letters before', awsKms, { ...AWS, key_tags: { a: '!b' } }, 'the value of "a" is not'],
  ['aws_kms with a long tag', awsKms, { ...AWS, key_tags: { a: 'b'.repeat(257) } }, 'the value of "a" is not'],
  ['aws_kms with an odd name of a tag', awsKms, { ...AWS, key_tags: { 'a!': 'b' } }, 'the key "a!" is not'],
  ['aws_kms with another odd name', awsKms, { ...AWS, key_tags: { '!a': 'b' } }, 'the key "!a" is not'],
  ['aws_kms with a tag of AWS', awsKms, { ...AWS, key_tags: { 'aws:a': 'b' } }, 'the key "aws:a" is not'],
  ['hashicorp_vault without a name', vault, TOKEN, "one of 'key_identifier_file' or"],
  [
    'hashicorp_vault with two names',
    vault,
    { ...VAULT, key_identifier_file: 'f' },
    "only one of 'key_identifier_file'",
  ],
  ['hashicorp_vault with a slash in its name', vault, { ...VAULT, key_identifier_value: 'a/b' }, 'must contain only'],
  ['hashicorp_vault with another', vault, { ...VAULT, key_identifier_value: '/b' }, 'must contain only'],
  ['hashicorp_vault without a login', vault, { key_identifier_value: 'one' }, METHODS],
  ['hashicorp_vault with two', vault, { ...VAULT, cert_auth: {} }, 'only one authentication method can be configured'],
  ['database without a key', database, {}, 'exactly one of kek_env and kek_file must be configured for version "1"'],
  ['database with two', database, { kek_env: 'A', kek_file: 'b' }, 'exactly one of kek_env and kek_file'],
  ['database with an unknown key', database, { kek_env: 'A', kek: 'b' }, 'unknown key "kek"'],
  ['database with a text for older keys', database, { kek_env: 'A', previous: 'b' }, 'not a block'],
  ['database with an older key that is none', database, { kek_env: 'A', previous: { 0: {} } }, 'for version "0"'],
  [
    'database with older keys of older keys',
    database,
    { kek_env: 'A', previous: { 0: { kek_env: 'B', previous: {} } } },
    'unknown key "previous"',
  ],
])('%s is refused', async (_, plugin, data, problem) => {
  await expect(plugin.server!.check(data, READ)).rejects.toThrow(problem)
})

test.each<
  [
    string,
    { server?: { readonly keys: readonly string[]; check(data: PlainObject, host: typeof READ): Promise<unknown> } },
    PlainObject,
  ]
>([
  ['memory', memory, {}],
  ['disk', disk, { keys_path: 'k' }],
  ['aws_kms', awsKms, AWS],
  ['aws_kms with the longest name', awsKms, { ...AWS, key_identifier_value: 'a/_-9Z'.padEnd(256, 'x') }],
  ['aws_kms with a file', awsKms, { region: 'r', key_identifier_file: 'f' }],
  ['aws_kms with tags', awsKms, { ...AWS, key_tags: { 'a +-=._:/@': 'b'.repeat(256), ['c'.repeat(128)]: '' } }],
  ['hashicorp_vault', vault, VAULT],
  ['hashicorp_vault with a file', vault, { ...TOKEN, key_identifier_file: 'f' }],
  ['hashicorp_vault with all letters', vault, { ...VAULT, key_identifier_value: 'a.B_9-' }],
  ['database', database, { kek_env: 'A', kek_version: '2', previous: { 1: { kek_file: 'f' } } }],
])('%s is taken', async (_, plugin, data) => {
  await plugin.server!.check(data, READ)
  // What is read is not said to be unknown.
  for (const key of Object.keys(data))
    expect(plugin.server!.keys.some((known) => known === key || known.startsWith(`${key}.`))).toBe(true)
})

test('memory keeps its keys for itself', async () => {
  const manager = await make(memory, {})
  const signer = await manager.generateKey('x', 'ec-p256')
  expect(await manager.getKey('x')).toBe(signer)
  expect(await (await make(memory, {})).getKey('x')).toBeUndefined()
})

test('a folder for the keys of an agent is made for its owner only, and one that cannot be written stops the start', async () => {
  const directory = join(folder, 'of-agent', 'deep')
  const host = { ...READ, env: {} }
  expect(disk.agent!.keys).toEqual(['directory'])
  const manager = await disk.agent!.make({ directory }, host)
  expect(statSync(directory).mode & 0o777).toBe(0o700)
  expect(readdirSync(directory)).toEqual([])
  await manager.generateKey('agent-svid-A', 'ec-p256')
  expect(readdirSync(directory)).toEqual(['keys.json'])
  await expect(disk.agent!.make({ directory: '' }, host)).rejects.toThrow('directory must be configured')
  await expect(disk.agent!.make({ directory: file('no-folder', '') }, host)).rejects.toThrow('EEXIST')
})

const KEK = 'ab'.repeat(32)

test('database takes its keys from the environment and from files, and opens with older ones', async () => {
  const path = file('kek', `${KEK}\n`)
  const manager = await make(
    database,
    { kek_env: 'NEW', kek_version: '2', previous: { 1: { kek_file: path } } },
    { NEW: 'cd'.repeat(32) },
  )
  const { publicKey } = await manager.generateKey('x', 'ec-p256')
  const signer = await manager.getKey('x')
  expect(signer?.publicKey).toEqual(publicKey)
  expect(signer?.exportPrivateKey).toBeUndefined()
  expect(warned).toEqual([])
  await make(database, { kek_file: file('open', KEK, 0o604) })
  expect(warned).toEqual(['The key-encryption key can be read by everybody'])
})

test('database does not start without its keys, and says nothing of what it found', async () => {
  await expect(make(database, { kek_env: 'NEW' })).rejects.toThrow('the environment variable NEW is not set')
  await expect(make(database, { kek_env: 'NEW' }, { NEW: '' })).rejects.toThrow('NEW is not set')
  await expect(make(database, { kek_file: join(folder, 'none') })).rejects.toThrow('ENOENT')
  for (const [data, from] of [
    [{ kek_env: 'NEW' }, 'NEW'],
    [{ kek_file: file('short', 'secret') }, '/short"'],
  ] as const) {
    const error = await make(database, data, { NEW: 'secret' }).catch((caught: Error) => caught)
    expect(String(error)).toContain(`version "1" from `)
    expect(String(error)).toContain(from)
    expect(String(error)).not.toContain('secret')
  }
})

test('aws_kms asks the region and the endpoint that it is told, as whom it is told, before the server starts', async () => {
  const env = { AWS_ENDPOINT_URL: `${address}/` }
  const manager = await make(awsKms, { ...AWS, access_key_id: 'AKID', secret_access_key: 'the-secret' }, env)
  expect(asked).toMatchObject([
    {
      request: 'POST /',
      headers: {
        'x-amz-target': 'trentservice.listaliases',
        authorization: expect.stringMatching(/credential=akid\/\d+\/eu-west-1\/kms\//),
      },
    },
  ])
  expect(manager.shared).toBeUndefined()
  const policy = file('policy', 'the-policy')
  const tagged = await make(
    awsKms,
    { ...AWS, access_key_id: 'A', secret_access_key: 'b', key_tags: { team: 'a' }, key_policy_file: policy },
    env,
  )
  // This service makes no keys.
  await expect(tagged.generateKey('x', 'ec-p256')).rejects.toThrow('malformed create key response')
  expect(JSON.parse(asked.at(-1)!.body)).toMatchObject({
    Policy: 'the-policy',
    Tags: [{ TagKey: 'team', TagValue: 'a' }],
  })
  const shared = await make(awsKms, { ...AWS, access_key_id: 'A', secret_access_key: 'b', shared: true }, env)
  expect(shared.shared?.scope).toBe('aws_kms one')
  await expect(
    make(awsKms, { ...AWS, access_key_id: 'A', secret_access_key: 'b', key_policy_file: join(folder, 'none') }, env),
  ).rejects.toThrow('ENOENT')
})

test('hashicorp_vault is asked at its address, in its namespace, for the engine that it is told', async () => {
  const manager = await make(vault, {
    ...VAULT,
    vault_addr: address,
    namespace: 'team',
    transit_engine_path: 'keys-of-ours',
  })
  expect(asked.at(-1)).toMatchObject({
    request: 'LIST /v1/keys-of-ours/keys',
    headers: { 'x-vault-token': 'root', 'x-vault-namespace': 'team' },
  })
  expect(manager.shared).toBeUndefined()
  expect(warned).toEqual([])
  const shared = await make(vault, { ...VAULT, vault_addr: address, shared: true, insecure_skip_verify: true })
  expect(shared.shared?.scope).toBe('hashicorp_vault one')
  expect(asked.at(-1)!.request).toBe('LIST /v1/transit/keys')
  expect(warned).toEqual([expect.stringContaining('TLS verification of Vault certificates is skipped')])
})

test('for hashicorp_vault the environment wins over the file', async () => {
  const data = { ...VAULT, vault_addr: 'http://192.0.2.1', namespace: 'a', transit_engine_path: 'a' }
  await make(vault, data, {
    VAULT_ADDR: address,
    VAULT_NAMESPACE: 'b',
    VAULT_TRANSIT_ENGINE_PATH: 'b',
    VAULT_TOKEN: 'other',
  })
  expect(asked.at(-1)).toMatchObject({
    request: 'LIST /v1/b/keys',
    headers: { 'x-vault-token': 'other', 'x-vault-namespace': 'b' },
  })
})

const NAMED = { key_identifier_value: 'one' }

test.each<[string, PlainObject, string, object, Record<string, string>?]>([
  [
    'an AppRole',
    { approle_auth: { approle_id: 'i', approle_secret_id: 's' } },
    'approle',
    { role_id: 'i', secret_id: 's' },
  ],
  [
    'an AppRole of the environment, mounted elsewhere',
    { approle_auth: { approle_auth_mount_point: 'm', approle_id: 'i' } },
    'm',
    { role_id: 'j', secret_id: 't' },
    { VAULT_APPROLE_ID: 'j', VAULT_APPROLE_SECRET_ID: 't' },
  ],
  [
    'a token of Kubernetes',
    { k8s_auth: { k8s_auth_role_name: 'r', token_path: file('token', ' a.b.c\n') } },
    'kubernetes',
    { role: 'r', jwt: 'a.b.c' },
  ],
  [
    'a certificate',
    { cert_auth: { client_cert_path: file('cert', 'c'), client_key_path: file('key', 'k') } },
    'cert',
    {},
  ],
  [
    'a certificate for a role',
    { cert_auth: { cert_auth_role_name: 'r', client_cert_path: '/none', client_key_path: '/none' } },
    'cert',
    { name: 'r' },
    { VAULT_CLIENT_CERT: join(folder, 'cert'), VAULT_CLIENT_KEY: join(folder, 'key') },
  ],
])('hashicorp_vault logs in with %s', async (_, data, mount, body, env = {}) => {
  await make(vault, { ...NAMED, ...data, vault_addr: address }, env)
  expect(asked.map(({ request }) => request)).toEqual([`POST /v1/auth/${mount}/login`, 'LIST /v1/transit/keys'])
  expect(JSON.parse(asked[0]!.body)).toEqual(body)
  expect(asked[0]!.headers['x-vault-token']).toBeUndefined()
  expect(asked[1]!.headers['x-vault-token']).toBe('a-token')
})

test.each<[string, PlainObject, string]>([
  ['an address', { ...TOKEN, vault_addr: '' }, 'vault_addr must be configured, or VAULT_ADDR be set'],
  ['a token', { token_auth: {} }, 'token is empty'],
  ['a role', { k8s_auth: { token_path: 'x' } }, 'k8s_auth_role_name is required'],
  ['the path of a token', { k8s_auth: { k8s_auth_role_name: 'r' } }, 'token_path is required'],
  ['its certificate', { cert_auth: { client_cert_path: '/none/cert' } }, '/none/cert'],
  ['its CAs', { ...TOKEN, ca_cert_path: '/none/ca' }, '/none/ca'],
])('hashicorp_vault does not start without %s', async (_, data, problem) => {
  await expect(make(vault, { ...NAMED, vault_addr: address, ...data })).rejects.toThrow(problem)
  expect(asked).toEqual([])
})
