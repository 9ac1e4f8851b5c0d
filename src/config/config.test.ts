import { expect, test } from 'vitest'
import { readAgentConfig } from './agent.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { expandEnv } from './expand-env.ts'
import { UnknownConfigError } from './file.ts'
import { readServerConfig } from './server.ts'

const PLUGINS = 'plugins { KeyManager "memory" { plugin_data {} } }'
const server = (lines = '', rest = PLUGINS) =>
  readServerConfig(`server { trust_domain = "example.org" data_dir = "/d" ${lines} } ${rest}`, 'a.conf')
const agent = (lines = '', rest = PLUGINS) =>
  readAgentConfig(
    `agent { trust_domain = "example.org" server_address = "h" server_port = 1 ${lines} } ${rest}`,
    'a.conf',
  )

const SECRET = 's'.repeat(32)
const front = (lines: string) =>
  server(`experimental { http { bind_port = 1 audiences = ["https://x"] fronts "a" { ${lines} } } }`)

test('fronts are read by name', () => {
  expect(
    front(`carrier = "aws_alb_passthrough" addresses = ["10.0.0.0/8"] address_header = "X-Forwarded-For"`).http?.fronts,
  ).toEqual([
    {
      name: 'a',
      carrier: 'aws_alb_passthrough',
      secret: undefined,
      secretHeader: undefined,
      addresses: ['10.0.0.0/8'],
      addressHeader: 'X-Forwarded-For',
    },
  ])
})

test('a server has the defaults of SPIRE', () => {
  expect(server()).toMatchObject({
    bindAddress: '0.0.0.0',
    bindPort: 8081,
    socketPath: '/tmp/spire-server/private/api.sock',
    x509SvidTtlSeconds: 3600,
    jwtSvidTtlSeconds: 300,
    agentTtlSeconds: 3600,
    caTtlSeconds: 86400,
    caKeyType: 'ec-p256',
    jwtKeyType: 'ec-p256',
    caSubject: { country: ['US'], organization: ['SPIFFE'] },
    rateLimitAttestation: true,
    logging: { level: 'info', format: '', file: '' },
    http: undefined,
    notices: [],
  })
})

test('an agent has the defaults of SPIRE', () => {
  expect(agent('insecure_bootstrap = true')).toMatchObject({
    dataDir: '.',
    socketPath: '/tmp/spire-agent/public/api.sock',
    bootstrap: { kind: 'insecure' },
    syncIntervalSeconds: 5,
    useSyncAuthorizedEntries: true,
    x509SvidCacheMaxSize: 1000,
    jwtSvidCacheMaxSize: 1000,
    workloadX509SvidKeyType: 'ec-p256',
    rebootstrapMode: 'never',
  })
})

test('flags win over the file, the file over defaults, and empty values over nothing', () => {
  const text = `server { trust_domain = "file.org" data_dir = "/d" bind_port = 0 log_level = "debug" } ${PLUGINS}`
  const options = readServerConfig(text, 'a.conf', {
    trustDomain: 'flag.org',
    dataDir: '',
    serverPort: 0,
    logLevel: 'warn',
  })
  expect(options).toMatchObject({
    trustDomain: 'flag.org',
    dataDir: '/d',
    bindPort: 8081,
    logging: { level: 'warning' },
  })
})

