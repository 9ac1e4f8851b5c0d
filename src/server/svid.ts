import type * as api from '../../proto/spire/api/server/svid/v1.ts'
import { type Csr, parseCsr, verifyCsrSignature } from '../core/csr.ts'
import type { Entry } from '../core/entry.ts'
import type { LogFields } from '../core/log.ts'
import type { PublicKeyInfo } from '../core/public-key.ts'
import { rfc3339 } from '../core/rfc3339.ts'
import { parseSpiffeId, requireWorkloadId, type SpiffeId, trustDomainId } from '../core/spiffe-id.ts'
import { parseWitKey, witKeyOf } from '../core/wit-svid.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'
import { authorizedEntries, byId } from './authorized-entries.ts'
import { OK, runItem } from './batch.ts'
import type { IssuedJwt, IssuedX509 } from './ca.ts'
import { idFromWire, idToWire } from './convert.ts'
import type { ServerDeps } from './deps.ts'
import { requireDnsName, requireNoWildcardOverlap } from './dns-name.ts'
import { limited, orInternal, orInvalid } from './outcome.ts'

/** An X509-SVID for what a CSR states, for administrators. */
export async function mintX509Svid(
  deps: ServerDeps,
  request: api.MintX509SVIDRequest,
  call: Call,
): Promise<api.MintX509SVIDResponse> {
  if (request.csr.length === 0) throw failure(call.log, 'INVALID_ARGUMENT', 'missing CSR')
  const csr = await verifiedCsr(deps, request.csr, 'failed to verify CSR signature', call)
  const [uri, another] = csr.uris
  if (uri === undefined) throw failure(call.log, 'INVALID_ARGUMENT', 'CSR URI SAN is required')
  if (another !== undefined) throw failure(call.log, 'INVALID_ARGUMENT', 'only one URI SAN is expected')
  const id = orInvalid(call, 'CSR URI SAN is invalid', () => requireWorkloadId(parseSpiffeId(uri), deps.trustDomain))
  orInvalid(call, 'CSR DNS name is invalid', () => csr.dnsNames.forEach(requireDnsName))
  orInvalid(call, 'CSR DNS name contains a wildcard that covers another non-wildcard name', () =>
    requireNoWildcardOverlap(csr.dnsNames),
  )
  const { spki, dnsNames, subject } = csr
  const svid = await orInternal(call, 'failed to sign X509-SVID', () =>
    deps.ca.signWorkloadX509({ id, spki, ttlSeconds: request.ttl, dnsNames, subject }),
  )
  if (call.debugEnabled) logX509(call, id, svid, { dns_name: dnsNames.join(',') })
  if (call.audited) call.audit({ spiffe_id: id, expires_at: svid.expiresAt, serial_num: svid.serialNumber })
  return { svid: x509ToWire(id, svid) }
}

/** A JWT-SVID for any workload of the trust domain, for administrators. */
export async function mintJwtSvid(
  deps: ServerDeps,
  request: api.MintJWTSVIDRequest,
  call: Call,
): Promise<api.MintJWTSVIDResponse> {
  requireJwtEnabled(deps, call)
  const id = orInvalid(call, 'invalid SPIFFE ID', () => requireWorkloadId(idFromWire(request.id), deps.trustDomain))
  const svid = await signJwt(deps, id, request.audience, request.ttl, false, call)
  if (call.audited) call.audit({ spiffe_id: id, expires_at: svid.expiresAt })
  return { svid: jwtToWire(id, svid) }
}

/** A WIT-SVID for any workload of the trust domain, bound to the public key in the request. */
export async function mintWitSvid(
  deps: ServerDeps,
  request: api.MintWITSVIDRequest,
  call: Call,
): Promise<api.MintWITSVIDResponse> {
  if (!deps.witSvidsEnabled) throw failure(call.log, 'UNIMPLEMENTED', 'WIT functionality is disabled')
  const id = orInvalid(call, 'invalid SPIFFE ID', () => requireWorkloadId(idFromWire(request.id), deps.trustDomain))
  const key = orInvalid(call, 'invalid public key', () => parseWitKey(request.publicKey))
  const svid = await signWit(deps, id, key, request.signingAlgorithm, request.ttl, call)
  if (call.audited) call.audit({ spiffe_id: id, expires_at: svid.expiresAt })
  return { svid: jwtToWire(id, svid) }
}

