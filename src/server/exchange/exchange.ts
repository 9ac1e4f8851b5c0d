import type * as api from '../../../proto/turret/exchange/v1.ts'
import { epochSeconds } from '../../core/clock.ts'
import { type Csr, parseCsr, verifyCsrSignature } from '../../core/csr.ts'
import type { Entry } from '../../core/entry.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import { jwkThumbprint } from '../../core/jwk.ts'
import { parsePublicKey } from '../../core/public-key.ts'
import { trustDomainId } from '../../core/spiffe-id.ts'
import { requireKeySize } from '../../core/wit-svid.ts'
import type { Call } from '../../rpc/method.ts'
import { idToWire } from '../convert.ts'
import type { ServerDeps } from '../deps.ts'
import { limited, orInternal } from '../outcome.ts'
import { earnedEntry } from './entries.ts'
import { type ProvenKey, verifyKeyProof } from './key-proof.ts'
import type { VerifiableSource } from './source.ts'
import {
  endOfUse,
  readSubjectToken,
  requireBinding,
  type SubjectToken,
  sourceOf,
  tokenHash,
  useOf,
  verifySubjectToken,
} from './subject-token.ts'
import { notAllowed, tokenFacts, tokenSelectors } from './token-selectors.ts'

const MAX_AUDIENCES = 20
const MAX_AUDIENCE_LENGTH = 1024

/** An X509-SVID for a platform's token and the key that signed the CSR. Names in the CSR do not count. */
export async function exchangeX509(
  deps: ServerDeps,
  request: api.ExchangeX509Request,
  call: Call,
): Promise<api.ExchangeX509Response> {
  const grant = await granted(deps, request.subject, 'x509', call, async () => {
    if (request.csr.length === 0) throw new StatusError('INVALID_ARGUMENT', 'missing CSR')
    const csr = await verifiedCsr(deps, request.csr)
    return { csr, thumbprint: await jwkThumbprint(csr.spki) }
  })
  const { entry, source, key } = grant
  const { spiffeId: id, dnsNames, x509SvidTtlSeconds: ttlSeconds } = entry
  const svid = await orInternal(call, 'failed to sign X509-SVID', () =>
    deps.ca.signWorkloadX509({ id, spki: key.csr.spki, ttlSeconds, dnsNames, atMostSeconds: source.maxTtlSeconds }),
  )
  const bundle = await orInternal(call, 'failed to fetch bundle', () => deps.bundle.get())
  reportIssued(call, grant, { expires_at: svid.expiresAt, serial_num: svid.serialNumber })
  return {
    svid: { certChain: [...svid.chain], id: idToWire(id), expiresAt: svid.expiresAt, hint: entry.hint },
    x509Authorities: bundle?.x509Authorities.map(({ der }) => der) ?? [],
  }
}

/** A JWT-SVID for a platform's token. */
export async function exchangeJwt(
  deps: ServerDeps,
  request: api.ExchangeJWTRequest,
  call: Call,
): Promise<api.ExchangeJWTResponse> {
  const grant = await granted(deps, request.subject, 'jwt', call, async (token, source) => {
    if (!deps.jwtSvidsEnabled) throw new StatusError('UNIMPLEMENTED', 'JWT functionality is disabled')
    requireAudiences(request.audience)
    return request.keyProof === '' ? undefined : provenKey(deps, request.keyProof, token, source)
  })
  const { entry, source } = grant
  const { spiffeId: id, jwtSvidTtlSeconds: ttlSeconds, jwtSvidIncludeJti: includeJti } = entry
  const svid = await orInternal(call, 'failed to sign JWT-SVID', () =>
    deps.ca.signJwt({ id, audience: request.audience, ttlSeconds, includeJti, atMostSeconds: source.maxTtlSeconds }),
  )
  reportIssued(call, grant, { expires_at: svid.expiresAt })
  return { svid: { ...svid, id: idToWire(id), hint: entry.hint } }
}

/** A WIT-SVID for a platform's token and the key that signed the proof. */
export async function exchangeWit(
  deps: ServerDeps,
  request: api.ExchangeWITRequest,
  call: Call,
): Promise<api.ExchangeWITResponse> {
  const grant = await granted(deps, request.subject, 'wit', call, async (token, source) => {
    if (!deps.witSvidsEnabled) throw new StatusError('UNIMPLEMENTED', 'WIT functionality is disabled')
    if (request.keyProof === '') throw new StatusError('INVALID_ARGUMENT', 'missing key proof')
    return provenKey(deps, request.keyProof, token, source)
  })
  const { entry, source, key } = grant
  const { spiffeId: id, x509SvidTtlSeconds: ttlSeconds } = entry
  const svid = await orInternal(call, 'failed to sign WIT-SVID', () =>
    deps.ca.signWit({ id, jwk: key.jwk, ttlSeconds, atMostSeconds: source.maxTtlSeconds }),
  )
  reportIssued(call, grant, { expires_at: svid.expiresAt })
  return { svid: { ...svid, id: idToWire(id), hint: entry.hint } }
}

