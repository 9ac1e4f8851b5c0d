import fc from 'fast-check'
import { expect, test } from 'vitest'
import { rejection } from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { base64 } from '../core/base64.ts'
import type { JwtAuthority } from '../core/bundle.ts'
import { StatusError } from '../core/error.ts'
import { jwtSigner } from '../core/jwt-svid.ts'
import type { KeyType, Signer } from '../core/key-type.ts'
import { parseSpiffeId } from '../core/spiffe-id.ts'
import { parseWitKey, signWitSvid, validateWitSvid, witKeyOf } from '../core/wit-svid.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import {
  type HttpMessage,
  isClockSkew,
  parseSignatureInput,
  quoted,
  requestBase,
  type SigningTerms,
  signWith,
} from './message-signature.ts'
import { checkWitBody, isWitRequest, verifyWitRequest, witCredential } from './wit-signature.ts'

const AUDIENCE = 'https://id.example.org'
const TARGET = '/spire.api.server.entry.v1.Entry/CountEntries'
const authority = await generateSigner('ec-p256')
const known: JwtAuthority = { keyId: 'wit-1', publicKey: authority.publicKey, expiresAt: 0, tainted: false }
const workload = await generateSigner('ec-p256')
const verify = nodeVerifier()
const check = {
  audiences: [AUDIENCE],
  now: AT,
  verify,
  verifyWit: (token: string) => validateWitSvid({ token, authoritiesOf: () => [known], at: AT, verify }),
}

async function wit(changes: { alg?: string; exp?: number; by?: Signer; key?: Signer; type?: 'JWT' } = {}) {
  const jwk = witKeyOf(parseWitKey((changes.key ?? workload).publicKey), changes.alg ?? 'ES256')
  const sub = parseSpiffeId('spiffe://example.org/admin')
  const key = jwtSigner(changes.by ?? authority, 'wit-1', changes.type ?? 'wit+jwt')
  return signWitSvid({ jwk, exp: changes.exp ?? AT + 3600, iat: AT, sub }, key)
}
const token = await wit()

function message(changes: Partial<HttpMessage> = {}, headers: Record<string, string> = {}): HttpMessage {
  return {
    method: 'POST',
    target: TARGET,
    headers: new Headers({ 'content-type': 'application/proto', ...headers }),
    body: new TextEncoder().encode('body'),
    ...changes,
  }
}

async function signed(terms: Partial<SigningTerms> = {}, { by = workload, shows = token, request = message() } = {}) {
  const headers = await signWith(request, witCredential(shows, by), {
    audience: AUDIENCE,
    now: AT,
    nonce: 'abcd1111',
    ...terms,
  })
  for (const [name, value] of Object.entries(headers)) request.headers.set(name, value)
  return request
}

/** Signs what it says, whatever that is: as foreign clients may do it. */
async function signedAs(components: string, request: HttpMessage): Promise<HttpMessage> {
  request.headers.set('workload-identity-token', token)
  const params = `(${components});created=${AT};expires=${AT + 300};nonce="bm9uY2U=";tag="wimse-workload-to-workload";wimse-aud="${AUDIENCE}${TARGET}"`
  const base = requestBase(components.split(' '), params, request, (name) => request.headers.get(name) ?? undefined)
  request.headers.set('signature-input', `wimse=${params}`)
  request.headers.set('signature', `wimse=:${base64(await workload.sign(base))}:`)
  return request
}

test.each<[KeyType, string]>([
  ['ec-p256', 'ES256'],
  ['ec-p384', 'ES384'],
  ['rsa-2048', 'RS256'],
])('the holder of a WIT-SVID with a %s key and %s is who the token says', async (keyType, alg) => {
  const key = await generateSigner(keyType)
  const request = await signed({}, { by: key, shows: await wit({ key, alg }) })
  expect((await verifyWitRequest(request, check)).spiffeId).toBe('spiffe://example.org/admin')
})

