import { Empty } from '../../../proto/google/protobuf/empty.ts'
import * as api from '../../../proto/spire/api/server/agent/v1.ts'
import { Agent, JoinToken } from '../../../proto/spire/api/types.ts'
import type { ClientMethod } from '../../transport/grpc-client.ts'

const row = <Req, Res>(
  name: string,
  request: ClientMethod<Req, Res>['request'],
  response: ClientMethod<Req, Res>['response'],
): ClientMethod<Req, Res> => ({ path: `/spire.api.server.agent.v1.Agent/${name}`, request, response })

/** The agent service as the command line calls it. */
export const agents = {
  ban: row('BanAgent', api.BanAgentRequest, Empty),
  count: row('CountAgents', api.CountAgentsRequest, api.CountAgentsResponse),
  createJoinToken: row('CreateJoinToken', api.CreateJoinTokenRequest, JoinToken),
  delete: row('DeleteAgent', api.DeleteAgentRequest, Empty),
  get: row('GetAgent', api.GetAgentRequest, Agent),
  list: row('ListAgents', api.ListAgentsRequest, api.ListAgentsResponse),
}
