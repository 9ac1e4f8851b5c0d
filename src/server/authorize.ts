import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as Reason } from '../../proto/spire/api/types.ts'
import { errorMessage, StatusError, wrapError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { AttestedNode } from '../core/node.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'
import type { Peer } from '../rpc/caller.ts'
import type { Verdict } from '../rpc/invoke.ts'
import type { IncomingCall } from '../rpc/service.ts'
import type { ServerDeps } from './deps.ts'

/** Kinds of callers that a policy row can name. */
export type Who = 'any' | 'local' | 'admin' | 'agent' | 'downstream'

const LOCAL = ['local'] as const
const ADMIN = ['local', 'admin'] as const
const AGENT = ['agent'] as const
const DOWNSTREAM = ['downstream'] as const
const ANY = ['any'] as const

/** Who may call what, row by row. A method that is not here is refused to everybody. */
const POLICY_ROWS: readonly (readonly [service: string, methods: string, who: readonly Who[]])[] = [
  ['spire.api.server.bundle.v1.Bundle', 'GetBundle', ANY],
  ['spire.api.server.agent.v1.Agent', 'AttestAgent', ANY],
  ['spire.api.server.logger.v1.Logger', 'GetLogger SetLogLevel ResetLogLevel', LOCAL],
  ['spire.api.server.debug.v1.Debug', 'GetInfo', LOCAL],
  ['grpc.health.v1.Health', 'Check List Watch', LOCAL],
  ['spire.api.server.svid.v1.SVID', 'MintX509SVID MintJWTSVID MintWITSVID', ADMIN],
  [
    'spire.api.server.bundle.v1.Bundle',
    'AppendBundle CountBundles ListFederatedBundles BatchCreateFederatedBundle BatchUpdateFederatedBundle BatchSetFederatedBundle BatchDeleteFederatedBundle',
    ADMIN,
  ],
  [
    'spire.api.server.entry.v1.Entry',
    'CountEntries ListEntries GetEntry BatchCreateEntry BatchUpdateEntry BatchDeleteEntry',
    ADMIN,
  ],
  ['spire.api.server.agent.v1.Agent', 'CountAgents ListAgents GetAgent DeleteAgent BanAgent CreateJoinToken', ADMIN],
  [
    'spire.api.server.trustdomain.v1.TrustDomain',
    'ListFederationRelationships GetFederationRelationship BatchCreateFederationRelationship BatchUpdateFederationRelationship BatchDeleteFederationRelationship RefreshBundle',
    ADMIN,
  ],
  [
    'spire.api.server.localauthority.v1.LocalAuthority',
    'GetJWTAuthorityState PrepareJWTAuthority ActivateJWTAuthority TaintJWTAuthority RevokeJWTAuthority GetX509AuthorityState PrepareX509Authority ActivateX509Authority TaintX509Authority TaintX509UpstreamAuthority RevokeX509Authority RevokeX509UpstreamAuthority GetWITAuthorityState PrepareWITAuthority ActivateWITAuthority TaintWITAuthority RevokeWITAuthority',
    ADMIN,
  ],
  ['spire.api.server.bundle.v1.Bundle', 'GetFederatedBundle', ['local', 'admin', 'agent']],
  ['spire.api.server.svid.v1.SVID', 'BatchNewX509SVID NewJWTSVID BatchNewWITSVID', AGENT],
  ['spire.api.server.entry.v1.Entry', 'GetAuthorizedEntries SyncAuthorizedEntries', AGENT],
  ['spire.api.server.agent.v1.Agent', 'RenewAgent PostStatus', AGENT],
  ['spire.api.server.svid.v1.SVID', 'NewDownstreamX509CA', DOWNSTREAM],
  ['spire.api.server.bundle.v1.Bundle', 'PublishJWTAuthority PublishWITAuthority', DOWNSTREAM],
  // Ours alone: the token in the request decides.
  ['turret.exchange.v1.Exchange', 'ExchangeX509 ExchangeJWT ExchangeWIT', ANY],
  // Ours alone: what agents and servers below follow instead of polling everything.
  ['turret.changes.v1.Changes', 'Watch Poll', ['agent', 'downstream']],
]

/** SPIRE's default policy by full method name. */
export const POLICY: ReadonlyMap<string, ReadonlySet<Who>> = new Map(
  POLICY_ROWS.flatMap(([service, methods, who]) =>
    methods.split(' ').map((method) => [`/${service}/${method}`, new Set(who)] as const),
  ),
)

const NONE: ReadonlySet<Who> = new Set()

/** Whether anybody may call a method, who they are or not. */
export function isForAll(path: string): boolean {
  return POLICY.get(path)?.has('any') ?? false
}

/**
 * Decides who the caller is, trying the cheap answers first.
 * @throws StatusError PERMISSION_DENIED with PermissionDeniedDetails where an agent was refused
 */
export function authorize(
  deps: ServerDeps,
  path: string,
  call: IncomingCall,
  logger: { readonly log: Log },
): Verdict | Promise<Verdict> {
  const who = POLICY.get(path) ?? NONE
  const peer = call.peer
  if (who.has('any')) return { caller: bare(peer), as: 'nobody', via: '' }
  if (peer.via === 'local') {
    if (who.has('local')) return { caller: bare(peer), as: 'local', via: 'transport' }
  } else if (peer.via === 'operator') {
    // They stand for whoever has the socket of a server that has none; they are neither agents nor servers below.
    if (who.has('admin') || who.has('local'))
      return { caller: { kind: 'admin', name: peer.name }, as: 'admin', via: peer.proof }
  } else if (peer.via === 'x509' || peer.via === 'wit') return authorizeById(deps, path, who, peer, logger)
  throw denied(path, logger)
}

type IdentifiedPeer = Extract<Peer, { via: 'x509' | 'wit' }>
type SvidPeer = Extract<Peer, { via: 'x509' }>

async function authorizeById(
  deps: ServerDeps,
  path: string,
  who: ReadonlySet<Who>,
  peer: IdentifiedPeer,
  logger: { readonly log: Log },
): Promise<Verdict> {
  const spiffeId = peer.spiffeId
  // A connection may be older than what its maker is still entitled to. Agents are told so that they know what to do.
  if (peer.via === 'x509' && deps.clock.nowMs() > peer.expiresAt * 1000) {
    logger.log.error(who.has('agent') ? 'Agent SVID is expired' : 'SVID is expired')
    throw denied(path, logger, who.has('agent') ? Reason.AGENT_EXPIRED : undefined)
  }
  if (who.has('admin') && deps.adminIds.has(spiffeId)) {
    return { caller: { kind: 'admin', name: spiffeId }, as: 'admin', via: 'config' }
  }
  if (who.has('admin') || who.has('downstream')) {
    const entries = await callerEntries(deps, spiffeId, logger)
    if (who.has('admin') && entries.some((entry) => entry.admin)) {
      return { caller: { kind: 'admin', name: spiffeId }, as: 'admin', via: 'entries' }
    }
    const downstream = who.has('downstream') ? entries.filter((entry) => entry.downstream) : []
    if (downstream.length > 0) {
      return { caller: { kind: 'downstream', spiffeId, entries: downstream }, as: 'downstream', via: 'entries' }
    }
  }
  // What makes an agent is the serial number of its SVID, which a WIT-SVID has not.
  if (who.has('agent') && peer.via === 'x509') {
    const reason = await agentRefusal(deps, peer, logger)
    if (reason === undefined) return { caller: { kind: 'agent', spiffeId }, as: 'agent', via: 'datastore' }
    throw denied(path, logger, reason)
  }
  throw denied(path, logger)
}

async function callerEntries(deps: ServerDeps, spiffeId: SpiffeId, logger: { readonly log: Log }) {
  try {
    return await deps.entries.bySpiffeId(spiffeId)
  } catch (error) {
    logger.log.error('Authorization failure from OPA auth', { error: errorMessage(error) })
    throw wrapError('INTERNAL', 'failed to fetch caller entries', error)
  }
}

/**
 * Why an SVID does not make its holder an agent; undefined if it does. Only serial numbers count. The first use of a
 * renewed SVID makes it the current one.
 */
async function agentRefusal(
  deps: ServerDeps,
  peer: SvidPeer,
  logger: { readonly log: Log },
): Promise<Reason | undefined> {
  const indexed = await deps.nodes.get(peer.spiffeId)
  if (indexed !== undefined && indexed.serialNumber !== '' && indexed.serialNumber === peer.serialNumber)
    return undefined
  // The index may lag behind another replica, so that nobody is refused by it alone.
  let node = await freshNode(deps, peer.spiffeId, logger)
  if (isPending(node, peer.serialNumber)) {
    if (await activate(deps, node, peer.serialNumber, logger)) return undefined
    node = await freshNode(deps, peer.spiffeId, logger)
  }
  if (node === undefined) {
    logger.log.error('Agent is not attested')
    return Reason.AGENT_NOT_ATTESTED
  }
  if (node.serialNumber === '') {
    logger.log.error('Agent is banned')
    return Reason.AGENT_BANNED
  }
  if (node.serialNumber === peer.serialNumber) return undefined
  logger.log.error('Agent SVID is not active', {
    svid_serial_num: peer.serialNumber,
    serial_num: node.serialNumber,
  })
  return Reason.AGENT_NOT_ACTIVE
}

function isPending(node: AttestedNode | undefined, serialNumber: string): node is AttestedNode {
  return (
    node !== undefined &&
    node.serialNumber !== '' &&
    node.serialNumber !== serialNumber &&
    node.newSerialNumber === serialNumber
  )
}

async function freshNode(deps: ServerDeps, id: SpiffeId, logger: { readonly log: Log }) {
  try {
    return await deps.store.nodes.get(id)
  } catch (error) {
    logger.log.error('Unable to look up agent information', { error: errorMessage(error) })
    throw wrapError('INTERNAL', 'unable to look up agent information', error)
  }
}

async function activate(deps: ServerDeps, node: AttestedNode, serialNumber: string, logger: { readonly log: Log }) {
  try {
    return await deps.store.nodes.activateRenewal(node.id, serialNumber)
  } catch (error) {
    logger.log.warn('Unable to activate the new agent SVID', {
      svid_serial_num: serialNumber,
      serial_num: node.serialNumber,
      new_serial_num: node.newSerialNumber,
      error: errorMessage(error),
    })
    throw wrapError('INTERNAL', 'unable to activate the new agent SVID', error)
  }
}

function bare(peer: Peer): Verdict['caller'] {
  if (peer.via !== 'local') return { kind: 'anonymous' }
  return peer.process === undefined ? { kind: 'local' } : { kind: 'local', process: peer.process }
}

function denied(path: string, logger: { readonly log: Log }, reason?: Reason): StatusError {
  const message = `authorization denied for method ${path}`
  logger.log.error('Failed to authenticate caller', {
    error: `rpc error: code = PermissionDenied desc = ${message}`,
  })
  return new StatusError('PERMISSION_DENIED', message, reason === undefined ? {} : { details: [deniedDetail(reason)] })
}

/** The status detail that tells an agent why it was refused and so what to do next. */
export function deniedDetail(reason: Reason) {
  return {
    typeUrl: 'type.googleapis.com/spire.api.types.PermissionDeniedDetails',
    value: PermissionDeniedDetails.encode({ reason }).finish(),
  }
}
