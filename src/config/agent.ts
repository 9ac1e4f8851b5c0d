import type { KeyType } from '../core/key-type.ts'
import { parseSpiffeId, type SpiffeId, trustDomainOf } from '../core/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../core/trust-domain.ts'
import { BROKER, checkBroker } from './broker.ts'
import type { Fields } from './decode.ts'
import { formatDuration, parseDuration } from './duration.ts'
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
} from './file.ts'
import { ConfigError, prefixed } from './hcl.ts'
import { type LoggingOptions, readLogging } from './logging.ts'
import { type PluginConfig, readPlugins } from './plugins.ts'
import { requireServerUrl } from './server-url.ts'
import { IDLE_IN_AGENT, withoutEffect } from './without-effect.ts'

/** Where the first trust bundle comes from. */
export type BootstrapSource =
  | { readonly kind: 'file'; readonly path: string; readonly format: 'pem' | 'spiffe' }
  | {
      readonly kind: 'url'
      readonly url: string
      readonly unixSocket: string | undefined
      readonly format: 'pem' | 'spiffe'
    }
  | { readonly kind: 'workload_api'; readonly address: string }
  | { readonly kind: 'insecure' }

/** What `turret-agent run` is told; every default is applied. */
export interface AgentOptions {
  readonly trustDomain: TrustDomain
  readonly dataDir: string
  readonly serverAddress: string
  readonly serverPort: number
  /** The server's HTTP plane; undefined: gRPC to serverAddress. */
  readonly serverUrl: string | undefined
  /** How the server is configured to be called over HTTP; undefined: the origin of the URL. */
  readonly serverAudience: string | undefined
  readonly socketPath: string
  readonly adminSocketPath: string | undefined
  readonly joinToken: string | undefined
  /** A file that holds the token; the caller reads it. */
  readonly joinTokenFile: string | undefined
  readonly bootstrap: BootstrapSource
  readonly rebootstrapMode: 'never' | 'auto' | 'always'
  readonly rebootstrapDelaySeconds: number
  readonly syncIntervalSeconds: number
  readonly useSyncAuthorizedEntries: boolean
  readonly jwtSvidCacheHitTimeoutSeconds: number
  readonly x509SvidCacheMaxSize: number
  readonly jwtSvidCacheMaxSize: number
  /** 0: none. */
  readonly availabilityTargetSeconds: number
  readonly workloadX509SvidKeyType: KeyType
  readonly allowUnauthenticatedVerifiers: boolean
  readonly allowedForeignJwtClaims: readonly string[]
  readonly authorizedDelegates: readonly SpiffeId[]
  readonly disableWorkloadApi: boolean
  readonly disableSdsApi: boolean
  /** Envoy's secret discovery service: names of secrets, and whether its SPIFFE validator is used. */
  readonly sds: {
    readonly defaultSvidName: string
    readonly defaultBundleName: string
    readonly defaultAllBundlesName: string
    readonly disableSpiffeCertValidation: boolean
  }
  readonly logSelectors: readonly string[]
  readonly requirePqKem: boolean
  readonly logging: LoggingOptions
  readonly plugins: readonly PluginConfig[]
  readonly healthChecks: HealthCheckOptions
  readonly notices: readonly ConfigNotice[]
  /** What is set and does nothing here, a sentence each. */
  readonly withoutEffect: readonly string[]
}

/** Values of command line flags; an empty one counts as not given. */
export interface AgentFlags {
  readonly dataDir?: string
  readonly joinToken?: string
  readonly joinTokenFile?: string
  readonly serverAddress?: string
  readonly serverPort?: number
  readonly trustDomain?: string
  readonly socketPath?: string
  readonly logFile?: string
  readonly logFormat?: string
  readonly logLevel?: string
  readonly logSourceLocation?: boolean
  readonly trustBundle?: string
  readonly trustBundleUrl?: string
  readonly trustBundleFormat?: string
  readonly insecureBootstrap?: boolean
  readonly rebootstrapMode?: string
  readonly rebootstrapDelay?: string
  readonly allowUnauthenticatedVerifiers?: boolean
  readonly disableWorkloadAPI?: boolean
  readonly disableSDSAPI?: boolean
}

