import {
  AttestAgentRequest,
  AttestAgentResponse,
  PostStatusRequest,
  PostStatusResponse,
  RenewAgentRequest,
  RenewAgentResponse,
} from '../proto/spire/api/server/agent/v1.ts'
import { GetBundleRequest, GetFederatedBundleRequest } from '../proto/spire/api/server/bundle/v1.ts'
import {
  GetAuthorizedEntriesRequest,
  GetAuthorizedEntriesResponse,
  SyncAuthorizedEntriesRequest,
  SyncAuthorizedEntriesResponse,
} from '../proto/spire/api/server/entry/v1.ts'
import {
  BatchNewX509SVIDRequest,
  BatchNewX509SVIDResponse,
  NewJWTSVIDRequest,
  NewJWTSVIDResponse,
} from '../proto/spire/api/server/svid/v1.ts'
import { Bundle } from '../proto/spire/api/types.ts'
import type { MessageType } from '../src/rpc/method.ts'
import type { ClientMethod } from '../src/transport/grpc-client.ts'

const AGENT = '/spire.api.server.agent.v1.Agent'
const BUNDLE = '/spire.api.server.bundle.v1.Bundle'
const ENTRY = '/spire.api.server.entry.v1.Entry'
const SVID = '/spire.api.server.svid.v1.SVID'

/** The RPCs that an agent calls on its server. */
export const SERVER = {
  attestAgent: remote(`${AGENT}/AttestAgent`, AttestAgentRequest, AttestAgentResponse),
  renewAgent: remote(`${AGENT}/RenewAgent`, RenewAgentRequest, RenewAgentResponse),
  postStatus: remote(`${AGENT}/PostStatus`, PostStatusRequest, PostStatusResponse),
  getBundle: remote(`${BUNDLE}/GetBundle`, GetBundleRequest, Bundle),
  getFederatedBundle: remote(`${BUNDLE}/GetFederatedBundle`, GetFederatedBundleRequest, Bundle),
  getAuthorizedEntries: remote(
    `${ENTRY}/GetAuthorizedEntries`,
    GetAuthorizedEntriesRequest,
    GetAuthorizedEntriesResponse,
  ),
  syncAuthorizedEntries: remote(
    `${ENTRY}/SyncAuthorizedEntries`,
    SyncAuthorizedEntriesRequest,
    SyncAuthorizedEntriesResponse,
  ),
  batchNewX509Svid: remote(`${SVID}/BatchNewX509SVID`, BatchNewX509SVIDRequest, BatchNewX509SVIDResponse),
  newJwtSvid: remote(`${SVID}/NewJWTSVID`, NewJWTSVIDRequest, NewJWTSVIDResponse),
} as const

function remote<Req, Res>(path: string, request: MessageType<Req>, response: MessageType<Res>): ClientMethod<Req, Res> {
  return { path, request, response }
}
