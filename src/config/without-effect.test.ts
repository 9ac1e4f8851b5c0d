import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { AGENT_FIELDS, readAgentConfig } from './agent.ts'
import type { Fields, FieldType } from './decode.ts'
import { ConfigError } from './hcl.ts'
import { readServerConfig, SERVER_FIELDS } from './server.ts'

/** Every key that SPIRE knows has an effect, is refused, or is warned about. */

/** Values that are not the default, where any text or number will not do. */
const VALUES: Readonly<Record<string, string>> = {
  trust_domain: '"other.org"',
  log_level: '"DEBUG"',
  log_format: '"json"',
  ca_key_type: '"ec-p384"',
  jwt_key_type: '"ec-p384"',
  // A key of WIT-SVIDs is there with the feature flag alone.
  wit_key_type: '"ec-p384" feature_flags = ["wit-svid"]',
  workload_x509_svid_key_type: '"ec-p384"',
  admin_ids: '["spiffe://example.org/admin"]',
  authorized_delegates: '["spiffe://example.org/delegate"]',
  proxy_protocol_trusted_cidrs: '["10.0.0.0/8"]',
  feature_flags: '["wit-svid"]',
  availability_target: '"48h"',
  sync_interval: '"7s"',
  jwt_svid_cache_hit_timeout: '"20s"',
  use_sync_authorized_entries: 'false',
  rebootstrap_mode: '"auto"',
  trust_bundle_format: '"spiffe"',
  trust_bundle_unix_socket: '"/s" trust_bundle_url = "http://x/"',
  trust_bundle_url: '"https://x/"',
  bundle_endpoint: '{ port = 8443 }',
  federates_with: '"b" { bundle_endpoint_url = "https://b/" bundle_endpoint_profile "https_web" {} }',
  broker:
    '{ socket_path = "/b" brokers = [ { id = "spiffe://example.org/b" allowed_reference_types = [ { type_url = "*" } ] } ] }',
  auth_opa_policy_engine: '{ local { rego_path = "/x" } }',
  dogstatsd: '= [ { address = "x" } ]',
  statsd: '= [ { address = "x" } ]',
  m3: '= [ { address = "x" env = "y" } ]',
}
/** Blocks that are tried whole, with VALUES. */
const WHOLE = new Set([
  'bundle_endpoint',
  'federates_with',
  'broker',
  'auth_opa_policy_engine',
  'dogstatsd',
  'statsd',
  'm3',
])
const DURATIONS = /_(ttl|interval|timeout|than|staleness|for|delay)$/

/** Each key with text that sets it and nothing else, by its path. */
function settings(fields: Fields, path: string, around: (inner: string) => string): { path: string; text: string }[] {
  return Object.entries(fields).flatMap(([key, type]) => {
    const here = path ? `${path}.${key}` : key
    // Ours, with tests of its own.
    if (here === 'server.experimental.http' || here === 'plugins') return []
    if (typeof type === 'object' && !WHOLE.has(key))
      return settings(type as Fields, here, (inner) => around(`${key} { ${inner} }`))
    const given = VALUES[key] ?? plain(key, type)
    const text = WHOLE.has(key) ? `${key} ${given}` : `${key} = ${given}`
    return [{ path: here, text: around(text) }]
  })
}

function plain(key: string, type: FieldType): string {
  if (DURATIONS.test(key)) return '"77m"'
  if (type === 'int') return '7'
  if (type === 'bool') return 'true'
  if (type === 'strings') return '["x"]'
  return '"x"'
}

const PLUGINS = 'plugins { KeyManager "memory" { plugin_data {} } }'
const base = {
  server: 'server { trust_domain = "example.org" data_dir = "/d" }',
  agent: 'agent { trust_domain = "example.org" server_address = "h" server_port = 1 trust_bundle_path = "/b" }',
}

/** What ends the start, and how. */
const REFUSED: readonly (readonly [path: string, message: string])[] = [
  [
    'server.experimental.auth_opa_policy_engine',
    'auth_opa_policy_engine is not supported: its policy would not be followed',
  ],
  ...(['server.experimental.named_pipe_name', 'agent.experimental.named_pipe_name'] as const).map(
    (path) =>
      [
        path,
        'invalid configuration: named_pipe_name is not supported in this platform; please use socket_path instead',
      ] as const,
  ),
  [
    'agent.experimental.admin_named_pipe_name',
    'invalid configuration: admin_named_pipe_name is not supported in this platform; please use admin_socket_path instead',
  ],
  // There is one address and one first trust already.
  ['agent.server_url', 'only one of server_address or server_url can be specified, not both'],
  ['agent.insecure_bootstrap', 'only one of insecure_bootstrap or trust_bundle_path can be specified, not both'],
  ['agent.trust_bundle_url', 'only one of trust_bundle_url or trust_bundle_path can be specified, not both'],
  ['agent.trust_bundle_unix_socket', 'only one of trust_bundle_url or trust_bundle_path can be specified, not both'],
  [
    'agent.trust_bundle_spiffe_workload_api',
    'only one of trust_bundle_path or trust_bundle_spiffe_workload_api can be specified, not both',
  ],
]

test.each([
  ...settings(SERVER_FIELDS, '', (text) => text).map((one) => ({ side: 'server' as const, ...one })),
  ...settings(AGENT_FIELDS, '', (text) => text).map((one) => ({ side: 'agent' as const, ...one })),
])('$side: $path has an effect, is refused or is warned about', ({ side, path, text }) => {
  const read = (content: string) =>
    side === 'server' ? readServerConfig(content, 'a.conf') : readAgentConfig(content, 'a.conf')
  const { notices: _, withoutEffect: none, ...before } = read(`${base[side]} ${PLUGINS}`)
  expect(none).toEqual([])
  let after: ReturnType<typeof read>
  try {
    after = read(`${base[side]} ${text} ${PLUGINS}`)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    expect(REFUSED).toContainEqual([path, error.message])
    return
  }
  const { notices, withoutEffect, ...options } = after
  if (withoutEffect.some((sentence) => path.startsWith(sentence.split(' ')[0]!))) return
  expect(options).not.toEqual(before)
})

const ROOT = resolve(import.meta.dirname, '../..')

test('what a configuration says is asked for somewhere', () => {
  const sources = ['src/**/*.ts', 'agent/*.ts', 'workers/*.ts']
    .flatMap((pattern) => globSync(pattern, { cwd: ROOT }))
    .filter((path) => !path.startsWith('src/config/') && !path.endsWith('.test.ts'))
    .map((path) => readFileSync(join(ROOT, path), 'utf8'))
    .join('\n')
  const options = {
    ...readServerConfig(`${base.server} ${PLUGINS}`, 'a.conf'),
    ...readAgentConfig(`${base.agent} ${PLUGINS}`, 'a.conf'),
  }
  const idle = ['adminSocketPath', 'authorizedDelegates', 'rebootstrapMode', 'rebootstrapDelaySeconds']
  const unread = Object.keys(options).filter(
    (key) => !new RegExp(`[.{ ]${key}\\b(?!: (text|boolean)\\()`).test(sources),
  )
  expect(unread.sort()).toEqual(idle.sort())
})
