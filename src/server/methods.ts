import { Empty } from '../../proto/google/protobuf/empty.ts'
import * as health from '../../proto/grpc/health/v1.ts'
import * as agentApi from '../../proto/spire/api/server/agent/v1.ts'
import * as bundleApi from '../../proto/spire/api/server/bundle/v1.ts'
import * as debugApi from '../../proto/spire/api/server/debug/v1.ts'
import * as entryApi from '../../proto/spire/api/server/entry/v1.ts'
import * as localApi from '../../proto/spire/api/server/localauthority/v1.ts'
import * as loggerApi from '../../proto/spire/api/server/logger/v1.ts'
import * as svidApi from '../../proto/spire/api/server/svid/v1.ts'
import * as trustDomainApi from '../../proto/spire/api/server/trustdomain/v1.ts'
import * as types from '../../proto/spire/api/types.ts'
import { PollRequest, PollResponse, WatchRequest, WatchResponse } from '../../proto/turret/changes/v1.ts'
import * as exchangeApi from '../../proto/turret/exchange/v1.ts'
import { StatusError } from '../core/error.ts'
import { bidi, type MessageType, type Method, serverStream, type UnaryMethod, unary } from '../rpc/method.ts'
import * as agent from './agent.ts'
import { attestAgent } from './attest-agent.ts'
import * as bundle from './bundle.ts'
import { pollChanges, watchChanges } from './changes.ts'
import { getInfo } from './debug.ts'
import type { ServerDeps } from './deps.ts'
import * as entry from './entry.ts'
import { syncAuthorizedEntries } from './entry-sync.ts'
import { exchangeJwt, exchangeWit, exchangeX509 } from './exchange/exchange.ts'
import { check } from './health.ts'
import * as localAuthority from './local-authority.ts'
import * as logger from './logger.ts'
import * as svid from './svid.ts'
import * as trustDomain from './trustdomain.ts'

const AGENT = '/spire.api.server.agent.v1.Agent/'
const BUNDLE = '/spire.api.server.bundle.v1.Bundle/'
const ENTRY = '/spire.api.server.entry.v1.Entry/'
const SVID = '/spire.api.server.svid.v1.SVID/'
const TRUST_DOMAIN = '/spire.api.server.trustdomain.v1.TrustDomain/'
const LOCAL_AUTHORITY = '/spire.api.server.localauthority.v1.LocalAuthority/'
const LOGGER = '/spire.api.server.logger.v1.Logger/'
const DEBUG = '/spire.api.server.debug.v1.Debug/'
const EXCHANGE = '/turret.exchange.v1.Exchange/'
const HEALTH = '/grpc.health.v1.Health/'

const WIT_LATER = 'WIT-SVID functionality is not yet implemented'