/** X509-SVIDs for entries of the calling agent. */
export async function batchNewX509Svid(
  deps: ServerDeps,
  request: api.BatchNewX509SVIDRequest,
  call: Call,
): Promise<api.BatchNewX509SVIDResponse> {
  const results = await issueForEntries(deps, request.params, call, async (params, entries) => {
    const entry = requestedEntry(params.entryId, entries, params.csr, 'missing CSR', call)
    const { spki } = await verifiedCsr(deps, params.csr, 'invalid CSR signature', call)
    const { spiffeId: id, dnsNames, x509SvidTtlSeconds: ttlSeconds } = entry
    const svid = await orInternal(call, 'failed to sign X509-SVID', () =>
      deps.ca.signWorkloadX509({ id, spki, ttlSeconds, dnsNames }),
    )
    if (call.debugEnabled) logX509(call, id, svid, { entry_id: entry.id, revision_number: entry.revisionNumber })
    return x509ToWire(id, svid)
  })
  return { results: results.map(({ status, value }) => ({ status, svid: value })) }
}

/** A JWT-SVID for an entry of the calling agent. */
export async function newJwtSvid(
  deps: ServerDeps,
  request: api.NewJWTSVIDRequest,
  call: Call,
): Promise<api.NewJWTSVIDResponse> {
  if (call.audited) call.auditRequest({ entry_id: request.entryId })
  await limited(call, 1, 'rejecting request due to JWT signing request rate limiting')
  requireJwtEnabled(deps, call)
  const entry = byId(await authorizedEntries(deps, call)).get(request.entryId)
  if (entry === undefined) throw failure(call.log, 'NOT_FOUND', 'entry not found or not authorized')
  const { spiffeId: id, jwtSvidTtlSeconds, jwtSvidIncludeJti } = entry
  const svid = await signJwt(deps, id, request.audience, jwtSvidTtlSeconds, jwtSvidIncludeJti, call)
  if (call.audited) call.audit({ spiffe_id: id, expires_at: svid.expiresAt })
  return { svid: jwtToWire(id, svid) }
}

/**
 * WIT-SVIDs for entries of the calling agent, each bound to a public key of the workload. They live as long as the entry's
 * X509-SVIDs. As in SPIRE the feature flag is not asked: without it there is no key to sign with, which each item says.
 */
export async function batchNewWitSvid(
  deps: ServerDeps,
  request: api.BatchNewWITSVIDRequest,
  call: Call,
): Promise<api.BatchNewWITSVIDResponse> {
  const results = await issueForEntries(deps, request.params, call, async (params, entries) => {
    const entry = requestedEntry(params.entryId, entries, params.publicKey, 'missing public key', call)
    const key = orInvalid(call, 'malformed public key', () => parseWitKey(params.publicKey))
    const { spiffeId: id, x509SvidTtlSeconds: ttlSeconds } = entry
    return jwtToWire(id, await signWit(deps, id, key, params.signingAlgorithm, ttlSeconds, call))
  })
  // SPIRE gives no status to what went well.
  return { results: results.map(({ status, value }) => ({ status: status === OK ? undefined : status, svid: value })) }
}

/** A CA for a server below this one. */
export async function newDownstreamX509Ca(
  deps: ServerDeps,
  request: api.NewDownstreamX509CARequest,
  call: Call,
): Promise<api.NewDownstreamX509CAResponse> {
  await limited(call, 1, 'rejecting request due to downstream CA signing rate limit')
  const { spki } = await verifiedCsr(deps, request.csr, 'invalid CSR signature', call)
  const ca = await orInternal(call, 'failed to sign downstream X.509 CA', () =>
    deps.ca.signDownstreamCa(spki, request.preferredTtl),
  )
  const bundle = await orInternal(call, 'failed to fetch bundle', () => deps.bundle.get())
  if (bundle === undefined) throw failure(call.log, 'NOT_FOUND', 'bundle not found')
  if (call.debugEnabled)
    call.log.debug('Signed X509 CA SVID', {
      spiffe_id: trustDomainId(deps.trustDomain),
      expiration: rfc3339(ca.expiresAt),
    })
  if (call.audited) call.audit({ expires_at: ca.expiresAt })
  return { caCertChain: [...ca.chain], x509Authorities: bundle.x509Authorities.map((authority) => authority.der) }
}

