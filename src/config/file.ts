import { errorMessage } from '../core/error.ts'
import { type DecodedObject, decodeObject, type Fields, type UnknownKeys } from './decode.ts'
import { ConfigError, parseHcl } from './hcl.ts'
import { hintOfKey } from './old-words.ts'

/** A line for the log that reading a configuration gave rise to. */
export interface ConfigNotice {
  readonly level: 'warn' | 'error'
  readonly message: string
  readonly fields?: Readonly<Record<string, string | boolean>>
}

export const EXPERIMENTAL_NOTICE = warning(
  'Experimental features have been enabled. Please see doc/upgrading.md for upgrade and compatibility considerations for experimental features.',
)

export function warning(message: string): ConfigNotice {
  return { level: 'warn', message }
}

const KNOWN_FEATURE_FLAGS: ReadonlySet<string> = new Set(['wit-svid', 'i_am_a_test_flag'])

/** @throws ConfigError if there is a feature flag that SPIRE has not */
export function checkFeatureFlags(flags: readonly string[] = []): void {
  const unknown = flags.filter((flag) => !KNOWN_FEATURE_FLAGS.has(flag))
  if (unknown.length > 0)
    throw new ConfigError(`error loading feature flags: unknown feature flag(s): [${unknown.join(' ')}]`)
}

/** `health_checks { }`. */
export const HEALTH_CHECKS = {
  listener_enabled: 'bool',
  bind_address: 'string',
  bind_port: 'string',
  live_path: 'string',
  ready_path: 'string',
} as const satisfies Fields

export interface HealthCheckOptions {
  readonly enabled: boolean
  readonly host: string
  readonly port: number
  readonly livePath: string
  readonly readyPath: string
}

export function readHealthChecks(fields: DecodedObject<typeof HEALTH_CHECKS> | undefined): HealthCheckOptions {
  return {
    enabled: fields?.listener_enabled ?? false,
    host: fields?.bind_address || 'localhost',
    port: Number(fields?.bind_port || '80'),
    livePath: fields?.live_path || '/live',
    readyPath: fields?.ready_path || '/ready',
  }
}

/** `telemetry { }`: what is checked here is only that its keys exist; sinks read their own. */
export const TELEMETRY = {
  prometheus: {
    host: 'string',
    port: 'int',
    tls: {
      cert_file: 'string',
      key_file: 'string',
      client_ca_file: 'string',
      use_spire_svid: 'bool',
      authorized_spiffe_ids: 'strings',
    },
  },
  dogstatsd: { list: { address: 'string' } },
  statsd: { list: { address: 'string' } },
  m3: { list: { address: 'string', env: 'string' } },
  inmem: { enabled: 'bool' },
  metricprefix: 'string',
  enabletrustdomainlabel: 'bool',
  enablehostnamelabel: 'bool',
  allowedprefixes: 'strings',
  blockedprefixes: 'strings',
  allowedlabels: 'strings',
  blockedlabels: 'strings',
} as const satisfies Fields

/** What SPIRE calls the sections whose keys it checks; keys elsewhere are not looked at. */
const SECTIONS: Readonly<Record<string, string>> = {
  root: 'top-level',
  'root.server': 'server',
  'root.agent': 'agent',
  'root.server.ca_subject': 'ca_subject',
  'root.server.ratelimit': 'ratelimit',
  'root.server.federation.bundle_endpoint': 'bundle endpoint',
  'root.server.federation.bundle_endpoint.acme': 'bundle endpoint ACME',
  'root.agent.experimental.ratelimit': 'ratelimit',
  'root.agent.experimental.broker': 'experimental.broker',
  'root.telemetry.prometheus': 'Prometheus',
  'root.telemetry.inmem': 'InMem',
  'root.health_checks': 'health check',
}

/** An empty name: what the pattern's group takes. */
const LISTED: readonly (readonly [RegExp, string])[] = [
  [/^root\.telemetry\.dogstatsd\[\d+\]$/, 'DogStatsd'],
  [/^root\.telemetry\.statsd\[\d+\]$/, 'Statsd'],
  [/^root\.telemetry\.m3\[\d+\]$/, 'M3'],
  [/^root\.agent\.(experimental\.broker\.brokers\[\d+\](?:\.allowed_reference_types\[\d+\])?)$/, ''],
]

export interface ReadFile<F extends Fields> {
  readonly values: DecodedObject<F>
  readonly unknown: readonly UnknownKeys[]
}

/**
 * Decodes a whole configuration file.
 * @param name how errors name the file
 * @throws ConfigError `unable to decode configuration at "<name>": ...`
 */
export function readConfigFile<F extends Fields>(text: string, name: string, fields: F): ReadFile<F> {
  const unknown: UnknownKeys[] = []
  try {
    const values = decodeObject(parseHcl(text), fields, {
      path: 'root',
      unknown(path, keys) {
        const section = SECTIONS[path] ?? listedSection(path)
        if (section) unknown.push({ section, keys })
      },
    })
    return { values, unknown }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    throw new ConfigError(`unable to decode configuration at ${JSON.stringify(name)}: ${errorMessage(error)}`)
  }
}

function listedSection(path: string): string | undefined {
  for (const [pattern, name] of LISTED) {
    const match = pattern.exec(path)
    if (match) return name || match[1]
  }
  return undefined
}

/** Notices for unknown keys, which make the configuration unusable. */
function unknownKeyNotices(unknown: readonly UnknownKeys[]): ConfigNotice[] {
  return unknown.map(({ section, keys }) => ({
    level: 'error',
    message: 'Unknown configuration detected',
    fields: { section, keys: keys.join(',') },
  }))
}

/** A configuration refused for its unknown keys; the notices say which, the hints what became of keys that SPIRE once had. */
export class UnknownConfigError extends ConfigError {
  readonly notices: readonly ConfigNotice[]
  readonly hints: readonly string[]
  constructor(unknown: readonly UnknownKeys[]) {
    super('unknown configuration detected')
    this.notices = unknownKeyNotices(unknown)
    this.hints = unknown.flatMap(({ keys }) => keys.flatMap((key) => hintOfKey(key) ?? []))
  }
}