const RATE_LIMITS = {
  fetch_x509_svid: 'int',
  fetch_jwt_svid: 'int',
  fetch_x509_bundles: 'int',
  fetch_jwt_bundles: 'int',
  stream_secrets: 'int',
  fetch_secrets: 'int',
} as const

/** All keys that SPIRE knows, and ours. */
export const AGENT_FIELDS = {
  agent: {
    data_dir: 'string',
    server_address: 'string',
    server_port: 'int',
    // Ours: the server over HTTPS instead of gRPC.
    server_url: 'string',
    server_audience: 'string',
    trust_domain: 'string',
    socket_path: 'string',
    admin_socket_path: 'string',
    join_token: 'string',
    join_token_file: 'string',
    insecure_bootstrap: 'bool',
    trust_bundle_path: 'string',
    trust_bundle_url: 'string',
    trust_bundle_unix_socket: 'string',
    trust_bundle_format: 'string',
    trust_bundle_spiffe_workload_api: 'string',
    rebootstrap_mode: 'string',
    rebootstrap_delay: 'string',
    disable_workload_api: 'bool',
    disable_sds_api: 'bool',
    allow_unauthenticated_verifiers: 'bool',
    allowed_foreign_jwt_claims: 'strings',
    authorized_delegates: 'strings',
    availability_target: 'string',
    workload_x509_svid_key_type: 'string',
    x509_svid_cache_max_size: 'int',
    jwt_svid_cache_max_size: 'int',
    log_selectors: 'strings',
    log_file: 'string',
    log_level: 'string',
    log_format: 'string',
    log_source_location: 'bool',
    profiling_enabled: 'bool',
    profiling_port: 'int',
    profiling_freq: 'int',
    profiling_names: 'strings',
    sds: {
      default_svid_name: 'string',
      default_bundle_name: 'string',
      default_all_bundles_name: 'string',
      disable_spiffe_cert_validation: 'bool',
    },
    experimental: {
      sync_interval: 'string',
      use_sync_authorized_entries: 'bool',
      jwt_svid_cache_hit_timeout: 'string',
      require_pq_kem: 'bool',
      named_pipe_name: 'string',
      admin_named_pipe_name: 'string',
      feature_flags: 'strings',
      ratelimit: RATE_LIMITS,
      broker: BROKER,
    },
  },
  plugins: 'any',
  telemetry: TELEMETRY,
  health_checks: HEALTH_CHECKS,
} as const satisfies Fields

const SAME_BUNDLE_NAMES: ConfigNotice = {
  level: 'warn',
  message:
    'The "default_bundle_name" and "default_all_bundles_name" configurables have the same value. "default_all_bundles_name" will be ignored. Please configure distinct values or use the defaults. This will be a configuration error in a future release.',
}

const DEFAULT_SOCKET = '/tmp/spire-agent/public/api.sock'
const MINIMUM_AVAILABILITY_TARGET = 24 * 3600
const WORKLOAD_KEY_TYPES: ReadonlySet<string> = new Set(['ec-p256', 'ec-p384', 'rsa-2048'])

/**
 * Reads an agent configuration. Flags win over the file, the file over defaults; a false, zero or empty value never overrides.
 *
 * @param name how errors name the file
 * @throws ConfigError with SPIRE's texts, in SPIRE's order of checks
 * @see cli-and-config.md 7
 */
