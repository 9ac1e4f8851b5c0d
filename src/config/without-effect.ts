/** A key that SPIRE acts on and this version does not: its path below the root, and what to know of it. */
export interface Idle {
  readonly path: string
  readonly because: string
}

const NO_METRICS = 'there are no metrics yet'
const NO_PROFILES = "these profiles are of Go's runtime"
const CHANGE_LOG = 'changes are followed in the order in which they are stored'

export const IDLE_IN_SERVER: readonly Idle[] = [
  {
    path: 'server.federation.bundle_endpoint',
    because: 'nothing listens there yet; `experimental { http { } }` serves the bundle at /bundle',
  },
  {
    path: 'server.federation.federates_with',
    because: 'bundles of others are not fetched yet; store them with `turret-server bundle set`',
  },
  { path: 'server.log_source_location', because: 'lines have no place in the source' },
  { path: 'server.max_attested_node_info_staleness', because: 'what is known of a node is never stale' },
  { path: 'server.profiling_enabled', because: NO_PROFILES },
  { path: 'server.profiling_port', because: NO_PROFILES },
  { path: 'server.profiling_freq', because: NO_PROFILES },
  { path: 'server.profiling_names', because: NO_PROFILES },
  {
    path: 'server.proxy_protocol_trusted_cidrs',
    because: 'connections that begin with the PROXY protocol fail; turn it off in the proxy',
  },
  { path: 'server.experimental.cache_reload_interval', because: CHANGE_LOG },
  { path: 'server.experimental.full_cache_reload_interval', because: CHANGE_LOG },
  { path: 'server.experimental.events_based_cache', because: CHANGE_LOG },
  { path: 'server.experimental.prune_events_older_than', because: CHANGE_LOG },
  { path: 'server.experimental.event_timeout', because: CHANGE_LOG },
  { path: 'server.experimental.sql_transaction_timeout', because: CHANGE_LOG },
  { path: 'telemetry', because: NO_METRICS },
]

const NO_ADMIN_SOCKET = 'the APIs of the admin socket are not there yet'

export const IDLE_IN_AGENT: readonly Idle[] = [
  { path: 'agent.admin_socket_path', because: NO_ADMIN_SOCKET },
  { path: 'agent.authorized_delegates', because: NO_ADMIN_SOCKET },
  { path: 'agent.log_source_location', because: 'lines have no place in the source' },
  { path: 'agent.profiling_enabled', because: NO_PROFILES },
  { path: 'agent.profiling_port', because: NO_PROFILES },
  { path: 'agent.profiling_freq', because: NO_PROFILES },
  { path: 'agent.profiling_names', because: NO_PROFILES },
  { path: 'agent.rebootstrap_mode', because: 'the agent keeps the bundle that it has' },
  { path: 'agent.rebootstrap_delay', because: 'the agent keeps the bundle that it has' },
  { path: 'agent.experimental.broker', because: 'the Broker API is not there yet' },
  { path: 'agent.experimental.ratelimit', because: 'what one user may hold is bounded, see docs/configuration.md' },
  { path: 'telemetry', because: NO_METRICS },
]

/** A sentence for each idle key that a file sets, so that nothing is left out in silence. False, zero and empty values ask for nothing. */
export function withoutEffect(values: object, idle: readonly Idle[]): readonly string[] {
  return idle.flatMap(({ path, because }) => (asks(valueAt(values, path)) ? [`${path} has no effect: ${because}`] : []))
}

function valueAt(values: object, path: string): unknown {
  let value: unknown = values
  for (const key of path.split('.')) value = (value as Readonly<Record<string, unknown>> | undefined)?.[key]
  return value
}

function asks(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value)
}
