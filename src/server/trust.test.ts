import { beforeEach, expect, test } from 'vitest'
import { rejection, TD, testServer } from '../../test/support/server.ts'
import { AT, makeCertificate } from '../../test/support/x509.ts'
import type { JwtAuthority } from '../core/bundle.ts'
import { equalBytes } from '../core/der.ts'
import { jwtSigner } from '../core/jwt-svid.ts'
import { parseSpiffeId, spiffeId } from '../core/spiffe-id.ts'
import { parseTrustDomain } from '../core/trust-domain.ts'
import { parseWitKey, signWitSvid, witKeyOf } from '../core/wit-svid.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { trustOf } from './trust.ts'

const OTHER = parseTrustDomain('other.org')
const adminElsewhere = spiffeId(OTHER, '/admin')
const times = { notBefore: AT - 60, notAfter: AT + 3600 }
const root = await makeCertificate({ name: 'root', ca: true, uris: ['spiffe://example.org'], ...times })
const between = await makeCertificate(
  { name: 'between', ca: true, uris: ['spiffe://example.org'], ...times, notAfter: AT + 600 },
  root,
)
const leaf = await makeCertificate({ name: 'x', uris: ['spiffe://example.org/x'], ...times }, between)
const chain = [leaf.der, between.der]

const server = await testServer()
const original = nodeVerifier()
let signatures = 0
const trust = trustOf({
  store: server.store,
  bundle: server.deps.bundle,
  adminIds: new Set([adminElsewhere]),
  verify: (...input) => {
    signatures++
    return original(...input)
  },
  clock: server.clock,
})

beforeEach(async () => {
  server.clock.ms = AT * 1000
  await server.store.bundles.append({ trustDomain: TD, x509Authorities: [{ der: root.der, tainted: false }] })
  signatures = 0
})

test('a chain is walked once for as long as its bundle stays', async () => {
  const first = await trust.verifyPeer(chain)
  expect(first.spiffeId).toBe('spiffe://example.org/x')
  expect(signatures).toBe(2)
  expect(await trust.verifyPeer(chain.map((der) => der.slice()))).toEqual(first)
  expect(signatures).toBe(2)
})

test('a chain that is known is refused once one of its certificates ended', async () => {
  await trust.verifyPeer(chain)
  server.clock.ms = (AT + 601) * 1000
  expect(await rejection(trust.verifyPeer(chain))).toMatch(/^UNAUTHENTICATED: x509: certificate has expired/)
})

test('a chain that is known is refused once its root left the bundle', async () => {
  await trust.verifyPeer(chain)
  await server.store.bundles.change(TD, (bundle) => ({
    ...bundle,
    x509Authorities: bundle.x509Authorities.filter(({ der }) => !equalBytes(der, root.der)),
  }))
  expect(await rejection(trust.verifyPeer(chain))).toMatch(/^UNAUTHENTICATED: /)
})

test('a leaf that is known does not vouch for another chain, nor a changed leaf for itself', async () => {
  await trust.verifyPeer(chain)
  expect(await rejection(trust.verifyPeer([leaf.der]))).toMatch(/^UNAUTHENTICATED: .*unknown authority/)
  const changed = leaf.der.slice()
  // One byte of the serial number: the end of the certificate, its signature, is as it was.
  const at = changed.findIndex((byte, index) => index > 8 && byte === 2) + 3
  changed[at]! ^= 1
  expect(await rejection(trust.verifyPeer([changed, between.der]))).toMatch(/^(UNAUTHENTICATED|INVALID_ARGUMENT): /)
})

test('a chain that was refused is looked at again', async () => {
  const foreign = await makeCertificate({ name: 'x', uris: ['spiffe://example.org/x'], ...times })
  for (const _ of [1, 2]) expect(await rejection(trust.verifyPeer([foreign.der]))).toMatch(/^UNAUTHENTICATED: /)
})

const authority = await generateSigner('ec-p256')
const workload = await generateSigner('ec-p256')
const witOf = (id: string, keyId: string) =>
  signWitSvid(
    {
      jwk: witKeyOf(parseWitKey(workload.publicKey), 'ES256'),
      exp: AT + 300,
      iat: AT,
      sub: parseSpiffeId(id),
    },
    jwtSigner(authority, keyId, 'wit+jwt'),
  )
const witKey = (keyId: string): JwtAuthority => ({
  keyId,
  publicKey: authority.publicKey,
  expiresAt: AT + 3600,
  tainted: false,
})

