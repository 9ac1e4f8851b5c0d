import { expect, test } from 'vitest'
import { TD, testServer } from '../../test/support/server.ts'
import type { Bundle } from '../core/bundle.ts'
import { parseTrustDomain } from '../core/trust-domain.ts'
import { publicDocuments } from './public-documents.ts'

const ISSUER = 'https://oidc.example.org'
const own = (await (await testServer()).store.bundles.get(TD))!
const other: Bundle = {
  ...own,
  trustDomain: parseTrustDomain('other.org'),
  refreshHintSeconds: 1000,
  sequenceNumber: 9,
}
let current: Bundle | undefined = own
const app = publicDocuments({
  bundle: () => current,
  bundleOf: (name) => [own, other].find((bundle) => bundle.trustDomain === name),
  refreshHintSeconds: 300,
  issuer: ISSUER,
})
const ask = (path: string, init?: RequestInit) => app(new Request(`http://server${path}`, init))

test.each([
  ['/', 60],
  ['/bundle', 60],
  ['/bundle/example.org', 60],
  ['/bundle/other.org', 200],
  ['/keys', 60],
  ['/.well-known/openid-configuration', 60],
])('%s is a document that may be cached for %i s', async (path, seconds) => {
  const response = await ask(path)
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toBe('application/json')
  expect(response.headers.get('cache-control')).toBe(`public, max-age=${seconds}`)
  expect(response.headers.get('access-control-allow-origin')).toBe('*')
  const etag = response.headers.get('etag')!
  expect(etag).toMatch(/^"[\w-]{22}"$/)
  JSON.parse(await response.text())

  for (const tag of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
    const again = await ask(path, { headers: { 'if-none-match': tag } })
    expect([again.status, await again.text(), again.headers.get('etag')]).toEqual([304, '', etag])
  }
  expect((await ask(path, { headers: { 'if-none-match': '"x"' } })).status).toBe(200)

  const head = await ask(path, { method: 'HEAD' })
  expect([head.status, await head.text(), head.headers.get('etag')]).toEqual([200, '', etag])

  const preflight = await ask(path, {
    method: 'OPTIONS',
    headers: { origin: 'https://page.example', 'access-control-request-method': 'GET' },
  })
  expect(preflight.status).toBe(204)
  expect(preflight.headers.get('access-control-allow-headers')).toBe('if-none-match')
  for (const method of ['POST', 'PUT', 'DELETE']) {
    const refused = await ask(path, { method })
    expect([refused.status, refused.headers.get('allow')]).toEqual([405, 'GET, HEAD, OPTIONS'])
  }
})

test('a bundle document states its sequence number and when to look again', async () => {
  expect(await (await ask('/bundle/other.org')).json()).toMatchObject({ spiffe_sequence: 9, spiffe_refresh_hint: 1000 })
  expect(await (await ask('/bundle')).json()).toMatchObject({ spiffe_refresh_hint: 300 })
})

test.each(['/bundle/unknown.org', '/bundle/OTHER.org', '/bundle/', '/bundle/other.org/x', '/bundle/__proto__', '/x'])(
  '%s is not found',
  async (path) => {
    expect((await ask(path)).status).toBe(404)
  },
)

test('a changed bundle has another tag, and the old one again its old tag', async () => {
  const before = (await ask('/keys')).headers.get('etag')
  const key = { keyId: 'new', publicKey: own.jwtAuthorities[0]?.publicKey ?? newKey, expiresAt: 0, tainted: false }
  current = { ...own, jwtAuthorities: [...own.jwtAuthorities, key] }
  expect((await ask('/keys')).headers.get('etag')).not.toBe(before)
  current = { ...own }
  expect((await ask('/keys')).headers.get('etag')).toBe(before)
})

test('without a bundle it lives but is not ready', async () => {
  current = undefined
  expect((await ask('/live')).status).toBe(200)
  expect((await ask('/ready')).status).toBe(503)
  expect((await ask('/bundle')).status).toBe(503)
  current = own
  expect((await ask('/ready')).status).toBe(200)
})

const { publicKey } = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign'])
const newKey = new Uint8Array(await crypto.subtle.exportKey('spki', publicKey))
