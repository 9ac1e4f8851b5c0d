import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type BootstrapSource, checkServerUrl, readBootstrap } from '../../config/agent.ts'
import type { PlainObject } from '../../config/plain.ts'
import type { AgentNodeAttestor } from '../../core/plugin.ts'
import { parseSpiffeId, requireMember, type SpiffeId } from '../../core/spiffe-id.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { joinTokenAttestor } from '../../plugins/agent-nodeattestor/join_token.ts'
import { x509PopAgentAttestor, x509PopFiles } from '../../plugins/agent-nodeattestor/x509pop.ts'
import { textOf } from '../plugin-set.ts'
import type { ServerPlace } from '../server-connections.ts'

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

/**
 * @param dataDir of the server
 * @throws Error that names the key
 */
export function readUpstreamSpire(data: PlainObject, trustDomain: TrustDomain, dataDir: string): UpstreamSpireConfig {
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
      attestor: attestorOf(data.node_attestor),
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

function attestorOf(value: PlainObject[string]): AgentNodeAttestor {
  const entries = typeof value === 'object' && !Array.isArray(value) ? Object.entries(value as PlainObject) : []
  const [[name, data] = ['', {}], another] = entries
  if (another !== undefined || typeof data !== 'object' || Array.isArray(data))
    throw new Error('node_attestor must be one block, such as node_attestor "x509pop" { ... }')
  const block = data as PlainObject
  switch (name) {
    case 'join_token':
      return joinToken(block)
    case 'x509pop':
      return x509PopAgentAttestor(x509PopFiles(block))
    default:
      throw new Error(`node_attestor ${JSON.stringify(name)} is not known; there are join_token and x509pop`)
  }
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
