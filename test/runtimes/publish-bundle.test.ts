import { join, resolve } from 'node:path'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { unstable_startWorker } from 'wrangler'
import { bundleDocument } from '../../src/core/bundle-document.ts'
import { jwtSigner, signJwtSvid } from '../../src/core/jwt-svid.ts'
import { parseSpiffeId } from '../../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../../src/core/trust-domain.ts'
import { generateSigner } from '../../src/plugins/signer.ts'
import { selfSignCa } from '../../src/server/ca.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const ISSUER = 'https://oidc.example.org'
const trustDomain = parseTrustDomainName('example.org')
const signer = await generateSigner('ec-p256')
const key = jwtSigner(signer, 'key-1')
const now = Math.floor(Date.now() / 1000)
const ca = await selfSignCa({
  trustDomain,
  signer: await generateSigner('ec-p384'),
  subject: { organization: ['SPIFFE'] },
  notAfter: now + 3600,
  now,
  random: (bytes) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>),
})
const document = bundleDocument(
  {
    trustDomain,
    x509Authorities: [{ der: ca.certificate.der, tainted: false }],
    jwtAuthorities: [{ keyId: 'key-1', publicKey: signer.publicKey, expiresAt: 0, tainted: false }],
    witAuthorities: [],
    refreshHintSeconds: 0,
    sequenceNumber: 7,
  },
  300,
)

let worker: Awaited<ReturnType<typeof unstable_startWorker>>
let url: URL

beforeAll(async () => {
  worker = await unstable_startWorker({
    config: join(ROOT, 'workers/publish-bundle.toml'),
    bindings: {
      BUNDLE: { type: 'plain_text', value: document },
      ISSUER: { type: 'plain_text', value: ISSUER },
    },
    dev: { server: { hostname: '127.0.0.1', port: 0 }, inspector: false, logLevel: 'error', watch: false },
  })
  url = await worker.url
}, 60_000)

afterAll(() => worker?.dispose())

test('workerd serves the bundle document that Node wrote, byte for byte', async () => {
  const response = await fetch(new URL('/', url))
  expect(response.status).toBe(200)
  expect(await response.text()).toBe(document)
  expect(response.headers.get('cache-control')).toBe('public, max-age=60')
  expect(response.headers.get('access-control-allow-origin')).toBe('*')
})

test('a document that did not change costs a 304', async () => {
  const first = await fetch(new URL('/keys', url))
  const etag = first.headers.get('etag')!
  expect(etag).toMatch(/^"[\w-]{22}"$/)
  const again = await fetch(new URL('/keys', url), { headers: { 'if-none-match': etag } })
  expect(again.status).toBe(304)
})

test('jose verifies a JWT-SVID with the keys that workerd serves', async () => {
  const sub = parseSpiffeId('spiffe://example.org/web')
  const token = await signJwtSvid({ aud: ['db'], exp: now + 60, iat: now, sub }, key)
  const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL('/keys', url)), { audience: 'db' })
  expect(payload.sub).toBe(sub)
})

test('discovery names the issuer and its keys', async () => {
  const discovery = (await (await fetch(new URL('/.well-known/openid-configuration', url))).json()) as Record<
    string,
    unknown
  >
  expect(discovery).toMatchObject({ issuer: ISSUER, jwks_uri: `${ISSUER}/keys` })
})

test.each([
  ['GET', '/nothing', 404],
  ['POST', '/keys', 405],
  ['HEAD', '/', 200],
  ['GET', '/ready', 200],
])('%s %s is answered with %i', async (method, path, status) => {
  expect((await fetch(new URL(path, url), { method })).status).toBe(status)
})