/** What the server answers over TCP. */
export const TCP_METHODS: readonly Method<ServerDeps>[] = [
  row(`${AGENT}CountAgents`, agentApi.CountAgentsRequest, agentApi.CountAgentsResponse, agent.countAgents),
  row(`${AGENT}ListAgents`, agentApi.ListAgentsRequest, agentApi.ListAgentsResponse, agent.listAgents),
  row(`${AGENT}GetAgent`, agentApi.GetAgentRequest, types.Agent, agent.getAgent),
  row(`${AGENT}DeleteAgent`, agentApi.DeleteAgentRequest, Empty, agent.deleteAgent),
  row(`${AGENT}BanAgent`, agentApi.BanAgentRequest, Empty, agent.banAgent),
  bidi<ServerDeps, agentApi.AttestAgentRequest, agentApi.AttestAgentResponse>({
    path: `${AGENT}AttestAgent`,
    request: agentApi.AttestAgentRequest,
    response: agentApi.AttestAgentResponse,
    handle: attestAgent,
  }),
  row(`${AGENT}RenewAgent`, agentApi.RenewAgentRequest, agentApi.RenewAgentResponse, agent.renewAgent),
  row(`${AGENT}PostStatus`, agentApi.PostStatusRequest, agentApi.PostStatusResponse, agent.postStatus),
  row(`${AGENT}CreateJoinToken`, agentApi.CreateJoinTokenRequest, types.JoinToken, agent.createJoinToken),

  row(`${BUNDLE}CountBundles`, bundleApi.CountBundlesRequest, bundleApi.CountBundlesResponse, bundle.countBundles),
  row(`${BUNDLE}GetBundle`, bundleApi.GetBundleRequest, types.Bundle, bundle.getBundle),
  row(`${BUNDLE}AppendBundle`, bundleApi.AppendBundleRequest, types.Bundle, bundle.appendBundle),
  row(
    `${BUNDLE}PublishJWTAuthority`,
    bundleApi.PublishJWTAuthorityRequest,
    bundleApi.PublishJWTAuthorityResponse,
    bundle.publishJwtAuthority,
  ),
  row(
    `${BUNDLE}PublishWITAuthority`,
    bundleApi.PublishWITAuthorityRequest,
    bundleApi.PublishWITAuthorityResponse,
    bundle.publishWitAuthority,
  ),
  row(
    `${BUNDLE}ListFederatedBundles`,
    bundleApi.ListFederatedBundlesRequest,
    bundleApi.ListFederatedBundlesResponse,
    bundle.listFederatedBundles,
  ),
  row(`${BUNDLE}GetFederatedBundle`, bundleApi.GetFederatedBundleRequest, types.Bundle, bundle.getFederatedBundle),
  row(
    `${BUNDLE}BatchCreateFederatedBundle`,
    bundleApi.BatchCreateFederatedBundleRequest,
    bundleApi.BatchCreateFederatedBundleResponse,
    bundle.batchCreateFederatedBundle,
  ),
  row(
    `${BUNDLE}BatchUpdateFederatedBundle`,
    bundleApi.BatchUpdateFederatedBundleRequest,
    bundleApi.BatchUpdateFederatedBundleResponse,
    bundle.batchUpdateFederatedBundle,
  ),
  row(
    `${BUNDLE}BatchSetFederatedBundle`,
    bundleApi.BatchSetFederatedBundleRequest,
    bundleApi.BatchSetFederatedBundleResponse,
    bundle.batchSetFederatedBundle,
  ),
  row(
    `${BUNDLE}BatchDeleteFederatedBundle`,
    bundleApi.BatchDeleteFederatedBundleRequest,
    bundleApi.BatchDeleteFederatedBundleResponse,
    bundle.batchDeleteFederatedBundle,
  ),

  row(`${ENTRY}CountEntries`, entryApi.CountEntriesRequest, entryApi.CountEntriesResponse, entry.countEntries),
  row(`${ENTRY}ListEntries`, entryApi.ListEntriesRequest, entryApi.ListEntriesResponse, entry.listEntries),
  row(`${ENTRY}GetEntry`, entryApi.GetEntryRequest, types.Entry, entry.getEntry),
  row(
    `${ENTRY}BatchCreateEntry`,
    entryApi.BatchCreateEntryRequest,
    entryApi.BatchCreateEntryResponse,
    entry.batchCreateEntry,
  ),
  row(
    `${ENTRY}BatchUpdateEntry`,
    entryApi.BatchUpdateEntryRequest,
    entryApi.BatchUpdateEntryResponse,
    entry.batchUpdateEntry,
  ),
  row(
    `${ENTRY}BatchDeleteEntry`,
    entryApi.BatchDeleteEntryRequest,
    entryApi.BatchDeleteEntryResponse,
    entry.batchDeleteEntry,
  ),
  row(
    `${ENTRY}GetAuthorizedEntries`,
    entryApi.GetAuthorizedEntriesRequest,
    entryApi.GetAuthorizedEntriesResponse,
    entry.getAuthorizedEntries,
  ),
  bidi<ServerDeps, entryApi.SyncAuthorizedEntriesRequest, entryApi.SyncAuthorizedEntriesResponse>({
    path: `${ENTRY}SyncAuthorizedEntries`,
    request: entryApi.SyncAuthorizedEntriesRequest,
    response: entryApi.SyncAuthorizedEntriesResponse,
    handle: syncAuthorizedEntries,
  }),

  row(`${SVID}MintX509SVID`, svidApi.MintX509SVIDRequest, svidApi.MintX509SVIDResponse, svid.mintX509Svid),
  row(`${SVID}MintJWTSVID`, svidApi.MintJWTSVIDRequest, svidApi.MintJWTSVIDResponse, svid.mintJwtSvid),
  row(`${SVID}MintWITSVID`, svidApi.MintWITSVIDRequest, svidApi.MintWITSVIDResponse, svid.mintWitSvid),
  row(
    `${SVID}BatchNewX509SVID`,
    svidApi.BatchNewX509SVIDRequest,
    svidApi.BatchNewX509SVIDResponse,
    svid.batchNewX509Svid,
  ),
  row(`${SVID}NewJWTSVID`, svidApi.NewJWTSVIDRequest, svidApi.NewJWTSVIDResponse, svid.newJwtSvid),
  row(`${SVID}BatchNewWITSVID`, svidApi.BatchNewWITSVIDRequest, svidApi.BatchNewWITSVIDResponse, svid.batchNewWitSvid),
  row(
    `${SVID}NewDownstreamX509CA`,
    svidApi.NewDownstreamX509CARequest,
    svidApi.NewDownstreamX509CAResponse,
    svid.newDownstreamX509Ca,
  ),

  row(
    `${TRUST_DOMAIN}ListFederationRelationships`,
    trustDomainApi.ListFederationRelationshipsRequest,
    trustDomainApi.ListFederationRelationshipsResponse,
    trustDomain.listFederationRelationships,
  ),
  row(
    `${TRUST_DOMAIN}GetFederationRelationship`,
    trustDomainApi.GetFederationRelationshipRequest,
    types.FederationRelationship,
    trustDomain.getFederationRelationship,
  ),
  row(
    `${TRUST_DOMAIN}BatchCreateFederationRelationship`,
    trustDomainApi.BatchCreateFederationRelationshipRequest,
    trustDomainApi.BatchCreateFederationRelationshipResponse,
    trustDomain.batchCreateFederationRelationship,
  ),
  row(
    `${TRUST_DOMAIN}BatchUpdateFederationRelationship`,
    trustDomainApi.BatchUpdateFederationRelationshipRequest,
    trustDomainApi.BatchUpdateFederationRelationshipResponse,
    trustDomain.batchUpdateFederationRelationship,
  ),
  row(
    `${TRUST_DOMAIN}BatchDeleteFederationRelationship`,
    trustDomainApi.BatchDeleteFederationRelationshipRequest,
    trustDomainApi.BatchDeleteFederationRelationshipResponse,
    trustDomain.batchDeleteFederationRelationship,
  ),
  row(`${TRUST_DOMAIN}RefreshBundle`, trustDomainApi.RefreshBundleRequest, Empty, trustDomain.refreshBundle),

  row(
    `${LOCAL_AUTHORITY}GetJWTAuthorityState`,
    localApi.GetJWTAuthorityStateRequest,
    localApi.GetJWTAuthorityStateResponse,
    localAuthority.getJwtAuthorityState,
  ),
  row(
    `${LOCAL_AUTHORITY}PrepareJWTAuthority`,
    localApi.PrepareJWTAuthorityRequest,
    localApi.PrepareJWTAuthorityResponse,
    localAuthority.prepareJwtAuthority,
  ),
  row(
    `${LOCAL_AUTHORITY}ActivateJWTAuthority`,
    localApi.ActivateJWTAuthorityRequest,
    localApi.ActivateJWTAuthorityResponse,
    localAuthority.activateJwtAuthority,
  ),
  row(
    `${LOCAL_AUTHORITY}TaintJWTAuthority`,
    localApi.TaintJWTAuthorityRequest,
    localApi.TaintJWTAuthorityResponse,
    localAuthority.taintJwtAuthority,
  ),
  row(
    `${LOCAL_AUTHORITY}RevokeJWTAuthority`,
    localApi.RevokeJWTAuthorityRequest,
    localApi.RevokeJWTAuthorityResponse,
    localAuthority.revokeJwtAuthority,
  ),
  row(
    `${LOCAL_AUTHORITY}GetX509AuthorityState`,
    localApi.GetX509AuthorityStateRequest,
    localApi.GetX509AuthorityStateResponse,
    localAuthority.getX509AuthorityState,
  ),
  row(
    `${LOCAL_AUTHORITY}PrepareX509Authority`,
    localApi.PrepareX509AuthorityRequest,
    localApi.PrepareX509AuthorityResponse,
    localAuthority.prepareX509Authority,
  ),
  row(
    `${LOCAL_AUTHORITY}ActivateX509Authority`,
    localApi.ActivateX509AuthorityRequest,
    localApi.ActivateX509AuthorityResponse,
    localAuthority.activateX509Authority,
  ),
  row(
    `${LOCAL_AUTHORITY}TaintX509Authority`,
    localApi.TaintX509AuthorityRequest,
    localApi.TaintX509AuthorityResponse,
    localAuthority.taintX509Authority,
  ),
  row(
    `${LOCAL_AUTHORITY}TaintX509UpstreamAuthority`,
    localApi.TaintX509UpstreamAuthorityRequest,
    localApi.TaintX509UpstreamAuthorityResponse,
    localAuthority.taintX509UpstreamAuthority,
  ),
  row(
    `${LOCAL_AUTHORITY}RevokeX509Authority`,
    localApi.RevokeX509AuthorityRequest,
    localApi.RevokeX509AuthorityResponse,
    localAuthority.revokeX509Authority,
  ),
  row(
    `${LOCAL_AUTHORITY}RevokeX509UpstreamAuthority`,
    localApi.RevokeX509UpstreamAuthorityRequest,
    localApi.RevokeX509UpstreamAuthorityResponse,
    localAuthority.revokeX509UpstreamAuthority,
  ),
  ...unimplemented(
    LOCAL_AUTHORITY,
    'GetWITAuthorityState PrepareWITAuthority ActivateWITAuthority TaintWITAuthority RevokeWITAuthority',
    WIT_LATER,
  ),

  serverStream<ServerDeps, WatchRequest, WatchResponse>({
    path: '/turret.changes.v1.Changes/Watch',
    request: WatchRequest,
    response: WatchResponse,
    handle: watchChanges,
  }),
  row('/turret.changes.v1.Changes/Poll', PollRequest, PollResponse, pollChanges),
  row(`${EXCHANGE}ExchangeX509`, exchangeApi.ExchangeX509Request, exchangeApi.ExchangeX509Response, exchangeX509),
  row(`${EXCHANGE}ExchangeJWT`, exchangeApi.ExchangeJWTRequest, exchangeApi.ExchangeJWTResponse, exchangeJwt),
  row(`${EXCHANGE}ExchangeWIT`, exchangeApi.ExchangeWITRequest, exchangeApi.ExchangeWITResponse, exchangeWit),
]

