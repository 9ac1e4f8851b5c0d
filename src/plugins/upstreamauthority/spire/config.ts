import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type BootstrapSource, checkServerUrl, readBootstrap } from '../../../config/agent.ts'
import type { PlainObject } from '../../../config/plain.ts'
import type { ServerPlace } from '../../../config/server-place.ts'
import type { AgentNodeAttestor } from '../../../core/plugin.ts'
import { parseSpiffeId, requireMember, type SpiffeId } from '../../../core/spiffe-id.ts'
import { joinTokenAttestor } from '../../nodeattestor/join_token/agent.ts'
import { ConfigProblems, type ReadHost } from '../../plugin.ts'
import { isGiven, objectOf, textOf } from '../../plugin-data.ts'
import { REGISTRY } from '../../registry.ts'

/** `plugin_data` of the upstream authority `spire`. */
export interface UpstreamSpireConfig {
  readonly server: ServerPlace
  readonly source: SvidSource
}

/** Where this server's SVID for the server above comes from. */
export type SvidSource =
  | { readonly kind: 'workload_api' /** Absolute. */; readonly socket: string }
  | {
      readonly kind: 'attestation'
      readonly attestor: AgentNodeAttestor
      readonly bootstrap: BootstrapSource
      /** Absolute; keeps the identity of this node over restarts. */
      readonly dataDir: string
      /** Of the entry to take; undefined: the one downstream entry there is. */
      readonly spiffeId: SpiffeId | undefined
    }

/** @throws ConfigProblems, or Error that names the key */
export async function readUpstreamSpire(data: PlainObject, host: ReadHost): Promise<UpstreamSpireConfig> {
  const { trustDomain, dataDir } = host
  if (!isGiven(data, 'server_url') && !isGiven(data, 'node_attestor')) {
    // All that is missing at once, where identities come from a Workload API, SPIRE's only way.
    const missing = ['server_address', 'server_port', 'workload_api_socket'].filter((key) => !isGiven(data, key))
    if (missing.length > 0) throw new ConfigProblems(missing.map((key) => `${key} is required`))
  }
  const serverUrl = textOf(data, 'server_url')
  const serverAddress = textOf(data, 'server_address')
  const serverPort = Number(textOf(data, 'server_port'))
  if (serverUrl !== '') checkServerUrl(serverUrl, serverAddress)
  else {
    if (serverAddress === '') throw new Error('server_address is required')
    if (!Number.isInteger(serverPort) || serverPort <= 0 || serverPort > 65535)
      throw new Error('server_port is required')
  }
  const experimental = data.experimental as PlainObject | undefined
  const server: ServerPlace = {
    trustDomain,
    serverAddress,
    serverPort,
    serverUrl: serverUrl || undefined,
    serverAudience: textOf(data, 'server_audience') || undefined,
    requirePqKem: experimental?.require_pq_kem === true,
  }
  const socket = textOf(data, 'workload_api_socket')
  if (data.node_attestor === undefined) {
    if (socket === '') throw new Error('workload_api_socket is required')
    return { server, source: { kind: 'workload_api', socket: resolve(socket) } }
  }
  if (socket !== '') throw new Error('only one of workload_api_socket or node_attestor can be configured')
  const id = textOf(data, 'spiffe_id')
  return {
    server,
    source: {
      kind: 'attestation',
      attestor: await attestorOf(data.node_attestor, host),
      bootstrap: readBootstrap({
        insecure: data.insecure_bootstrap === true,
        path: textOf(data, 'trust_bundle_path'),
        url: textOf(data, 'trust_bundle_url'),
        unixSocket: '',
        format: textOf(data, 'trust_bundle_format') || 'pem',
        workloadApi: '',
      }),
      dataDir: resolve(textOf(data, 'data_dir') || join(dataDir, 'upstream')),
      spiffeId: id === '' ? undefined : requireMember(parseSpiffeId(id), trustDomain),
    },
  }
}

/** A node attestor of an agent, by the same registry. */
async function attestorOf(value: PlainObject[string], host: ReadHost): Promise<AgentNodeAttestor> {
  const entries = typeof value === 'object' && !Array.isArray(value) ? Object.entries(value as PlainObject) : []
  const [[name, data] = ['', {}], another] = entries
  if (another !== undefined || typeof data !== 'object' || Array.isArray(data))
    throw new Error('node_attestor must be one block, such as node_attestor "x509pop" { ... }')
  const block = objectOf(data)
  if (name === 'join_token') return joinToken(block)
  const found = Object.hasOwn(REGISTRY.NodeAttestor, name) ? await REGISTRY.NodeAttestor[name]!() : undefined
  if (found?.default.agent === undefined) {
    const names = Object.keys(REGISTRY.NodeAttestor).join(' and ')
    throw new Error(`node_attestor ${JSON.stringify(name)} is not known; there are ${names}`)
  }
  return found.default.agent.make(block, { ...host, env: {} })
}

/** A token is used once: after that the identity of this node is kept, and the file may be gone. */
function joinToken(block: PlainObject): AgentNodeAttestor {
  const token = textOf(block, 'join_token')
  const file = textOf(block, 'join_token_file')
  if ((token === '') === (file === '')) throw new Error('one of join_token and join_token_file must be configured')
  return {
    name: 'join_token',
    begin: async (carried) => joinTokenAttestor(token || readFileSync(file, 'utf8').trim()).begin(carried),
  }
}
