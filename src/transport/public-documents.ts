import { Hono } from 'hono'
import { base64Url } from '../core/base64.ts'
import type { Bundle } from '../core/bundle.ts'
import { bundleDocument } from '../core/bundle-document.ts'
import { utf8 } from '../core/der.ts'
import { oidcDiscovery, oidcJwks } from '../core/oidc-document.ts'

export interface PublicDocumentOptions {
  /** The bundle to publish; the same object as long as it does not change. undefined: there is none yet. */
  readonly bundle: () => Promise<Bundle | undefined> | Bundle | undefined
  /** Seconds after which readers should look again; the documents may be cached for a fifth of it. */
  readonly refreshHintSeconds: number
  /** `https://...` of this publisher as tokens name it; undefined: no OIDC discovery. */
  readonly issuer: string | undefined
}

interface Document {
  readonly body: string
  readonly etag: string
}

type Kind = 'bundle' | 'jwks' | 'discovery'

/**
 * The documents that anybody may read, as a fetch handler: `/` and `/bundle` (SPIFFE bundle), `/keys` (JWKS),
 * `/.well-known/openid-configuration`, `/live` and `/ready`. Strong ETags, 304, CORS; each is made once per version of the bundle.
 * @see SPIFFE Federation 5, OpenID Connect Discovery 1.0
 */
export function publicDocuments(options: PublicDocumentOptions): Hono {
  const { issuer, refreshHintSeconds } = options
  const made = new WeakMap<Bundle, Map<Kind, Promise<Document>>>()
  const cacheControl = `public, max-age=${Math.max(1, Math.floor(refreshHintSeconds / 5))}`

  const write: Record<Kind, (bundle: Bundle) => string> = {
    bundle: (bundle) => bundleDocument(bundle, refreshHintSeconds),
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

  async function answer(request: Request, kind: Kind): Promise<Response> {
    const bundle = await options.bundle()
    if (!bundle) return new Response('document not available\n', { status: 503, headers: { 'retry-after': '1' } })
    const { body, etag } = await documentOf(bundle, kind)
    const headers = {
      etag,
      'cache-control': cacheControl,
      'access-control-allow-origin': '*',
      'content-type': 'application/json',
    }
    const wanted = request.headers.get('if-none-match')
    if (
      wanted !== null &&
      (wanted === '*' || wanted.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag))
    ) {
      return new Response(null, { status: 304, headers })
    }
    return new Response(request.method === 'HEAD' ? null : body, { headers })
  }

  const app = new Hono()
  const paths: [string, Kind][] = [
    ['/', 'bundle'],
    ['/bundle', 'bundle'],
    ['/keys', 'jwks'],
    ...(issuer === undefined ? [] : ([['/.well-known/openid-configuration', 'discovery']] as [string, Kind][])),
  ]
  for (const [path, kind] of paths) {
    app.get(path, (context) => answer(context.req.raw, kind))
    app.all(path, () => new Response('405 method not allowed\n', { status: 405, headers: { allow: 'GET, HEAD' } }))
  }
  app.get('/live', () => new Response('ok\n'))
  app.get('/ready', async () =>
    (await options.bundle()) ? new Response('ok\n') : new Response('no bundle yet\n', { status: 503 }),
  )
  app.notFound(() => new Response('404 page not found\n', { status: 404 }))
  return app
}

async function withTag(body: string): Promise<Document> {
  const digest = await crypto.subtle.digest('SHA-256', utf8(body) as BufferSource)
  return { body, etag: `"${base64Url(new Uint8Array(digest).subarray(0, 16))}"` }
}
