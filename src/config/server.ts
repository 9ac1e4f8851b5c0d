import { KEY_TYPES, type KeyType } from '../core/key-type.ts'
import { parseSpiffeId, type SpiffeId } from '../core/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../core/trust-domain.ts'
import type { DistinguishedName } from '../core/x509-name.ts'
import type { Fields } from './decode.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { checkFederationFields, checkFederationProfiles, FEDERATION } from './federation.ts'
import {
  type ConfigNotice,
  checkFeatureFlags,
  EXPERIMENTAL_NOTICE,
  HEALTH_CHECKS,
  type HealthCheckOptions,
  readConfigFile,
  readHealthChecks,
  TELEMETRY,
  UnknownConfigError,
  warning,
} from './file.ts'
import { ConfigError, prefixed } from './hcl.ts'
import { HTTP, type HttpOptions, readHttp } from './http.ts'
import { type LoggingOptions, readLogging } from './logging.ts'
import { type PluginConfig, readPlugins } from './plugins.ts'
import { IDLE_IN_SERVER, withoutEffect } from './without-effect.ts'

/** What `turret-server run` is told; every default is applied. */
export interface ServerOptions {
  readonly trustDomain: TrustDomain
  readonly dataDir: string
  readonly bindAddress: string
  readonly bindPort: number
  readonly socketPath: string
  readonly adminIds: readonly SpiffeId[]
  readonly agentTtlSeconds: number
  readonly x509SvidTtlSeconds: number
  readonly jwtSvidTtlSeconds: number
  readonly caTtlSeconds: number
  readonly caKeyType: KeyType
  readonly jwtKeyType: KeyType
  /** undefined: the feature flag `wit-svid` is not set. */
  readonly witKeyType: KeyType | undefined
  readonly caSubject: DistinguishedName
  readonly jwtIssuer: string | undefined
  readonly witIssuer: string | undefined
  readonly disableJwtSvids: boolean
  readonly auditLogEnabled: boolean
  readonly rateLimitAttestation: boolean
  readonly rateLimitSigning: boolean
  readonly requirePqKem: boolean
  readonly agentSpiffeIdAsSelector: boolean
  /** undefined: attested nodes are never pruned. */
  readonly pruneAttestedNodesExpiredForSeconds: number | undefined
  readonly pruneAttestedNodesBatchSize: number
  readonly pruneTofuNodes: boolean
  readonly logging: LoggingOptions
  readonly plugins: readonly PluginConfig[]
  readonly healthChecks: HealthCheckOptions
  /** The HTTP listener; undefined: none. */
  readonly http: HttpOptions | undefined
  /** To be logged at start. */
  readonly notices: readonly ConfigNotice[]
  /** What is set and does nothing here, a sentence each. */
  readonly withoutEffect: readonly string[]
}

/** Values of command line flags; an empty one counts as not given. */
export interface ServerFlags {
  readonly bindAddress?: string
  readonly serverPort?: number
  readonly dataDir?: string
  readonly trustDomain?: string
  readonly socketPath?: string
  readonly logFile?: string
  readonly logFormat?: string
  readonly logLevel?: string
  readonly logSourceLocation?: boolean
}

const DURATION_OR_TEXT = 'string'

/** All keys that SPIRE knows, and ours. */
export const SERVER_FIELDS = {
  server: {
    bind_address: 'string',
    bind_port: 'int',
    socket_path: 'string',
    trust_domain: 'string',
    data_dir: 'string',
    admin_ids: 'strings',
    agent_ttl: DURATION_OR_TEXT,
    audit_log_enabled: 'bool',
    ca_key_type: 'string',
    ca_subject: { country: 'strings', organization: 'strings', common_name: 'string' },
    ca_ttl: DURATION_OR_TEXT,
    default_x509_svid_ttl: DURATION_OR_TEXT,
    default_jwt_svid_ttl: DURATION_OR_TEXT,
    disable_jwt_svids: 'bool',
    jwt_issuer: 'string',
    jwt_key_type: 'string',
    log_file: 'string',
    log_level: 'string',
    log_format: 'string',
    log_source_location: 'bool',
    max_attested_node_info_staleness: DURATION_OR_TEXT,
    profiling_enabled: 'bool',
    profiling_port: 'int',
    profiling_freq: 'int',
    profiling_names: 'strings',
    proxy_protocol_trusted_cidrs: 'strings',
    prune_attested_nodes_expired_for: DURATION_OR_TEXT,
    prune_attested_nodes_batch_size: 'int',
    prune_tofu_nodes: 'bool',
    ratelimit: { attestation: 'bool', signing: 'bool' },
    federation: FEDERATION,
    experimental: {
      cache_reload_interval: DURATION_OR_TEXT,
      full_cache_reload_interval: DURATION_OR_TEXT,
      events_based_cache: 'bool',
      prune_events_older_than: DURATION_OR_TEXT,
      event_timeout: DURATION_OR_TEXT,
      sql_transaction_timeout: DURATION_OR_TEXT,
      auth_opa_policy_engine: 'any',
      agent_spiffe_id_as_selector: 'bool',
      require_pq_kem: 'bool',
      wit_key_type: 'string',
      wit_issuer: 'string',
      feature_flags: 'strings',
      named_pipe_name: 'string',
      // Ours: SPIRE does not look at keys it does not know in here, so one file serves both.
      http: HTTP,
    },
  },
  plugins: 'any',
  telemetry: TELEMETRY,
  health_checks: HEALTH_CHECKS,
} as const satisfies Fields