/** Issues to the calling agent what it asks for. All are signed at once: items do not wait for each other. */
async function issueForEntries<Params extends { readonly entryId: string }, Svid>(
  deps: ServerDeps,
  params: readonly Params[],
  call: Call,
  issue: (params: Params, entries: ReadonlyMap<string, Entry>) => Promise<Svid>,
) {
  if (params.length === 0) throw failure(call.log, 'INVALID_ARGUMENT', 'missing parameters')
  await limited(call, params.length, 'rejecting request due to certificate signing rate limiting')
  const entries = byId(await authorizedEntries(deps, call))
  return Promise.all(
    params.map((item) =>
      runItem(
        call,
        () => ({ entry_id: item.entryId }),
        () => issue(item, entries),
      ),
    ),
  )
}

/** The entry an item of a batch names, once it has all of its parts. */
function requestedEntry(
  id: string,
  entries: ReadonlyMap<string, Entry>,
  key: Uint8Array,
  missingKey: string,
  call: Call,
): Entry {
  if (id === '') throw failure(call.log, 'INVALID_ARGUMENT', 'missing entry ID')
  if (key.length === 0) throw failure(call.log, 'INVALID_ARGUMENT', missingKey)
  const entry = entries.get(id)
  if (entry === undefined) throw failure(call.log, 'NOT_FOUND', 'entry not found or not authorized')
  return entry
}

async function verifiedCsr(deps: ServerDeps, der: Uint8Array, complaint: string, call: Call): Promise<Csr> {
  const csr = orInvalid(call, 'malformed CSR', () => parseCsr(der))
  try {
    await verifyCsrSignature(csr, deps.verify)
  } catch (error) {
    throw failure(call.log, 'INVALID_ARGUMENT', complaint, error)
  }
  return csr
}

async function signJwt(
  deps: ServerDeps,
  id: SpiffeId,
  audience: readonly string[],
  ttlSeconds: number,
  includeJti: boolean,
  call: Call,
): Promise<IssuedJwt> {
  if (audience.length === 0) throw failure(call.log, 'INVALID_ARGUMENT', 'at least one audience is required')
  const svid = await orInternal(call, 'failed to sign JWT-SVID', () =>
    deps.ca.signJwt({ id, audience, ttlSeconds, includeJti }),
  )
  if (call.debugEnabled)
    call.log.debug('Server CA successfully signed JWT SVID', {
      spiffe_id: id,
      audience,
      expiration: rfc3339(svid.expiresAt),
    })
  return svid
}

async function signWit(
  deps: ServerDeps,
  id: SpiffeId,
  key: PublicKeyInfo,
  algorithm: string,
  ttlSeconds: number,
  call: Call,
): Promise<IssuedJwt> {
  const jwk = orInvalid(call, 'invalid signing algorithm or key type', () => witKeyOf(key, algorithm))
  const svid = await orInternal(call, 'failed to sign WIT-SVID', () => deps.ca.signWit({ id, jwk, ttlSeconds }))
  if (call.debugEnabled)
    call.log.debug('Server CA successfully signed WIT-SVID', { spiffe_id: id, expiration: rfc3339(svid.expiresAt) })
  return svid
}

function logX509(call: Call, id: SpiffeId, svid: IssuedX509, fields: LogFields): void {
  call.log.debug('Signed X509 SVID', {
    spiffe_id: id,
    serial_num: svid.serialNumber,
    expiration: rfc3339(svid.expiresAt),
    ...fields,
  })
}

function requireJwtEnabled(deps: ServerDeps, call: Call): void {
  if (!deps.jwtSvidsEnabled) throw failure(call.log, 'UNIMPLEMENTED', 'JWT functionality is disabled')
}

function x509ToWire(id: SpiffeId, svid: IssuedX509) {
  return { certChain: [...svid.chain], id: idToWire(id), expiresAt: svid.expiresAt, hint: '' }
}

function jwtToWire(id: SpiffeId, svid: IssuedJwt) {
  return { token: svid.token, id: idToWire(id), expiresAt: svid.expiresAt, issuedAt: svid.issuedAt, hint: '' }
}