test.each<[string, string, string]>([
  ['spiffe://example.org/x', 'here', 'OK'],
  ['spiffe://example.org/x', 'there', 'INVALID_ARGUMENT: public key "there" not found in trust domain "example.org"'],
  ['spiffe://other.org/admin', 'there', 'OK'],
  ['spiffe://other.org/x', 'there', 'INVALID_ARGUMENT: unexpected trust domain in ID "spiffe://other.org/x"'],
  ['spiffe://nowhere.org/x', 'here', 'INVALID_ARGUMENT: no keys found for trust domain "nowhere.org"'],
])('a WIT-SVID of %s by the key %s: %s', async (id, keyId, outcome) => {
  await server.store.bundles.append({ trustDomain: TD, witAuthorities: [witKey('here')] })
  await server.store.bundles.append({ trustDomain: OTHER, witAuthorities: [witKey('there')] })
  expect(await rejection(trust.verifyWit(await witOf(id, keyId)))).toBe(outcome)
})

test('a WIT-SVID by a tainted key is refused', async () => {
  await server.store.bundles.append({ trustDomain: TD, witAuthorities: [witKey('tainted')] })
  const token = await witOf('spiffe://example.org/x', 'tainted')
  expect(await rejection(trust.verifyWit(token))).toBe('OK')
  await server.store.bundles.change(TD, (bundle) => ({
    ...bundle,
    witAuthorities: bundle.witAuthorities.map((key) => ({ ...key, tainted: true })),
  }))
  expect(await rejection(trust.verifyWit(token))).toMatch(/^INVALID_ARGUMENT: public key "tainted" not found/)
})

test('a token that is none is an invalid argument', async () => {
  for (const token of ['', 'a.b.c', 'e30.e30.e30']) {
    expect(await rejection(trust.verifyWit(token))).toMatch(/^INVALID_ARGUMENT: /)
  }
})

test('a chain of another trust domain is verified with its bundle, and lets nobody in who is no admin', async () => {
  const otherRoot = await makeCertificate({ name: 'other', ca: true, ...times })
  const of = async (id: string, issuer = otherRoot) => [
    (await makeCertificate({ name: 'o', uris: [id], ...times }, issuer)).der,
  ]
  const workload = await of('spiffe://other.org/x')
  const unknown = 'UNAUTHENTICATED: could not get X509 bundle: no X.509 bundle for trust domain "other.org"'
  expect(await rejection(trust.verifySvid(workload))).toBe(unknown)
  expect(await trust.roots(OTHER)).toEqual([])
  await server.store.bundles.append({ trustDomain: OTHER, x509Authorities: [{ der: otherRoot.der, tainted: false }] })
  expect(await rejection(trust.verifySvid(workload))).toBe('OK')
  expect(await rejection(trust.verifyPeer(workload))).toBe(
    'UNAUTHENTICATED: unexpected trust domain in ID "spiffe://other.org/x"',
  )
  expect((await trust.verifyPeer(await of(adminElsewhere))).spiffeId).toBe(adminElsewhere)
  // The root of one trust domain says nothing about another.
  for (const chain of [await of('spiffe://example.org/x'), await of('spiffe://other.org/x', root)])
    expect(await rejection(trust.verifySvid(chain))).toMatch(/^UNAUTHENTICATED: .*unknown authority/)
  // Chains of others are not kept, since nothing here tells when their bundle changes.
  signatures = 0
  await trust.verifySvid(workload)
  await trust.verifySvid(workload)
  expect(signatures).toBe(2)
})

test('a bundle without roots is as good as none', async () => {
  const empty = parseTrustDomain('empty.org')
  await server.store.bundles.append({ trustDomain: empty, witAuthorities: [witKey('e')] })
  const { der } = await makeCertificate({ name: 'x', uris: ['spiffe://empty.org/x'], ...times }, root)
  expect(await rejection(trust.verifySvid([der]))).toBe(
    'UNAUTHENTICATED: could not get X509 bundle: no X.509 bundle for trust domain "empty.org"',
  )
})

test('a chain with no certificate or no ID is refused', async () => {
  const plain = await makeCertificate({ name: 'plain', ...times }, root)
  const two = await makeCertificate(
    { name: 'two', uris: ['spiffe://example.org/x', 'spiffe://example.org/y'], ...times },
    root,
  )
  for (const chain of [[], [plain.der], [two.der], [Uint8Array.of(1)]])
    expect(await rejection(trust.verifyPeer(chain))).toMatch(/^(UNAUTHENTICATED|INVALID_ARGUMENT): /)
})