const DEFAULT_SOCKET = '/tmp/spire-server/private/api.sock'
const SEVEN_DAYS = 7 * 86400

/**
 * Reads a server configuration. Flags win over the file, the file over defaults; a false, zero or empty value never overrides.
 *
 * @param name how errors name the file
 * @throws ConfigError with SPIRE's texts, in SPIRE's order of checks
 * @see cli-and-config.md 6
 */
export function readServerConfig(text: string, name: string, flags: ServerFlags = {}): ServerOptions {
  const { values, unknown } = readConfigFile(text, name, SERVER_FIELDS)
  const server = values.server ?? {}
  checkFeatureFlags(server.experimental?.feature_flags)
  const bindAddress = flags.bindAddress || server.bind_address || '0.0.0.0'
  const bindPort = flags.serverPort || server.bind_port || 8081
  const trustDomainText = flags.trustDomain || server.trust_domain || ''
  const dataDir = flags.dataDir || server.data_dir || ''
  if (trustDomainText === '') throw new ConfigError('trust_domain must be configured')
  if (dataDir === '') throw new ConfigError('data_dir must be configured')
  if (!values.plugins) throw new ConfigError('plugins section must be configured')
  checkFederationFields(server.federation)
  const experimental = server.experimental ?? {}
  if (experimental.event_timeout && experimental.sql_transaction_timeout) {
    throw new ConfigError('both experimental sql_transaction_timeout and event_timeout set, only set event_timeout')
  }
  for (const cidr of server.proxy_protocol_trusted_cidrs ?? []) {
    if (!/^[0-9a-fA-F.:]+\/\d{1,3}$/.test(cidr)) {
      throw new ConfigError(
        `invalid proxy_protocol_trusted_cidrs value ${JSON.stringify(cidr)}: invalid CIDR address: ${cidr}`,
      )
    }
  }
  if (experimental.named_pipe_name) {
    throw new ConfigError(
      'invalid configuration: named_pipe_name is not supported in this platform; please use socket_path instead',
    )
  }
  const logging = readLogging({
    log_level: flags.logLevel || server.log_level || 'INFO',
    log_format: flags.logFormat || server.log_format || '',
    log_file: flags.logFile || server.log_file || '',
    log_source_location: (flags.logSourceLocation || server.log_source_location) ?? false,
  })
  if (bindPort < 0 || bindPort > 65535) {
    throw new ConfigError(
      `could not resolve bind address "${bindAddress}:${bindPort}": address ${bindPort}: invalid port`,
    )
  }
  const trustDomain = prefixed(`could not parse trust_domain ${JSON.stringify(trustDomainText)}`, () =>
    parseTrustDomain(trustDomainText),
  )
  checkFederationProfiles(server.federation)
  const duration = (value: string | undefined, what: string) =>
    value ? prefixed(`could not parse ${what} ${JSON.stringify(value)}`, () => parseDuration(value)) : undefined
  duration(server.max_attested_node_info_staleness, 'max attested node staleness')
  const adminIds = (server.admin_ids ?? []).map((id) =>
    prefixed(`could not parse admin ID ${JSON.stringify(id)}`, () => parseSpiffeId(id)),
  )
  const agentTtl = duration(server.agent_ttl, 'agent ttl')
  const x509Ttl = duration(server.default_x509_svid_ttl, 'default X509 SVID ttl') ?? 3600
  const jwtTtl = duration(server.default_jwt_svid_ttl, 'default JWT SVID ttl') ?? 300
  const caTtl = duration(server.ca_ttl, 'default CA ttl') ?? 86400
  const caKeyType = keyType(server.ca_key_type, 'ca_key_type') ?? 'ec-p256'
  const jwtKeyType = keyType(server.jwt_key_type, 'jwt_key_type') ?? caKeyType
  const witKeyType = keyType(experimental.wit_key_type, 'wit_key_type') ?? caKeyType
  const pruneAfter = server.prune_attested_nodes_expired_for
  const pruneNodes = pruneAfter
    ? prefixed('could not parse prune_attested_nodes_expired_for', () => parseDuration(pruneAfter))
    : undefined
  for (const [value, what] of [
    [experimental.cache_reload_interval, 'cache reload interval'],
    [experimental.full_cache_reload_interval, 'full cache reload interval'],
    [experimental.prune_events_older_than, 'prune events interval'],
    [experimental.sql_transaction_timeout, 'SQL transaction timeout interval'],
    [experimental.event_timeout, 'event timeout interval'],
  ] as const) {
    if (value) prefixed(`could not parse ${what}`, () => parseDuration(value))
  }
  const plugins = readPlugins(values.plugins)
  if (unknown.length > 0) throw new UnknownConfigError(unknown)
  // A policy of the operator's that is not followed would let through what it forbids.
  if (experimental.auth_opa_policy_engine)
    throw new ConfigError('auth_opa_policy_engine is not supported: its policy would not be followed')

  return {
    trustDomain,
    dataDir,
    bindAddress: bindAddress.replace(/^\[|\]$/g, ''),
    bindPort,
    socketPath: flags.socketPath || server.socket_path || DEFAULT_SOCKET,
    adminIds,
    agentTtlSeconds: agentTtl ?? x509Ttl,
    x509SvidTtlSeconds: x509Ttl,
    jwtSvidTtlSeconds: jwtTtl,
    caTtlSeconds: caTtl,
    caKeyType,
    jwtKeyType,
    witKeyType: experimental.feature_flags?.includes('wit-svid') ? witKeyType : undefined,
    caSubject: caSubject(server.ca_subject),
    jwtIssuer: server.jwt_issuer || undefined,
    witIssuer: experimental.wit_issuer || undefined,
    disableJwtSvids: server.disable_jwt_svids ?? false,
    auditLogEnabled: server.audit_log_enabled ?? false,
    rateLimitAttestation: server.ratelimit?.attestation ?? true,
    rateLimitSigning: server.ratelimit?.signing ?? true,
    requirePqKem: experimental.require_pq_kem ?? false,
    agentSpiffeIdAsSelector: experimental.agent_spiffe_id_as_selector ?? false,
    pruneAttestedNodesExpiredForSeconds: pruneNodes,
    pruneAttestedNodesBatchSize: server.prune_attested_nodes_batch_size || 1000,
    pruneTofuNodes: server.prune_tofu_nodes ?? false,
    logging,
    plugins,
    healthChecks: readHealthChecks(values.health_checks),
    http: experimental.http && readHttp(experimental.http, server.jwt_issuer),
    withoutEffect: withoutEffect(values, IDLE_IN_SERVER),
    notices: [
      ...(server.experimental ? [EXPERIMENTAL_NOTICE] : []),
      ...(experimental.feature_flags ?? []).map((flag) => warning(`Developer feature flag "${flag}" has been enabled`)),
      ...ttlNotices(caTtl, { agent_ttl: agentTtl, default_x509_svid_ttl: x509Ttl, default_jwt_svid_ttl: jwtTtl }),
      ...(trustDomain.length > 255
        ? [
            warning(
              'Configured trust domain name should be less than 255 characters to be SPIFFE compliant; a longer trust domain name may impact interoperability',
            ),
          ]
        : []),
    ],
  }
}

