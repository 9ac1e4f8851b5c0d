import { base64Url } from '../core/base64.ts'
import type { Bundle } from '../core/bundle.ts'
import { bundleDocument } from '../core/bundle-document.ts'
import { utf8 } from '../core/der.ts'
import { oidcDiscovery, oidcJwks } from '../core/oidc-document.ts'
import { sha256 } from '../core/sha256.ts'

export interface PublicDocumentOptions {
  /** The bundle to publish; the same object as long as it does not change. undefined: there is none yet. */
  readonly bundle: () => Promise<Bundle | undefined> | Bundle | undefined
  /** The bundle of any trust domain that is known here, its own and others; the same object as long as it does not change. */
  readonly bundleOf?: (name: string) => Promise<Bundle | undefined> | Bundle | undefined
  /** Seconds after which readers should look again, for bundles that do not say; the documents may be cached for a fifth of it. */
  readonly refreshHintSeconds: number
  /** `https://...` of this publisher as tokens name it; undefined: no OIDC discovery. */
  readonly issuer: string | undefined
}

interface Document {
  readonly body: string
  readonly etag: string
}

type Kind = 'bundle' | 'jwks' | 'discovery'

/** Anybody may read them from a page of any origin; a browser asks before it sends If-None-Match. */
const CORS = { 'access-control-allow-origin': '*' }
const PREFLIGHT = {
  ...CORS,
  'access-control-allow-methods': 'GET, HEAD',
  'access-control-allow-headers': 'if-none-match',
  'access-control-max-age': '86400',
}

/**
 * The documents that anybody may read, as a fetch handler: `/` and `/bundle` (SPIFFE bundle), `/bundle/<trust domain>` (also those we
 * federate with), `/keys` (JWKS), `/.well-known/openid-configuration`, `/live` and `/ready`. Strong ETags, 304, CORS; each is made once per
 * version of the bundle.
 * @see SPIFFE Federation 5, OpenID Connect Discovery 1.0
 */
export function publicDocuments(
  options: PublicDocumentOptions,
): (request: Request, path?: string) => Promise<Response> {
  const { issuer } = options
  const made = new WeakMap<Bundle, Map<Kind, Promise<Document>>>()
  const hintOf = (bundle: Bundle) => bundle.refreshHintSeconds || options.refreshHintSeconds

  const write: Record<Kind, (bundle: Bundle) => string> = {
    bundle: (bundle) => bundleDocument(bundle, hintOf(bundle)),
    jwks: oidcJwks,
    discovery: () => oidcDiscovery(issuer!, `${issuer}/keys`),
  }

  function documentOf(bundle: Bundle, kind: Kind): Promise<Document> {
    const kinds = made.get(bundle) ?? new Map<Kind, Promise<Document>>()
    made.set(bundle, kinds)
    const known = kinds.get(kind) ?? withTag(write[kind](bundle))
    kinds.set(kind, known)
    return known
  }

  async function answer(request: Request, kind: Kind, bundle: Bundle): Promise<Response> {
    const { body, etag } = await documentOf(bundle, kind)
    const headers = {
      ...CORS,
      etag,
      'access-control-expose-headers': 'etag',
      'cache-control': `public, max-age=${Math.max(1, Math.floor(hintOf(bundle) / 5))}`,
      'content-type': 'application/json',
    }
    if (names(request.headers.get('if-none-match'), etag)) return new Response(null, { status: 304, headers })
    return new Response(request.method === 'HEAD' ? null : body, { headers })
  }

  async function answerOwn(request: Request, kind: Kind): Promise<Response> {
    const bundle = await options.bundle()
    if (bundle) return answer(request, kind, bundle)
    return new Response('document not available\n', { status: 503, headers: { ...CORS, 'retry-after': '1' } })
  }

  async function answerOf(request: Request, name: string): Promise<Response> {
    const bundle = await options.bundleOf?.(name)
    return bundle ? answer(request, 'bundle', bundle) : notFound()
  }

  const own = (kind: Kind) => (request: Request) => answerOwn(request, kind)
  const documents = new Map<string, (request: Request) => Promise<Response>>([
    ['/', own('bundle')],
    ['/bundle', own('bundle')],
    ['/keys', own('jwks')],
    ...(issuer === undefined ? [] : [['/.well-known/openid-configuration', own('discovery')] as const]),
  ])

  return async (request, pathname = new URL(request.url).pathname) => {
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    if (isRead && pathname === '/live') return new Response('ok\n')
    if (isRead && pathname === '/ready') {
      return (await options.bundle()) ? new Response('ok\n') : new Response('no bundle yet\n', { status: 503 })
    }
    const [, name] = BUNDLE_OF.exec(pathname) ?? []
    const document = name === undefined ? documents.get(pathname) : (read: Request) => answerOf(read, name)
    if (!document) return notFound()
    if (isRead) return document(request)
    if (request.method === 'OPTIONS') return new Response(null, { status: 204, headers: PREFLIGHT })
    return new Response('405 method not allowed\n', { status: 405, headers: { ...CORS, allow: 'GET, HEAD, OPTIONS' } })
  }
}

/** Names of trust domains need no escapes. */
const BUNDLE_OF = /^\/bundle\/([a-z0-9._-]{1,255})$/

function notFound(): Response {
  return new Response('404 page not found\n', { status: 404, headers: CORS })
}

/** Whether If-None-Match has our tag; it compares weakly. RFC 9110 13.1.2. */
function names(ifNoneMatch: string | null, etag: string): boolean {
  if (ifNoneMatch === null) return false
  return ifNoneMatch.trim() === '*' || ifNoneMatch.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag)
}

async function withTag(body: string): Promise<Document> {
  const digest = await sha256(utf8(body))
  return { body, etag: `"${base64Url(digest.subarray(0, 16))}"` }
}