interface Grant<Key> {
  readonly source: VerifiableSource
  readonly entry: Entry
  readonly key: Key
  /** What logs say of the token. */
  readonly fields: Readonly<Record<string, string>>
}

/**
 * Decides what a token is good for, and marks it as used: last, so that a request that is refused for another reason may be mended and
 * sent again.
 *
 * @param proveKey called once the token is verified
 */
async function granted<Key extends { readonly thumbprint: string } | undefined>(
  deps: ServerDeps,
  subject: api.Subject | undefined,
  svidType: 'x509' | 'jwt' | 'wit',
  call: Call,
  proveKey: (token: SubjectToken, source: VerifiableSource) => Promise<Key>,
): Promise<Grant<Key>> {
  await limited(call, 1, 'rejecting request due to token exchange rate limiting')
  const fields: Record<string, string> = { svid_type: svidType }
  try {
    if (deps.exchange.length === 0) throw new StatusError('UNIMPLEMENTED', 'no sources of tokens are configured')
    const token = readSubjectToken(subject?.token ?? '')
    const source = sourceOf(deps.exchange, subject?.source ?? '', token)
    Object.assign(fields, { source: source.name, token_hash: await tokenHash(token) })
    const verified = await verifySubjectToken(source, token)
    Object.assign(fields, { issuer: source.verifier.issuer, subject: verified.subject })
    // One identity of the own domain would turn itself into others.
    if (verified.subject.startsWith(`${trustDomainId(deps.trustDomain)}/`))
      throw new StatusError('UNAUTHENTICATED', 'the token is an SVID of this trust domain')
    const key = await proveKey(token, source)
    requireBinding(source, token, key?.thumbprint)
    const facts = tokenFacts(source, verified.claims)
    const missed = notAllowed(source, facts)
    if (missed !== undefined)
      throw new StatusError('PERMISSION_DENIED', `the "${missed}" of the token is not allowed by the source`)
    const now = epochSeconds(deps.clock)
    const entry = await earnedEntry(deps, source, tokenSelectors(source, facts), subject?.spiffeId ?? '', now)
    Object.assign(fields, { entry_id: entry.id, spiffe_id: entry.spiffeId })
    const use = await useOf(source, token, verified.publicKey, svidType)
    if (!(await deps.store.uses.take(use, endOfUse(source, verified), now)))
      throw new StatusError('UNAUTHENTICATED', 'the token was used before')
    return { source, entry, key, fields }
  } catch (error) {
    call.auditRequest(fields)
    // What broke here is for the log: whoever asks may be anybody.
    if (!(error instanceof StatusError) || error.code === 'INTERNAL' || error.code === 'UNKNOWN') {
      call.log.error('Failed to exchange a token', { ...fields, error: errorMessage(error) })
      throw new StatusError('INTERNAL', 'failed to exchange the token', { cause: error })
    }
    call.log.error('Token was not exchanged', { ...fields, error: errorMessage(error) })
    throw error
  }
}

/** Written whether audit is on or not: nothing else says later where such an SVID came from. */
function reportIssued(call: Call, grant: Grant<unknown>, issued: Readonly<Record<string, string | number>>): void {
  const fields = { ...grant.fields, ...issued }
  if (call.audited) call.audit(fields)
  else call.log.info('Token was exchanged', fields)
}

async function verifiedCsr(deps: ServerDeps, der: Uint8Array): Promise<Csr> {
  try {
    const csr = parseCsr(der)
    requireKeySize(parsePublicKey(csr.spki))
    await verifyCsrSignature(csr, deps.verify)
    return csr
  } catch (cause) {
    throw new StatusError('INVALID_ARGUMENT', `invalid CSR: ${errorMessage(cause)}`, { cause })
  }
}

function provenKey(deps: ServerDeps, proof: string, token: SubjectToken, source: VerifiableSource): Promise<ProvenKey> {
  const at = epochSeconds(deps.clock)
  return verifyKeyProof(proof, { token: token.text, audience: source.audience, at, verify: deps.verify })
}

function requireAudiences(audiences: readonly string[]): void {
  if (audiences.length === 0 || audiences.includes(''))
    throw new StatusError('INVALID_ARGUMENT', 'at least one audience is required, and none may be empty')
  if (audiences.length > MAX_AUDIENCES || audiences.some((name) => name.length > MAX_AUDIENCE_LENGTH))
    throw new StatusError('INVALID_ARGUMENT', `at most ${MAX_AUDIENCES} audiences of ${MAX_AUDIENCE_LENGTH} characters`)
}
