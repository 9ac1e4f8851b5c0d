import type * as api from '../../proto/spire/api/server/localauthority/v1.ts'
import type { Bundle } from '../core/bundle.ts'
import type { Log } from '../core/log.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'
import type { LocalAuthorities, ServerDeps } from './deps.ts'
import { orInternal } from './outcome.ts'
import type { Slot, Slots } from './slots.ts'
import { revokeJwtKey, revokeRoot, taintJwtKey, taintRoot } from './taint.ts'

/** What differs between the kinds of authority that an administrator may change by hand. */
const KINDS = {
  x509: { name: 'X.509 authority', slots: 'x509Slots', prepare: 'prepareX509', activate: 'activateX509' },
  jwt: { name: 'JWT authority', slots: 'jwtSlots', prepare: 'prepareJwt', activate: 'activateJwt' },
} as const
type Kind = keyof typeof KINDS

export function getX509AuthorityState(deps: ServerDeps, _: api.GetX509AuthorityStateRequest, call: Call) {
  return authorityState(deps, 'x509', call)
}

export function getJwtAuthorityState(deps: ServerDeps, _: api.GetJWTAuthorityStateRequest, call: Call) {
  return authorityState(deps, 'jwt', call)
}

async function authorityState(deps: ServerDeps, kind: Kind, call: Call): Promise<api.GetX509AuthorityStateResponse> {
  const { current, next } = await activeSlots(deps, kind, call)
  call.audit({})
  return {
    active: stateOf(current),
    prepared: next.status === 'prepared' ? stateOf(next) : undefined,
    old: next.status === 'old' ? stateOf(next) : undefined,
  }
}

export function prepareX509Authority(deps: ServerDeps, _: api.PrepareX509AuthorityRequest, call: Call) {
  return prepareAuthority(deps, 'x509', call)
}

export function prepareJwtAuthority(deps: ServerDeps, _: api.PrepareJWTAuthorityRequest, call: Call) {
  return prepareAuthority(deps, 'jwt', call)
}

/** Makes the successor now. One that is prepared already, or the old authority, loses its place. */
async function prepareAuthority(deps: ServerDeps, kind: Kind, call: Call) {
  await activeSlots(deps, kind, call)
  const authorities = deps.authorities!
  await orInternal(call, `failed to prepare ${KINDS[kind].name}`, () => authorities[KINDS[kind].prepare]())
  call.audit({})
  return { preparedAuthority: stateOf(authorities[KINDS[kind].slots].next) }
}

export function activateX509Authority(deps: ServerDeps, request: api.ActivateX509AuthorityRequest, call: Call) {
  return activateAuthority(deps, 'x509', request.authorityId, call)
}

export function activateJwtAuthority(deps: ServerDeps, request: api.ActivateJWTAuthorityRequest, call: Call) {
  return activateAuthority(deps, 'jwt', request.authorityId, call)
}

async function activateAuthority(deps: ServerDeps, kind: Kind, authorityId: string, call: Call) {
  const log = logOf(call, { local_authority_id: authorityId })
  requireEnabled(deps, kind, log)
  const authorities = await fresh(deps, log)
  const { next } = authorities[KINDS[kind].slots]
  requireNext(next, authorityId, log)
  if (next.status !== 'prepared') {
    throw failure(log, 'INTERNAL', 'only Prepared authorities can be activated', unsupported(next))
  }
  await orInternal(call, `failed to activate ${KINDS[kind].name}`, () => authorities[KINDS[kind].activate](authorityId))
  call.audit({})
  return { activatedAuthority: stateOf(authorities[KINDS[kind].slots].current) }
}

/** Distrust of the old root: all that it signed is signed anew, and then it can be revoked. */
export async function taintX509Authority(deps: ServerDeps, request: api.TaintX509AuthorityRequest, call: Call) {
  const { authorityId } = request
  const log = logOf(call, { local_authority_id: authorityId })
  const authorities = await fresh(deps, log)
  if (authorities.hasUpstream) {
    throw failure(log, 'FAILED_PRECONDITION', "local authority can't be tainted if there is an upstream authority")
  }
  const old = requireOldToTaint(authorities.x509Slots, authorityId, log)
  await changeBundle(deps, call, 'failed to taint X.509 authority', (bundle) => taintRoot(bundle, authorityId))
  authorities.announceTaint([authorityId])
  call.audit({})
  log.info('X.509 authority tainted successfully')
  return { taintedAuthority: stateOf(old) }
}

