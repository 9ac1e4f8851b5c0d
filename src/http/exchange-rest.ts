import { type StatusCode, StatusError } from '../core/error.ts'
import { isJsonObject, parseJson } from '../core/json-object.ts'
import type { ExchangeCalls, HttpCaller } from './exchange-calls.ts'
import { csrOf, exchangeBody, pemOf, publicError, spiffeIdText, TooLarge } from './exchange-text.ts'

/** `/api/v1/svid/<source>/x509` and `/jwt`; undefined for any other path. */
export function exchangePath(path: string): { readonly source: string; readonly kind: 'x509' | 'jwt' } | undefined {
  const [, source, kind] = /^\/api\/v1\/svid\/([A-Za-z0-9._-]{1,64})\/(x509|jwt)$/.exec(path) ?? []
  return source === undefined ? undefined : { source, kind: kind as 'x509' | 'jwt' }
}

/**
 * Answers in the shape of the SPIFFE project's own exchange, so that its users can move: the platform's token as bearer token, JSON in and
 * out. Other than there, keys are made by who uses them: `csr` is needed for X509-SVIDs, and no private key is ever in an answer.
 */
export function exchangeRest(
  calls: ExchangeCalls,
): (request: Request, path: NonNullable<ReturnType<typeof exchangePath>>, address: string) => Promise<Response> {
  return async (request, { source, kind }, address) => {
    if (request.method !== 'POST') return new Response(null, { status: 405, headers: { allow: 'POST' } })
    try {
      const [, token] = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i.exec(request.headers.get('authorization') ?? '') ?? []
      if (token === undefined) throw new StatusError('UNAUTHENTICATED', 'missing bearer token')
      const body = await readJson(request)
      const subject = { token, source, spiffeId: text(body, 'spiffeId') }
      const caller: HttpCaller = { address, signal: request.signal }
      return answer(
        200,
        kind === 'x509' ? await x509(calls, subject, body, caller) : await jwt(calls, subject, body, caller),
      )
    } catch (error) {
      return failed(error)
    }
  }
}

type Body = Readonly<Record<string, unknown>>
type Subject = { readonly token: string; readonly source: string; readonly spiffeId: string }

async function x509(calls: ExchangeCalls, subject: Subject, body: Body, caller: HttpCaller) {
  const csr = csrOf(text(body, 'csr'))
  if (csr.length === 0) {
    throw new StatusError(
      'INVALID_ARGUMENT',
      'missing "csr": keys are made by who uses them, none is sent with an SVID',
    )
  }
  const { svid, x509Authorities } = await calls.x509({ subject, csr }, caller)
  return {
    spiffeId: spiffeIdText(svid!.id!),
    cert: pemOf(svid!.certChain),
    bundle: pemOf(x509Authorities),
    expiresAt: svid!.expiresAt,
  }
}

async function jwt(calls: ExchangeCalls, subject: Subject, body: Body, caller: HttpCaller) {
  const { audiences = [] } = body
  if (!Array.isArray(audiences) || !audiences.every((name) => typeof name === 'string')) {
    throw new StatusError('INVALID_ARGUMENT', '"audiences" must be a list of texts')
  }
  const request = { subject, audience: audiences as string[], keyProof: text(body, 'keyProof') }
  const { svid } = await calls.jwt(request, caller)
  return { spiffeId: spiffeIdText(svid!.id!), token: svid!.token, expiresAt: svid!.expiresAt }
}

async function readJson(request: Request): Promise<Body> {
  const bytes = await exchangeBody(request)
  if (bytes.length === 0) return {}
  try {
    const value: unknown = parseJson(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    if (isJsonObject(value)) return value
  } catch {
    // Said below.
  }
  throw new StatusError('INVALID_ARGUMENT', 'the body is no JSON object')
}

function text(body: Body, name: string): string {
  const value = Object.hasOwn(body, name) ? body[name] : ''
  if (typeof value === 'string') return value
  throw new StatusError('INVALID_ARGUMENT', `${JSON.stringify(name)} must be text`)
}

const STATUS: Partial<Record<StatusCode, number>> = {
  INVALID_ARGUMENT: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  DEADLINE_EXCEEDED: 408,
  RESOURCE_EXHAUSTED: 429,
  UNIMPLEMENTED: 501,
  UNAVAILABLE: 503,
}

function failed(error: unknown): Response {
  if (error instanceof TooLarge) return answer(413, { error: error.message })
  const { code, message } = publicError(error)
  return answer(STATUS[code] ?? 500, { error: message })
}

function answer(status: number, body: Body): Response {
  const headers = { 'cache-control': 'no-store', ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}) }
  return Response.json(body, { status, headers })
}