test.each<[() => unknown, string]>([
  [() => readServerConfig(PLUGINS, 'a.conf'), 'trust_domain must be configured'],
  [() => readServerConfig(`server { trust_domain = "a" } ${PLUGINS}`, 'a.conf'), 'data_dir must be configured'],
  [() => server('', ''), 'plugins section must be configured'],
  [
    () => server('trust_domain = "Example"'),
    'could not parse trust_domain "Example": trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores',
  ],
  [() => server('ca_ttl = "zz"'), 'could not parse default CA ttl "zz": time: invalid duration "zz"'],
  [
    () => server('default_x509_svid_ttl = "5"'),
    'could not parse default X509 SVID ttl "5": time: missing unit in duration "5"',
  ],
  [
    () => server('ca_key_type = "rsa-1024"'),
    'error parsing ca_key_type: key type "rsa-1024" is unknown; must be one of [rsa-2048, rsa-4096, ec-p256, ec-p384]',
  ],
  [() => server('admin_ids = ["x"]'), 'could not parse admin ID "x": scheme is missing or invalid'],
  [() => server('log_level = "loud"'), 'could not start logger: not a valid logrus Level: "loud"'],
  [() => server('log_format = "xml"'), 'could not start logger: unknown logger format: "xml"'],
  [() => server('experimental { feature_flags = ["x"] }'), 'error loading feature flags: unknown feature flag(s): [x]'],
  [
    () => server('experimental { event_timeout = "1m" sql_transaction_timeout = "1m" }'),
    'both experimental sql_transaction_timeout and event_timeout set, only set event_timeout',
  ],
  [
    () => server('federation { bundle_endpoint { acme { email = "x" } } }'),
    'federation.bundle_endpoint.acme.domain_name must be configured',
  ],
  [
    () => server('proxy_protocol_trusted_cidrs = ["x"]'),
    'invalid proxy_protocol_trusted_cidrs value "x": invalid CIDR address: x',
  ],
  [
    () => server('', `${PLUGINS} plugins { KeyManager "memory" {} }`),
    'plugin "KeyManager"/"memory" declared more than once',
  ],
  [
    () => server('', 'plugins { K "x" { plugin_data {} plugin_data_file = "f" } }'),
    'failed to create plugin config for "K"/"x": only one of [plugin_data, plugin_data_file] can be used',
  ],
  [() => server('experimental { http { bind_port = 1 } }'), 'experimental.http.audiences must name the URLs'],
  [
    () => front('secret = "x"'),
    'experimental.http.fronts "a": carrier must be one of rfc9440, aws_alb_passthrough, aws_alb_verify, cloudflare',
  ],
  [() => front('carrier = "rfc9440"'), 'experimental.http.fronts "a": secret or addresses must be configured'],
  [() => front('carrier = "cloudflare" addresses = []'), 'secret or addresses must be configured'],
  [() => front('carrier = "rfc9440" addresses = ["::1"]'), 'secret must be configured, since every process'],
  [() => front('carrier = "rfc9440" secret = "short"'), 'secret must have at least 32 printable characters'],
  [
    () => front('carrier = "aws_alb_passthrough" addresses = ["10/8"]'),
    '"10/8" is no address or network such as "10.0.0.0/8"',
  ],
  [() => front(`carrier = "rfc9440" secret = "${SECRET}" secret_header = "a b"`), 'secret_header must be the name'],
  [() => front('carrier = "aws_alb_passthrough" address = "10.0.0.1"'), 'unknown key "address"'],
  [
    () => readServerConfig('server {', 'a.conf'),
    'unable to decode configuration at "a.conf": At 1:10: object expected closing RBRACE got: EOF',
  ],
  [() => server('federation { federates_with "b" { } }'), 'federates_with["b"].bundle_endpoint_url must be configured'],
  [
    () => server('federation { federates_with "b" { bundle_endpoint_url = "http://b" } }'),
    'bundle_endpoint_url must use the HTTPS protocol; URL found: "http://b"',
  ],
  [
    () => server('federation { federates_with "b" { bundle_endpoint_url = "https://b" } }'),
    'federation configuration for trust domain "b": missing bundle endpoint configuration',
  ],
  [
    () =>
      server(
        'federation { federates_with "b" { bundle_endpoint_url = "https://b" bundle_endpoint_profile "https_spiffe" { } } }',
      ),
    'error parsing federation relationship for trust domain "b": could not get endpoint SPIFFE ID: cannot be empty',
  ],
  [
    () => server('federation { bundle_endpoint { port = 1 profile "https_web" { } } }'),
    "malformed https_web profile configuration: 'acme' or 'serving_cert_file' is required",
  ],
  [
    () => server('federation { bundle_endpoint { port = 1 profile "other" { } } }'),
    'unknown bundle endpoint profile configured',
  ],
  [() => server('bind_port = 65536'), 'could not resolve bind address "0.0.0.0:65536": address 65536: invalid port'],
  [
    () => agent('insecure_bootstrap = true experimental { broker { } }'),
    'experimental.broker requires socket_path, bind_address, or both',
  ],
  [
    () => agent('insecure_bootstrap = true experimental { broker { socket_path = "/x" brokers = [ { } ] } }'),
    'experimental.broker.brokers[0].id: must be specified',
  ],
  [() => agent('experimental { feature_flags = ["x"] }'), 'unknown feature flag(s): [x]'],
  [() => readAgentConfig('agent {}', 'a.conf'), 'plugins section must be configured'],
  [() => readAgentConfig(`agent {} ${PLUGINS}`, 'a.conf'), 'server_address must be configured'],
  [() => readAgentConfig(`agent { server_address = "h" } ${PLUGINS}`, 'a.conf'), 'server_port must be configured'],
  [
    () => agent('join_token = "a" join_token_file = "b"'),
    'only one of join_token or join_token_file can be specified, not both',
  ],
  [
    () => agent(),
    'trust_bundle_path, trust_bundle_url, or trust_bundle_spiffe_workload_api must be configured unless insecure_bootstrap is set',
  ],
  [
    () => agent('insecure_bootstrap = true trust_bundle_path = "a"'),
    'only one of insecure_bootstrap or trust_bundle_path can be specified, not both',
  ],
  [
    () => agent('insecure_bootstrap = true trust_bundle_path = "a" trust_bundle_url = "b"'),
    'only one of insecure_bootstrap, trust_bundle_url, or trust_bundle_path can be specified, not the three options',
  ],
  [() => agent('trust_bundle_url = "http://x"'), 'trust bundle URL must start with https://'],
  [
    () => agent('trust_bundle_url = "https://x" trust_bundle_unix_socket = "/s"'),
    'trust bundle URL must start with http:// when used with trust bundle unix socket',
  ],
  [
    () => agent('trust_bundle_url = "http://x?spire-a=1" trust_bundle_unix_socket = "/s"'),
    'trust_bundle_url query params can not start with spire-',
  ],
  [
    () => agent('trust_bundle_path = "a" trust_bundle_format = "der"'),
    'invalid value for trust_bundle_format, expected "pem" or "spiffe"',
  ],
  [
    () => agent('insecure_bootstrap = true rebootstrap_mode = "auto"'),
    'insecure_bootstrap option can not be used with rebootstrapping',
  ],
  [
    () => agent('insecure_bootstrap = true socket_path = "/a/b.sock" admin_socket_path = "/a/c/d.sock"'),
    'admin socket cannot be in the same directory or a subdirectory as that containing the Workload API socket',
  ],
  [() => agent('insecure_bootstrap = true availability_target = "1h"'), 'availability_target must be at least 24h0m0s'],
  [
    () => agent('insecure_bootstrap = true x509_svid_cache_max_size = -1'),
    'x509_svid_cache_max_size should not be negative',
  ],
  [
    () => agent('insecure_bootstrap = true experimental { jwt_svid_cache_hit_timeout = "4s" }'),
    'jwt_svid_cache_hit_timeout (4s) must be greater than 5s',
  ],
  [
    () => agent('insecure_bootstrap = true authorized_delegates = ["spiffe://other.org/x"]'),
    'error validating authorized delegate: SPIFFE ID "spiffe://other.org/x" is not a member of trust domain "example.org"',
  ],
  [
    () => agent('insecure_bootstrap = true server_url = "https://x"'),
    'only one of server_address or server_url can be specified, not both',
  ],
  [
    () =>
      readAgentConfig(
        `agent { trust_domain = "a" insecure_bootstrap = true server_url = "http://example.org" } ${PLUGINS}`,
        'a',
      ),
    'server_url must start with https://',
  ],
])('%# a configuration that cannot be used is refused: %s', (read, message) => {
  expect(read).toThrow(message)
})

