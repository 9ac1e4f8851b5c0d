import type * as api from '../../proto/spire/api/server/agent/v1.ts'
import { type Agent, type JoinToken, PermissionDeniedDetails_Reason as Reason } from '../../proto/spire/api/types.ts'
import { epochSeconds } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import { requireAgentId, requireWorkloadId, type SpiffeId } from '../core/spiffe-id.ts'
import type { NodeFilter } from '../core/store.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'
import { csrKey, joinTokenId } from './attest-agent.ts'
import { deniedDetail } from './authorize.ts'
import { agentIdOf } from './authorized-entries.ts'
import { agentToWire, idFromWire, idToWire, matchFromWire, pageFromWire, selectorsFromWire } from './convert.ts'
import type { ServerDeps } from './deps.ts'
import { codeOf, limited, orInternal, orInvalid } from './outcome.ts'

const MAX_VERSION_BYTES = 255

export async function countAgents(deps: ServerDeps, request: api.CountAgentsRequest, call: Call) {
  const filter = filterFromWire(request.filter, call)
  const count = await orInternal(call, 'failed to count agents', async () => deps.store.nodes.count(filter()))
  call.audit({})
  return { count }
}

export async function listAgents(deps: ServerDeps, request: api.ListAgentsRequest, call: Call) {
  const mask = request.outputMask
  const filter = filterFromWire(request.filter, call)
  const page = await orInternal(call, 'failed to list agents', async () =>
    deps.store.nodes.list(filter(), pageFromWire(request), mask === undefined || mask.selectors),
  )
  call.audit({})
  return { agents: page.items.map((node) => agentToWire(node, mask)), nextPageToken: page.nextToken }
}

export async function getAgent(deps: ServerDeps, request: api.GetAgentRequest, call: Call): Promise<Agent> {
  const id = agentIdFrom(deps, request.id, call)
  const node = await orInternal(call, 'failed to fetch agent', () => deps.store.nodes.get(id))
  if (node === undefined) throw failure(call.log, 'NOT_FOUND', 'agent not found')
  call.audit({})
  return agentToWire(node, request.outputMask)
}

export async function deleteAgent(deps: ServerDeps, request: api.DeleteAgentRequest, call: Call) {
  const id = agentIdFrom(deps, request.id, call)
  const { deletedEntries } = await orNotFound(call, 'failed to remove agent', () => deps.store.nodes.delete(id))
  for (const entry of deletedEntries) {
    call.log.info('Cascade-deleted registration entry on attested node deletion', {
      spiffe_id: id,
      entry_id: entry.id,
    })
  }
  call.log.info('Agent deleted', { spiffe_id: id })
  call.audit({})
  return {}
}

export async function banAgent(deps: ServerDeps, request: api.BanAgentRequest, call: Call) {
  const id = agentIdFrom(deps, request.id, call)
  await orNotFound(call, 'failed to ban agent', () => deps.store.nodes.ban(id))
  call.log.info('Agent banned', { spiffe_id: id })
  call.audit({})
  return {}
}

/** A new SVID for the calling agent. The present one stays good until the new one is used for the first time. */
export async function renewAgent(deps: ServerDeps, request: api.RenewAgentRequest, call: Call) {
  await limited(call, 1, 'rejecting request due to renew agent rate limiting')
  const id = agentIdOf(call)
  const node = await orInternal(call, 'failed to fetch agent', () => deps.store.nodes.get(id))
  if (node === undefined) throw failure(call.log, 'NOT_FOUND', 'agent not found')
  if (node.canReattest) {
    throw new StatusError('PERMISSION_DENIED', 'agent must reattest instead of renew', {
      details: [deniedDetail(Reason.AGENT_MUST_REATTEST)],
    })
  }
  call.log.info('Renewing agent SVID')
  if (request.params === undefined) throw failure(call.log, 'INVALID_ARGUMENT', 'params cannot be nil')
  if (request.params.csr.length === 0) throw failure(call.log, 'INVALID_ARGUMENT', 'missing CSR')
  const spki = await csrKey(deps, request.params.csr, call)
  const svid = await orInternal(call, 'failed to sign X509 SVID', () => deps.ca.signAgentX509(id, spki))
  await orNotFound(call, 'failed to update agent', () =>
    deps.store.nodes.recordRenewal(id, svid.serialNumber, svid.expiresAt),
  )
  call.audit({})
  return { svid: { certChain: [...svid.chain], id: idToWire(id), expiresAt: svid.expiresAt, hint: '' } }
}

