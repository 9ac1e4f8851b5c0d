import type { Subject } from '../../proto/turret/exchange/v1.ts'
import { type Clock, epochSeconds } from '../core/clock.ts'
import type { StatusCode } from '../core/error.ts'
import type { ExchangeCalls, HttpCaller } from './exchange-calls.ts'
import { csrOf, exchangeBody, pemOf, publicError, spiffeIdText, TooLarge } from './exchange-text.ts'

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const JWT = 'urn:ietf:params:oauth:token-type:jwt'
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token'
/** Nothing is registered for these two, so the names are ours. */
const X509_SVID = 'urn:turret:params:token-type:x509-svid'
const WIT_SVID = 'urn:turret:params:token-type:wit-svid'

/** May come more than once in a request; all others must not. RFC 6749 3.2, RFC 8693 2.1 */
const REPEATABLE: ReadonlySet<string> = new Set(['audience', 'resource'])

type Form = ReadonlyMap<string, readonly string[]>

/**
 * Answers `POST /v1/token`: OAuth token exchange, and the JWT bearer grant as another way to say the same. Beside the parameters of the RFCs
 * there are `csr` (X509-SVIDs), `key_proof` (WIT-SVIDs, and tokens that are bound to a key), `source` and `spiffe_id`.
 *
 * @see RFC 8693 2, RFC 7523 2.1, RFC 6749 5.2
 */
export function tokenEndpoint(
  calls: ExchangeCalls,
  clock: Clock,
): (request: Request, address: string) => Promise<Response> {
  return async (request, address) => {
    if (request.method !== 'POST') return new Response(null, { status: 405, headers: { allow: 'POST' } })
    let grant = ''
    try {
      const form = await readForm(request)
      grant = only(form, 'grant_type')
      return answer(200, await exchange(calls, clock, form, grant, { address, signal: request.signal }))
    } catch (error) {
      const { status, body } = oauthError(error, grant)
      return answer(status, body)
    }
  }
}

async function exchange(calls: ExchangeCalls, clock: Clock, form: Form, grant: string, caller: HttpCaller) {
  const subject = subjectOf(form, grant)
  const wanted = only(form, 'requested_token_type') || JWT
  const keyProof = only(form, 'key_proof')
  if (wanted === X509_SVID) {
    const { svid, x509Authorities } = await calls.x509({ subject, csr: csrOf(only(form, 'csr')) }, caller)
    return {
      access_token: pemOf(svid!.certChain),
      issued_token_type: X509_SVID,
      token_type: 'N_A',
      expires_in: svid!.expiresAt - epochSeconds(clock),
      spiffe_id: spiffeIdText(svid!.id!),
      bundle: pemOf(x509Authorities),
    }
  }
  if (wanted === WIT_SVID) {
    const { svid } = await calls.wit({ subject, keyProof }, caller)
    return tokenAnswer(svid!, WIT_SVID, 'N_A')
  }
  if (wanted !== JWT)
    throw new OAuthError('invalid_request', `requested_token_type must be ${JWT}, ${X509_SVID} or ${WIT_SVID}`)
  const audience = [...(form.get('audience') ?? []), ...(form.get('resource') ?? [])]
  const { svid } = await calls.jwt({ subject, audience, keyProof }, caller)
  return tokenAnswer(svid!, JWT, 'Bearer')
}

function tokenAnswer(
  svid: {
    readonly token: string
    readonly id?: { readonly trustDomain: string; readonly path: string }
    readonly expiresAt: number
    readonly issuedAt: number
  },
  type: string,
  tokenType: string,
) {
  return {
    access_token: svid.token,
    issued_token_type: type,
    token_type: tokenType,
    expires_in: svid.expiresAt - svid.issuedAt,
    spiffe_id: spiffeIdText(svid.id!),
  }
}

function subjectOf(form: Form, grant: string): Subject {
  const more = { source: only(form, 'source'), spiffeId: only(form, 'spiffe_id') }
  if (grant === JWT_BEARER) return { token: only(form, 'assertion'), ...more }
  if (grant !== TOKEN_EXCHANGE) {
    throw new OAuthError('unsupported_grant_type', `grant_type must be ${TOKEN_EXCHANGE} or ${JWT_BEARER}`)
  }
  if (form.has('actor_token')) throw new OAuthError('invalid_request', 'actor tokens are not taken')
  const type = only(form, 'subject_token_type')
  if (type !== JWT && type !== ID_TOKEN)
    throw new OAuthError('invalid_request', `subject_token_type must be ${JWT} or ${ID_TOKEN}`)
  return { token: only(form, 'subject_token'), ...more }
}

async function readForm(request: Request): Promise<Form> {
  const [type] = (request.headers.get('content-type') ?? '').split(';')
  if (type!.trim().toLowerCase() !== 'application/x-www-form-urlencoded')
    throw new OAuthError('invalid_request', 'the body must be application/x-www-form-urlencoded')
  const bytes = await exchangeBody(request)
  const form = new Map<string, string[]>()
  // A parameter without a value counts as left out. RFC 6749 3.2
  for (const [name, value] of new URLSearchParams(new TextDecoder().decode(bytes))) {
    const before = form.get(name)
    if (value === '') continue
    if (!before) form.set(name, [value])
    else if (REPEATABLE.has(name)) before.push(value)
    else
      throw new OAuthError('invalid_request', `a parameter comes more than once: ${JSON.stringify(name.slice(0, 64))}`)
  }
  return form
}

function only(form: Form, name: string): string {
  return form.get(name)?.[0] ?? ''
}

class OAuthError extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** A token that is not good has a code of its own for assertions, and none for exchanges. RFC 7521 4.1.1, RFC 8693 2.2.2 */
function oauthError(error: unknown, grant: string): { readonly status: number; readonly body: Record<string, string> } {
  if (error instanceof OAuthError) {
    return { status: 400, body: { error: error.code, error_description: quotable(error.message) } }
  }
  if (error instanceof TooLarge)
    return { status: 413, body: { error: 'invalid_request', error_description: error.message } }
  const { code, message } = publicError(error)
  const [status, name] = CODES[code] ?? [500, 'server_error']
  const refused = name === 'invalid_grant' && grant !== JWT_BEARER ? 'invalid_request' : name
  return { status, body: { error: refused, error_description: quotable(message) } }
}

const CODES: Partial<Record<StatusCode, readonly [status: number, error: string]>> = {
  INVALID_ARGUMENT: [400, 'invalid_request'],
  UNAUTHENTICATED: [400, 'invalid_grant'],
  PERMISSION_DENIED: [400, 'invalid_grant'],
  UNIMPLEMENTED: [400, 'unsupported_grant_type'],
  RESOURCE_EXHAUSTED: [429, 'temporarily_unavailable'],
  DEADLINE_EXCEEDED: [408, 'invalid_request'],
  UNAVAILABLE: [503, 'temporarily_unavailable'],
}

/** The characters that RFC 6749 allows in a description. */
function quotable(text: string): string {
  return text.replace(/["\\]/g, "'").replace(/[^\x20-\x7e]/g, '?')
}

function answer(status: number, body: Readonly<Record<string, unknown>>): Response {
  return Response.json(body, { status, headers: { 'cache-control': 'no-store', pragma: 'no-cache' } })
}