export async function taintJwtAuthority(deps: ServerDeps, request: api.TaintJWTAuthorityRequest, call: Call) {
  const { authorityId } = request
  const log = logOf(call, { local_authority_id: authorityId })
  requireEnabled(deps, 'jwt', log)
  requireOldToTaint((await fresh(deps, log)).jwtSlots, authorityId, log)
  await changeBundle(deps, call, 'failed to taint JWT authority', (bundle) => taintJwtKey(bundle, authorityId))
  call.audit({})
  log.info('JWT authority tainted successfully')
  return { taintedAuthority: bareState(authorityId) }
}

/** Takes a tainted root out of the bundle. */
export async function revokeX509Authority(deps: ServerDeps, request: api.RevokeX509AuthorityRequest, call: Call) {
  const { authorityId } = request
  const log = logOf(call, { local_authority_id: authorityId })
  const authorities = await fresh(deps, log)
  if (authorities.hasUpstream) {
    throw failure(log, 'FAILED_PRECONDITION', "local authority can't be revoked if there is an upstream authority")
  }
  const { current, next } = authorities.x509Slots
  const problem =
    authorityId === ''
      ? 'no authority ID provided'
      : authorityId === current.authorityId
        ? 'unable to use current authority'
        : authorityId !== next.authorityId || next.status !== 'old'
          ? 'only Old local authority can be revoked'
          : undefined
  if (problem) throw failure(log, 'INVALID_ARGUMENT', 'invalid authority ID', new Error(problem))
  await changeBundle(deps, call, 'failed to revoke X.509 authority', (bundle) => revokeRoot(bundle, authorityId))
  call.audit({})
  log.info('X.509 authority revoked successfully')
  return { revokedAuthority: bareState(authorityId) }
}

/** Takes a tainted key out of the bundle: the old one of this server, or any other that is not in use here. */
export async function revokeJwtAuthority(deps: ServerDeps, request: api.RevokeJWTAuthorityRequest, call: Call) {
  const { authorityId } = request
  const log = logOf(call, { local_authority_id: authorityId })
  requireEnabled(deps, 'jwt', log)
  const { current, next } = (await fresh(deps, log)).jwtSlots
  const known = (await deps.store.bundles.get(deps.trustDomain))?.jwtAuthorities ?? []
  const problem =
    authorityId === ''
      ? 'no authority ID provided'
      : authorityId === next.authorityId
        ? next.status === 'prepared' && 'unable to use a prepared key'
        : authorityId === current.authorityId
          ? 'unable to use current authority'
          : !known.some(({ keyId }) => keyId === authorityId) && 'no JWT authority found with provided authority ID'
  if (problem) throw failure(log, 'INVALID_ARGUMENT', 'invalid authority ID', new Error(problem))
  await changeBundle(deps, call, 'failed to revoke JWT authority', (bundle) => revokeJwtKey(bundle, authorityId))
  call.audit({})
  log.info('JWT authority revoked successfully')
  return { revokedAuthority: bareState(authorityId) }
}

/** Distrust of the upstream root that signed the old CA. */
export async function taintX509UpstreamAuthority(
  deps: ServerDeps,
  request: api.TaintX509UpstreamAuthorityRequest,
  call: Call,
) {
  const keyId = await requireOldUpstream(deps, request.subjectKeyId, 'provided subject key id is not valid', call)
  await changeBundle(deps, call, 'failed to taint upstream authority', (bundle) => taintRoot(bundle, keyId))
  deps.authorities!.announceTaint([keyId])
  call.audit({})
  call.log.info('X.509 upstream authority tainted successfully', { subject_key_id: keyId })
  return { upstreamAuthoritySubjectKeyId: keyId }
}