export function readAgentConfig(text: string, name: string, flags: AgentFlags = {}): AgentOptions {
  const { values, unknown } = readConfigFile(text, name, AGENT_FIELDS)
  const agent = values.agent ?? {}
  const experimental = agent.experimental ?? {}
  checkFeatureFlags(experimental.feature_flags)
  const joinToken = flags.joinToken || agent.join_token || undefined
  const joinTokenFile = flags.joinTokenFile || agent.join_token_file || undefined
  const serverAddress = flags.serverAddress || agent.server_address || ''
  const serverPort = flags.serverPort || agent.server_port || 0
  const trustDomainText = flags.trustDomain || agent.trust_domain || ''
  if (!values.plugins) throw new ConfigError('plugins section must be configured')
  if (joinToken && joinTokenFile)
    throw new ConfigError('only one of join_token or join_token_file can be specified, not both')
  const serverUrl = agent.server_url || undefined
  if (serverUrl === undefined) {
    if (serverAddress === '') throw new ConfigError('server_address must be configured')
    if (serverPort === 0) throw new ConfigError('server_port must be configured')
  } else checkServerUrl(serverUrl, serverAddress)
  if (trustDomainText === '') throw new ConfigError('trust_domain must be configured')
  const bootstrap = readBootstrap({
    insecure: (flags.insecureBootstrap || agent.insecure_bootstrap) ?? false,
    path: flags.trustBundle || agent.trust_bundle_path || '',
    url: flags.trustBundleUrl || agent.trust_bundle_url || '',
    unixSocket: agent.trust_bundle_unix_socket ?? '',
    format: flags.trustBundleFormat || agent.trust_bundle_format || 'pem',
    workloadApi: agent.trust_bundle_spiffe_workload_api ?? '',
  })
  if (experimental.named_pipe_name) {
    throw new ConfigError(
      'invalid configuration: named_pipe_name is not supported in this platform; please use socket_path instead',
    )
  }
  if (experimental.admin_named_pipe_name) {
    throw new ConfigError(
      'invalid configuration: admin_named_pipe_name is not supported in this platform; please use admin_socket_path instead',
    )
  }
  const rebootstrapMode = flags.rebootstrapMode || agent.rebootstrap_mode || 'never'
  if (rebootstrapMode !== 'never' && rebootstrapMode !== 'auto' && rebootstrapMode !== 'always') {
    throw new ConfigError(`unknown rebootstrap mode specified: ${rebootstrapMode}`)
  }
  if (rebootstrapMode !== 'never' && bootstrap.kind === 'insecure') {
    throw new ConfigError('insecure_bootstrap option can not be used with rebootstrapping')
  }
  const rebootstrapDelay = prefixed('error parsing rebootstrap delay duration', () =>
    parseDuration(flags.rebootstrapDelay || agent.rebootstrap_delay || '10m'),
  )
  const syncInterval = prefixed('could not parse synchronization interval', () =>
    parseDuration(experimental.sync_interval || '5s'),
  )
  const logging = readLogging({
    log_level: flags.logLevel || agent.log_level || 'INFO',
    log_format: flags.logFormat || agent.log_format || '',
    log_file: flags.logFile || agent.log_file || '',
    log_source_location: (flags.logSourceLocation || agent.log_source_location) ?? false,
  })
  const hitTimeout = prefixed('could not parse jwt_svid_cache_hit_timeout', () =>
    parseDuration(experimental.jwt_svid_cache_hit_timeout || '30s'),
  )
  if (experimental.jwt_svid_cache_hit_timeout) {
    if (hitTimeout < 5)
      throw new ConfigError(`jwt_svid_cache_hit_timeout (${formatDuration(hitTimeout)}) must be greater than 5s`)
    if (hitTimeout >= 30)
      throw new ConfigError(`jwt_svid_cache_hit_timeout (${formatDuration(hitTimeout)}) must be less than 30s`)
  }
  if ((agent.x509_svid_cache_max_size ?? 0) < 0)
    throw new ConfigError('x509_svid_cache_max_size should not be negative')
  if ((agent.jwt_svid_cache_max_size ?? 0) < 0) throw new ConfigError('jwt_svid_cache_max_size should not be negative')
  const trustDomain = prefixed(`could not parse trust_domain ${JSON.stringify(trustDomainText)}`, () =>
    parseTrustDomain(trustDomainText),
  )
  const socketPath = flags.socketPath || agent.socket_path || DEFAULT_SOCKET
  const adminSocketPath = agent.admin_socket_path || undefined
  if (adminSocketPath && isBelow(adminSocketPath, socketPath)) {
    throw new ConfigError(
      'admin socket cannot be in the same directory or a subdirectory as that containing the Workload API socket',
    )
  }
  const keyType = agent.workload_x509_svid_key_type || 'ec-p256'
  if (!WORKLOAD_KEY_TYPES.has(keyType.toLowerCase())) {
    throw new ConfigError(`key type "${keyType}" is unknown; must be one of [rsa-2048, ec-p256, ec-p384]`)
  }
  const sds = {
    defaultSvidName: agent.sds?.default_svid_name || 'default',
    defaultBundleName: agent.sds?.default_bundle_name || 'ROOTCA',
    defaultAllBundlesName: agent.sds?.default_all_bundles_name || 'ALL',
    disableSpiffeCertValidation: agent.sds?.disable_spiffe_cert_validation ?? false,
  }
  const plugins = readPlugins(values.plugins)
  if (unknown.length > 0) throw new UnknownConfigError(unknown)
  const delegates = (agent.authorized_delegates ?? []).map((id) =>
    prefixed('error validating authorized delegate', () => delegateId(id, trustDomain)),
  )
  if (experimental.broker) checkBroker(experimental.broker)
  const target = agent.availability_target
  const availabilityTarget = target ? prefixed('unable to parse availability_target', () => parseDuration(target)) : 0
  if (target && availabilityTarget < MINIMUM_AVAILABILITY_TARGET)
    throw new ConfigError('availability_target must be at least 24h0m0s')
  for (const [key, value] of Object.entries(experimental.ratelimit ?? {})) {
    if ((value ?? 0) < 0) throw new ConfigError(`experimental.ratelimit.${key} must not be negative`)
  }

  return {
    trustDomain,
    dataDir: flags.dataDir || agent.data_dir || '.',
    serverAddress,
    serverPort,
    serverUrl,
    serverAudience: agent.server_audience || undefined,
    socketPath,
    adminSocketPath,
    joinToken,
    joinTokenFile,
    bootstrap,
    rebootstrapMode,
    rebootstrapDelaySeconds: rebootstrapDelay,
    syncIntervalSeconds: syncInterval || 5,
    useSyncAuthorizedEntries: experimental.use_sync_authorized_entries ?? true,
    jwtSvidCacheHitTimeoutSeconds: hitTimeout,
    x509SvidCacheMaxSize: agent.x509_svid_cache_max_size || 1000,
    jwtSvidCacheMaxSize: agent.jwt_svid_cache_max_size || 1000,
    availabilityTargetSeconds: availabilityTarget,
    workloadX509SvidKeyType: keyType.toLowerCase() as KeyType,
    allowUnauthenticatedVerifiers:
      (flags.allowUnauthenticatedVerifiers || agent.allow_unauthenticated_verifiers) ?? false,
    allowedForeignJwtClaims: agent.allowed_foreign_jwt_claims ?? [],
    authorizedDelegates: delegates,
    disableWorkloadApi: (flags.disableWorkloadAPI || agent.disable_workload_api) ?? false,
    sds,
    disableSdsApi: (flags.disableSDSAPI || agent.disable_sds_api) ?? false,
    logSelectors: agent.log_selectors ?? [],
    requirePqKem: experimental.require_pq_kem ?? false,
    logging,
    plugins,
    healthChecks: readHealthChecks(values.health_checks),
    withoutEffect: withoutEffect(
      { ...values, agent: { ...agent, rebootstrap_mode: rebootstrapMode !== 'never' } },
      IDLE_IN_AGENT,
    ),
    notices: [
      ...(experimental.jwt_svid_cache_hit_timeout
        ? [{ level: 'warn', message: "The use of 'jwt_svid_cache_hit_timeout' is experimental" } as const]
        : []),
      ...(experimental.use_sync_authorized_entries === undefined
        ? []
        : [
            {
              level: 'warn',
              message:
                "The 'use_sync_authorized_entries' configuration is deprecated. The option to disable it will be removed in SPIRE 1.13.",
              fields: { alert: true, alert_type: 'deprecated_config' },
            } as const,
          ]),
      ...(sds.defaultBundleName === sds.defaultAllBundlesName ? [SAME_BUNDLE_NAMES] : []),
      ...(agent.experimental ? [EXPERIMENTAL_NOTICE] : []),
    ],
  }
}