// Section 3.4 of draft-ietf-wimse-http-signature-03: the signed request.
test('the signature of the draft verifies over our signature base', async () => {
  const headers = new Headers({
    signature: 'wimse=:6QjBIpZW1lUZ64dQTOs4oiMBp4wH1Xzjo/iGa1XtrT9BGG2a0pMQXddNQ3M2wHE9q+FnxnL86HPtYVQ2fYTTDg==:',
    'signature-input':
      'wimse=("@method" "@request-target" "workload-identity-token");created=1774809014;expires=1774809314;nonce="abcd1111";tag="wimse-workload-to-workload";wimse-aud="https://svcb.example.com/gimme-ice-cream"',
    'workload-identity-token':
      'eyJhbGciOiJFZERTQSIsImtpZCI6Imlzc3Vlci1rZXkiLCJ0eXAiOiJ3aXQrand0In0.eyJjbmYiOnsiandrIjp7ImFsZyI6IkVkRFNBIiwiY3J2IjoiRWQyNTUxOSIsImtpZCI6InN2Yy1hLWtleSIsImt0eSI6Ik9LUCIsIngiOiJDU3NlcFh5V2VhNW0tbk5UZmpuSGFSZkxvZHBZMWdQU1B0YWkxeEotcUowIn19LCJleHAiOjE3NzQ4MDkzMTQsImlhdCI6MTc3NDgwOTAxNCwiaXNzIjoiaHR0cHM6Ly9leGFtcGxlLmNvbS9pc3N1ZXIiLCJqdGkiOiJ3aXQtMTc3NDgwOTAxNDA4OTM3MjAwMCIsInN1YiI6IndpbXNlOi8vZXhhbXBsZS5jb20vc3ZjQSJ9.UwMa_iVUp-0lbNLjWZMItulNEzFlfx_jCCsWdd-7Cx8fN87ldxamCiESXSMR2u1H17OInKBULCNLZjkfZdSiBw',
  })
  const { components, params } = parseSignatureInput(headers.get('signature-input'), 'wimse-workload-to-workload')
  const request = { method: 'GET', target: '/gimme-ice-cream?flavor=vanilla' }
  const base = requestBase(quoted(components), params, request, (name) => headers.get(name) ?? undefined)
  const { subtle } = crypto
  const key = await subtle.importKey(
    'jwk',
    { kty: 'OKP', crv: 'Ed25519', x: 'CSsepXyWea5m-nNTfjnHaRfLodpY1gPSPtai1xJ-qJ0' },
    'Ed25519',
    true,
    ['verify'],
  )
  const signature = Buffer.from(headers.get('signature')!.slice(7, -1), 'base64')
  expect(await subtle.verify('Ed25519', key, signature, base as BufferSource)).toBe(true)
})

test.each<[string, () => Promise<HttpMessage>]>([
  [
    'the URL as audience, its own order, one more header',
    async () => {
      const request = message({}, { 'x-trace': '1', 'content-digest': (await signed()).headers.get('content-digest')! })
      const covered = '"workload-identity-token" "x-trace" "content-digest" "content-type" "@request-target" "@method"'
      return signedAs(covered, request)
    },
  ],
  [
    'no body and no digest',
    () =>
      signedAs(
        '"@method" "@request-target" "content-type" "workload-identity-token"',
        message({ body: new Uint8Array(0) }),
      ),
  ],
  [
    'a SHA-512 digest',
    async () => {
      const request = message()
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-512', request.body as BufferSource))
      request.headers.set('content-digest', `sha-512=:${base64(digest)}:`)
      return signedAs('"@method" "@request-target" "content-type" "content-digest" "workload-identity-token"', request)
    },
  ],
  [
    'a transaction token that it covers',
    async () => {
      const request = message({ body: new Uint8Array(0) }, { 'txn-token': 'x' })
      return signedAs('"@method" "@request-target" "content-type" "txn-token" "workload-identity-token"', request)
    },
  ],
])('a request of a foreign client with %s is taken', async (_, make) => {
  expect((await verifyWitRequest(await make(), check)).spiffeId).toBe('spiffe://example.org/admin')
})

const stranger = await generateSigner('ec-p256')
const changed = async (name: string, change: (value: string) => string) => {
  const request = await signed()
  request.headers.set(name, change(request.headers.get(name)!))
  return request
}