/** An SVID cannot outlive the CA that is about to be replaced: says so where a lifetime is too long to be kept. */
function ttlNotices(caTtl: number, ttls: Readonly<Record<string, number | undefined>>): ConfigNotice[] {
  const longest = Math.min(caTtl / 6, SEVEN_DAYS)
  return Object.entries(ttls)
    .filter(([, ttl]) => ttl !== undefined && ttl > longest)
    .map(([key]) =>
      warning(
        `${key} is too high for the configured ca_ttl value. SVIDs with shorter lifetimes may be issued. Please set ${key} to ${formatDuration(longest)} or less, or the ca_ttl to ${formatDuration(ttls[key]! * 6)} or more, to guarantee the full ${key} lifetime when CA rotations are scheduled.`,
      ),
    )
}

function caSubject(
  fields:
    | { readonly country?: readonly string[]; readonly organization?: readonly string[]; readonly common_name?: string }
    | undefined,
): DistinguishedName {
  const given = {
    ...(fields?.country?.length ? { country: fields.country } : {}),
    ...(fields?.organization?.length ? { organization: fields.organization } : {}),
    ...(fields?.common_name ? { commonName: fields.common_name } : {}),
  }
  return Object.keys(given).length > 0 ? given : { country: ['US'], organization: ['SPIFFE'] }
}

function keyType(text: string | undefined, key: string): KeyType | undefined {
  if (!text) return undefined
  const name = text.toLowerCase()
  if (Object.hasOwn(KEY_TYPES, name)) return name as KeyType
  throw new ConfigError(
    `error parsing ${key}: key type "${text}" is unknown; must be one of [rsa-2048, rsa-4096, ec-p256, ec-p384]`,
  )
}