export async function revokeX509UpstreamAuthority(
  deps: ServerDeps,
  request: api.RevokeX509UpstreamAuthorityRequest,
  call: Call,
) {
  const keyId = await requireOldUpstream(deps, request.subjectKeyId, 'invalid subject key ID', call)
  await changeBundle(deps, call, 'failed to revoke X.509 upstream authority', (bundle) => revokeRoot(bundle, keyId))
  call.audit({})
  call.log.info('X.509 upstream authority successfully revoked', { subject_key_id: keyId })
  return { upstreamAuthoritySubjectKeyId: keyId }
}

async function requireOldUpstream(deps: ServerDeps, text: string, complaint: string, call: Call): Promise<string> {
  const log = logOf(call, { subject_key_id: text })
  const authorities = await fresh(deps, log)
  if (!authorities.hasUpstream) throw failure(log, 'FAILED_PRECONDITION', 'upstream authority is not configured')
  const keyId = text.toLowerCase()
  const { current, next } = authorities.x509Slots
  const problem =
    keyId === ''
      ? 'no subject key ID provided'
      : keyId === current.upstreamAuthorityId
        ? // SPIRE's spelling, which clients may look for.
          'unable to use upstream authority singing current authority'
        : keyId !== next.upstreamAuthorityId
          ? "upstream authority didn't sign the old local authority"
          : next.status === 'prepared' && 'only upstream authorities signing an old authority can be used'
  if (problem) throw failure(log, 'INVALID_ARGUMENT', complaint, new Error(problem))
  return keyId
}

/** The authorities as they are now, whichever replica changed them. */
async function fresh(deps: ServerDeps, log: Log): Promise<LocalAuthorities> {
  if (!deps.authorities) throw failure(log, 'UNAVAILABLE', 'server is initializing')
  await deps.authorities.refresh()
  return deps.authorities
}

async function activeSlots(deps: ServerDeps, kind: Kind, call: Call): Promise<Slots<unknown>> {
  requireEnabled(deps, kind, call.log)
  const slots = (await fresh(deps, call.log))[KINDS[kind].slots]
  if (slots.current.status !== 'active') throw failure(call.log, 'UNAVAILABLE', 'server is initializing')
  return slots
}

function requireEnabled(deps: ServerDeps, kind: Kind, log: Log): void {
  if (kind === 'jwt' && !deps.jwtSvidsEnabled) throw failure(log, 'UNIMPLEMENTED', 'JWT functionality is disabled')
}

function requireNext(next: Slot<unknown>, authorityId: string, log: Log): void {
  if (authorityId === '') throw failure(log, 'INVALID_ARGUMENT', 'no authority ID provided')
  if (authorityId !== next.authorityId) throw failure(log, 'INVALID_ARGUMENT', 'unexpected authority ID')
}

function requireOldToTaint({ current, next }: Slots<unknown>, authorityId: string, log: Log): Slot<unknown> {
  if (authorityId !== '' && authorityId === current.authorityId) {
    throw failure(log, 'INVALID_ARGUMENT', 'unable to taint current local authority')
  }
  requireNext(next, authorityId, log)
  if (next.status !== 'old') {
    throw failure(log, 'INVALID_ARGUMENT', 'only Old local authorities can be tainted', unsupported(next))
  }
  return next
}

function unsupported({ status }: Slot<unknown>): Error {
  return new Error(`unsupported local authority status: ${status === 'empty' ? 'UNKNOWN' : status.toUpperCase()}`)
}

function changeBundle(deps: ServerDeps, call: Call, complaint: string, change: (bundle: Bundle) => Bundle) {
  return orInternal(call, complaint, () => deps.store.bundles.change(deps.trustDomain, change))
}

function logOf(call: Call, fields: { readonly local_authority_id: string } | { readonly subject_key_id: string }): Log {
  const [value] = Object.values(fields)
  if (value === '') return call.log
  if (call.audited) call.auditRequest(fields)
  return call.log.child(fields)
}

function stateOf(slot: Slot<unknown>): api.AuthorityState {
  return {
    authorityId: slot.authorityId,
    expiresAt: slot.notAfter,
    upstreamAuthoritySubjectKeyId: slot.upstreamAuthorityId,
  }
}

function bareState(authorityId: string): api.AuthorityState {
  return { authorityId, expiresAt: 0, upstreamAuthoritySubjectKeyId: '' }
}