function delegateId(text: string, trustDomain: TrustDomain): SpiffeId {
  const id = parseSpiffeId(text)
  if (trustDomainOf(id) === trustDomain) return id
  throw new ConfigError(`SPIFFE ID "${id}" is not a member of trust domain "${trustDomain}"`)
}

/** What a configuration says of the first trust; empty texts and false for what it does not say. */
export interface BootstrapFields {
  readonly insecure: boolean
  readonly path: string
  readonly url: string
  readonly unixSocket: string
  readonly format: string
  readonly workloadApi: string
}

/** @throws ConfigError with SPIRE's texts unless exactly one way is configured */
export function readBootstrap({
  insecure,
  path,
  url,
  unixSocket,
  format,
  workloadApi,
}: BootstrapFields): BootstrapSource {
  const clash = (a: string, b: string) => new ConfigError(`only one of ${a} or ${b} can be specified, not both`)
  if (workloadApi) {
    if (insecure) throw clash('insecure_bootstrap', 'trust_bundle_spiffe_workload_api')
    if (url) throw clash('trust_bundle_url', 'trust_bundle_spiffe_workload_api')
    if (path) throw clash('trust_bundle_path', 'trust_bundle_spiffe_workload_api')
    if (unixSocket)
      throw new ConfigError('trust_bundle_unix_socket can not be used with trust_bundle_spiffe_workload_api')
    if (!/^(unix|tcp):/.test(workloadApi)) {
      throw new ConfigError(
        'trust_bundle_spiffe_workload_api is not a valid SPIFFE Workload API endpoint address: workload endpoint socket URI must have a "tcp" or "unix" scheme',
      )
    }
  }
  if (insecure) {
    if (url && path) {
      throw new ConfigError(
        'only one of insecure_bootstrap, trust_bundle_url, or trust_bundle_path can be specified, not the three options',
      )
    }
    if (url) throw clash('insecure_bootstrap', 'trust_bundle_url')
    if (path) throw clash('insecure_bootstrap', 'trust_bundle_path')
  } else if (!path && !url && !workloadApi) {
    throw new ConfigError(
      'trust_bundle_path, trust_bundle_url, or trust_bundle_spiffe_workload_api must be configured unless insecure_bootstrap is set',
    )
  }
  if (url && path) throw clash('trust_bundle_url', 'trust_bundle_path')
  if (format !== 'pem' && format !== 'spiffe') {
    throw new ConfigError('invalid value for trust_bundle_format, expected "pem" or "spiffe"')
  }
  if (unixSocket && !url) throw new ConfigError('if trust_bundle_unix_socket is specified, so must be trust_bundle_url')
  if (url) checkUrl(url, unixSocket)
  if (workloadApi) return { kind: 'workload_api', address: workloadApi }
  if (url) return { kind: 'url', url, unixSocket: unixSocket || undefined, format }
  if (path) return { kind: 'file', path, format }
  return { kind: 'insecure' }
}

/** @throws ConfigError */
export function checkServerUrl(text: string, serverAddress: string): void {
  if (serverAddress !== '') throw new ConfigError('only one of server_address or server_url can be specified, not both')
  requireServerUrl(text, 'server_url')
}

function checkUrl(text: string, unixSocket: string): void {
  const url = prefixed('unable to parse trust bundle URL', () => new URL(text))
  if (!unixSocket) {
    if (url.protocol !== 'https:') throw new ConfigError('trust bundle URL must start with https://')
    return
  }
  if (url.protocol !== 'http:')
    throw new ConfigError('trust bundle URL must start with http:// when used with trust bundle unix socket')
  for (const key of url.searchParams.keys()) {
    for (const reserved of ['spiffe-', 'spire-']) {
      if (key.startsWith(reserved))
        throw new ConfigError(`trust_bundle_url query params can not start with ${reserved}`)
    }
  }
}

/** Whether a socket lies in the folder of another one, or below it. */
function isBelow(path: string, other: string): boolean {
  const folder = other.slice(0, other.lastIndexOf('/') + 1)
  return path.startsWith(folder)
}