test.each<[string, () => Promise<HttpMessage> | HttpMessage, string]>([
  ['no signature', () => message({}, { 'workload-identity-token': token }), 'not signed'],
  ['a stolen token and another key', () => signed({}, { by: stranger }), 'does not verify'],
  [
    'a key that does not sign as the token says',
    async () => {
      const key = await generateSigner('rsa-2048')
      return signed({}, { by: key, shows: await wit({ key, alg: 'PS256' }) })
    },
    'does not verify',
  ],
  ['a token of another authority', async () => signed({}, { shows: await wit({ by: stranger }) }), 'invalid signature'],
  ['a JWT-SVID', async () => signed({}, { shows: await wit({ type: 'JWT' }) }), 'token type is not "wit+jwt"'],
  ['a token that ended', async () => signed({}, { shows: await wit({ exp: AT }) }), 'token has expired'],
  ['a token that is none', () => signed({}, { shows: 'a.b.c' }), 'unable to parse JWT token'],
  ['a token of a megabyte', () => signed({}, { shows: 'a'.repeat(1 << 20) }), 'missing or too long'],
  [
    'somebody else as its subject',
    async () => {
      const request = await signed()
      request.headers.set('workload-identity-token', await wit({ exp: AT + 60 }))
      return request
    },
    'does not verify',
  ],
  ['another audience', () => signed({ audience: 'https://other.example.org' }), 'audience'],
  ['the URL of another method as audience', () => signed({ audience: `${AUDIENCE}/other` }), 'audience'],
  ['a signature of the past', () => signed({ now: AT - 91 }), `the server's time is ${AT}`],
  ['a signature of the future', () => signed({ now: AT + 31 }), `the server's time is ${AT}`],
  [
    'more than five minutes to live',
    () => changed('signature-input', (text) => text.replace(/expires=\d+/, `expires=${AT + 301}`)),
    'lives too long',
  ],
  ['no nonce', () => changed('signature-input', (text) => text.replace(/;nonce="[^"]*"/, '')), 'has no nonce'],
  ['no audience', () => changed('signature-input', (text) => text.replace(/;wimse-aud="[^"]*"/, '')), 'no wimse-aud'],
  ['a key id', () => changed('signature-input', (text) => `${text};keyid="x"`), 'must not name'],
  ['an algorithm', () => changed('signature-input', (text) => `${text};alg="ed25519"`), 'must not name'],
  ['the tag of another profile', () => changed('signature-input', (text) => text.replace('wimse-w', 'w')), 'profile'],
  ['another body', async () => ({ ...(await signed()), body: new TextEncoder().encode('BODY') }), 'content digest'],
  [
    'no digest',
    () => signedAs('"@method" "@request-target" "content-type" "workload-identity-token"', message()),
    'digest',
  ],
  ['another path', async () => ({ ...(await signed()), target: `${TARGET}2` }), 'does not verify'],
  ['a query', async () => ({ ...(await signed()), target: `${TARGET}?x` }), 'does not verify'],
  ['another method', async () => ({ ...(await signed()), method: 'PUT' }), 'does not verify'],
  [
    'a token that it does not cover',
    () => signedAs('"@method" "@request-target" "content-type"', message({ body: new Uint8Array(0) })),
    'does not cover "workload-identity-token"',
  ],
  [
    'a password that it does not cover',
    async () => {
      const request = await signed()
      request.headers.set('authorization', 'Basic eDp5')
      return request
    },
    'does not cover "authorization"',
  ],
  [
    'a derived component that nobody looks at',
    () => changed('signature-input', (text) => text.replace('"@method"', '"@method" "@authority"')),
    'does not know',
  ],
  ['a component twice', () => changed('signature-input', (text) => text.replace('(', '("@method" ')), 'repeats'],
  ['half a base64 group as signature', () => changed('signature', () => 'wimse=:A:'), 'malformed'],
])('a request with %s is refused with 400', async (_, make, reason) => {
  const request = await make()
  const outcome = await rejection(verifyWitRequest(request, check).then(() => checkWitBody(request)))
  expect(outcome).toMatch(/^INVALID_ARGUMENT: /)
  expect(outcome).toContain(reason)
})

test('a clock that is off is told the time', async () => {
  const error = await verifyWitRequest(await signed({ now: AT + 900 }), check).catch((reason) => reason)
  expect(error).toBeInstanceOf(StatusError)
  expect(isClockSkew(error)).toBe(true)
})

test('a request is of this profile by its tag, or by its token where nothing else is said', () => {
  const headers = new Headers({ 'workload-identity-token': token })
  expect(isWitRequest('wimse-workload-to-workload', new Headers())).toBe(true)
  expect(isWitRequest(undefined, headers)).toBe(true)
  expect(isWitRequest('spiffe-x509-svid', headers)).toBe(false)
})

test('nothing that somebody sends in these headers ends in anything but a refusal', async () => {
  const piece = fc.constantFrom(
    ...'wimse=();" :,.-@/\\=A'.split(''),
    '"@method"',
    ';req',
    'sha-256=:',
    token,
    '"authorization"',
  )
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('signature-input', 'signature', 'workload-identity-token', 'content-digest'),
      fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join('')),
      async (name, text) => {
        // Blanks around it are no part of a header's value.
        fc.pre(text.trim() !== token)
        const request = await signed()
        request.headers.set(name, text)
        expect(await rejection(verifyWitRequest(request, check))).toMatch(/^INVALID_ARGUMENT: /)
      },
    ),
    { numRuns: 300 },
  )
})
