import { GetAgentInfoRequest, GetAgentInfoResponse } from '../../../proto/spire/hostservice/server/agentstore/v1.ts'
import {
  FetchX509IdentityRequest,
  FetchX509IdentityResponse,
} from '../../../proto/spire/hostservice/server/identityprovider/v1.ts'
import { StatusError } from '../../core/error.ts'
import type { SpiffeId } from '../../core/spiffe-id.ts'
import { pluginBundle } from '../../plugins/external/bundle.ts'
import type { Method } from '../../rpc/method.ts'
import type { Server } from '../../server/server.ts'

/** What a server offers its plugins out of process. The server is there only after they were started. */
export interface PluginServices {
  server?: Server
}

/** @see cli-and-config.md 12.3 */
export const SERVER_PLUGIN_METHODS: readonly Method<PluginServices>[] = [
  {
    path: '/spire.hostservice.server.identityprovider.v1.IdentityProvider/FetchX509Identity',
    kind: 'unary',
    request: FetchX509IdentityRequest,
    response: FetchX509IdentityResponse,
    async handle({ server }) {
      if (!server) throw notYet('IdentityProvider')
      const { chain, key } = server.identity()
      const bundle = await server.bundle.get()
      if (!bundle) throw new StatusError('NOT_FOUND', 'bundle not found')
      return {
        identity: { certChain: [...chain], privateKey: key.exportPrivateKey!() },
        bundle: pluginBundle(bundle),
      }
    },
  },
  {
    path: '/spire.hostservice.server.agentstore.v1.AgentStore/GetAgentInfo',
    kind: 'unary',
    request: GetAgentInfoRequest,
    response: GetAgentInfoResponse,
    async handle({ server }, { agentId }) {
      if (!server) throw notYet('AgentStore')
      const node = await server.deps.store.nodes.get(agentId as SpiffeId)
      if (!node) throw new StatusError('NOT_FOUND', 'no such agent')
      return { info: { agentId } }
    },
  },
]

function notYet(service: string): StatusError {
  return new StatusError('FAILED_PRECONDITION', `${service} host service has not been initialized`)
}