export async function postStatus(deps: ServerDeps, request: api.PostStatusRequest, call: Call) {
  await limited(call, 1, 'rejecting request due to post status rate limiting')
  const id = agentIdOf(call)
  const version = request.agentVersion
  if (call.audited) call.auditRequest({ spiffe_id: id, ...(version !== '' && { agent_version: version }) })
  if (version !== '') {
    if (new TextEncoder().encode(version).length > MAX_VERSION_BYTES) {
      throw failure(call.log, 'INVALID_ARGUMENT', 'agent version is too long (max 255 characters)')
    }
    await orNotFound(call, 'failed to update agent', () => deps.store.nodes.setAgentVersion(id, version))
    if (call.debugEnabled) call.log.debug('Agent status updated', { spiffe_id: id, agent_version: version })
  }
  call.audit({})
  return {}
}

export async function createJoinToken(
  deps: ServerDeps,
  request: api.CreateJoinTokenRequest,
  call: Call,
): Promise<JoinToken> {
  if (request.ttl < 1) throw failure(call.log, 'INVALID_ARGUMENT', 'ttl is required, you must provide one')
  if (call.audited) call.auditRequest({ ttl: request.ttl })
  const agentId =
    request.agentId &&
    orInvalid(call, 'invalid agent ID', () => requireWorkloadId(idFromWire(request.agentId), deps.trustDomain))
  const value = request.token === '' ? deps.newUuid() : request.token
  const now = epochSeconds(deps.clock)
  const token = { value, expiresAt: now + request.ttl }
  await orInternal(call, 'failed to create token', () => deps.store.joinTokens.create(token))
  if (agentId !== undefined) {
    await orInternal(call, 'failed to create join token registration entry', async () => {
      const parentId = joinTokenId(deps, value)
      const [result] = await deps.store.entries.create([aliasEntry(agentId, parentId)], now)
      if (result?.outcome === 'failed') throw result.error
    })
  }
  call.audit({})
  return token
}

function aliasEntry(spiffeId: SpiffeId, parentId: SpiffeId) {
  return {
    id: '',
    spiffeId,
    parentId,
    selectors: [{ type: 'spiffe_id', value: parentId }],
    x509SvidTtlSeconds: 0,
    jwtSvidTtlSeconds: 0,
    federatesWith: [],
    admin: false,
    downstream: false,
    expiresAt: 0,
    dnsNames: [],
    storeSvid: false,
    hint: '',
    disableX509SvidPrefetch: false,
    jwtSvidIncludeJti: false,
  }
}

function agentIdFrom(deps: ServerDeps, id: api.GetAgentRequest['id'], call: Call): SpiffeId {
  const agentId = orInvalid(call, 'invalid agent ID', () => requireAgentId(idFromWire(id), deps.trustDomain))
  if (call.audited) call.auditRequest({ spiffe_id: agentId })
  return agentId
}

function filterFromWire(filter: api.ListAgentsRequest_Filter | undefined, call: Call): () => NodeFilter {
  if (filter === undefined) return () => ({})
  const match = filter.bySelectorMatch
  const selectors = match && orInvalid(call, 'failed to parse selectors', () => selectorsFromWire(match.selectors))
  const expiresBefore = parseGoTime(filter.byExpiresBefore)
  return () => {
    if (selectors?.length === 0) throw new StatusError('INVALID_ARGUMENT', 'cannot list by empty selectors set')
    return {
      ...(filter.byAttestationType !== '' && { attestationType: filter.byAttestationType }),
      ...(selectors && match && { selectors: { selectors, match: matchFromWire(match.match, '') } }),
      ...(filter.byBanned !== undefined && { banned: filter.byBanned }),
      ...(filter.byCanReattest !== undefined && { canReattest: filter.byCanReattest }),
      ...(expiresBefore !== undefined && { expiresBefore }),
    }
  }
}

/** `2006-01-02 15:04:05 -0700 -07`, what Go prints for a time; anything else is no filter, as in SPIRE. */
function parseGoTime(text: string): number | undefined {
  const parts = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d+)? ([+-]\d\d)(\d\d) [+-]\d\d$/.exec(text)
  if (parts === null) return undefined
  const milliseconds = Date.parse(`${parts[1]}T${parts[2]}${parts[3]}:${parts[4]}`)
  return Number.isNaN(milliseconds) ? undefined : Math.floor(milliseconds / 1000)
}

async function orNotFound<T>(call: Call, message: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    if (codeOf(error) === 'NOT_FOUND') throw failure(call.log, 'NOT_FOUND', 'agent not found')
    throw failure(call.log, 'INTERNAL', message, error)
  }
}