/** What it answers on the admin socket. */
export const ADMIN_METHODS: readonly Method<ServerDeps>[] = [
  ...TCP_METHODS,
  row(`${LOGGER}GetLogger`, loggerApi.GetLoggerRequest, types.Logger, logger.getLogger),
  row(`${LOGGER}SetLogLevel`, loggerApi.SetLogLevelRequest, types.Logger, logger.setLogLevel),
  row(`${LOGGER}ResetLogLevel`, loggerApi.ResetLogLevelRequest, types.Logger, logger.resetLogLevel),
  row(`${DEBUG}GetInfo`, debugApi.GetInfoRequest, debugApi.GetInfoResponse, getInfo),
  row(`${HEALTH}Check`, health.HealthCheckRequest, health.HealthCheckResponse, check),
  ...unimplemented(HEALTH, 'List'),
  serverStream<ServerDeps, health.HealthCheckRequest, health.HealthCheckResponse>({
    path: `${HEALTH}Watch`,
    request: health.HealthCheckRequest,
    response: health.HealthCheckResponse,
    // biome-ignore lint/correctness/useYield: a stream that ends with an error before its first message.
    async *handle() {
      throw new StatusError('UNIMPLEMENTED', 'method Watch not implemented')
    },
  }),
]

function row<Req, Res>(
  path: string,
  request: MessageType<Req>,
  response: MessageType<Res>,
  handle: UnaryMethod<ServerDeps, Req, Res>['handle'],
): Method<ServerDeps> {
  return unary({ path, request, response, handle })
}

/** Rows that are refused to callers as all others are, and then say that there is nothing behind them. */
function unimplemented(service: string, methods: string, text?: string): Method<ServerDeps>[] {
  return methods.split(' ').map((method) =>
    row<Empty, Empty>(`${service}${method}`, Empty, Empty, async () => {
      throw new StatusError('UNIMPLEMENTED', text ?? `method ${method} not implemented`)
    }),
  )
}