test('unknown keys refuse the file, with the sections they stand in', () => {
  const text = `bogus = 1 server { trust_domain = "a" data_dir = "/d" b = 1 a = 1 ratelimit { x = true } experimental { anything = 1 } } ${PLUGINS} health_checks { y = 1 }`
  try {
    readServerConfig(text, 'a.conf')
    expect.unreachable()
  } catch (error) {
    expect(error).toBeInstanceOf(UnknownConfigError)
    expect((error as UnknownConfigError).message).toBe('unknown configuration detected')
    expect((error as UnknownConfigError).notices.map(({ fields }) => fields)).toEqual([
      { section: 'top-level', keys: 'bogus' },
      { section: 'server', keys: 'a,b' },
      { section: 'ratelimit', keys: 'x' },
      { section: 'health check', keys: 'y' },
    ])
  }
})

test('keys that SPIRE once had are refused with what became of them', () => {
  const text = `server { trust_domain = "a" data_dir = "/d" svid_ttl = "1h" other = 1 ca_subject { CommonName = "x" } } ${PLUGINS}`
  try {
    readServerConfig(text, 'a.conf')
    expect.unreachable()
  } catch (error) {
    expect((error as UnknownConfigError).hints).toEqual([
      '"svid_ttl" is "default_x509_svid_ttl" and "default_jwt_svid_ttl" now',
      '"CommonName" is written "common_name"',
    ])
  }
})

test('brackets around an IPv6 address are no part of it', () => {
  expect(server('bind_address = "[::1]"').bindAddress).toBe('::1')
})

test('plugins come in the order of the file, however they are written', () => {
  const names = (rest: string) =>
    server('', rest).plugins.map(({ type, name, enabled }) => `${type}/${name}/${enabled}`)
  expect(names('plugins { B "y" { enabled = false } A { x { plugin_data { k = 1 } } } }')).toEqual([
    'B/y/false',
    'A/x/true',
  ])
  const json = readServerConfig(
    '{"server":{"trust_domain":"a","data_dir":"/d"},"plugins":{"A":[{"x":[{"plugin_data":{"k":"v"}}]},{"z":{}}]}}',
    'a.json',
  )
  expect(json.plugins.map(({ name }) => name)).toEqual(['x', 'z'])
})

test('a lifetime that the CA cannot keep is warned about', () => {
  expect(server('ca_ttl = "1h"').notices.map(({ message }) => message.split(' ')[0])).toEqual(['default_x509_svid_ttl'])
  expect(server('ca_ttl = "6h"').notices).toEqual([])
})

test.each<[string, number, string]>([
  ['1h30m', 5400, '1h30m0s'],
  ['24h', 86400, '24h0m0s'],
  ['90s', 90, '1m30s'],
  ['500ms', 0.5, '500ms'],
  ['1.5s', 1.5, '1.5s'],
  ['-1m', -60, '-1m0s'],
  ['0', 0, '0s'],
])('the duration %s is %d seconds and prints as %s', (text, seconds, printed) => {
  expect(parseDuration(text)).toBeCloseTo(seconds)
  expect(formatDuration(parseDuration(text))).toBe(printed)
})

test.each(['', 'h', '1', '1x', '1h 1m', '1h-1m', 'NaNs'])('%j is no duration', (text) => {
  expect(() => parseDuration(text)).toThrow('time: ')
})

test('variables are replaced as Go does it', () => {
  expect(expandEnv('$A ${A} $B- $$ ${NOPE}x', { A: '1', B: '2' })).toBe('1 1 2- $ x')
})
