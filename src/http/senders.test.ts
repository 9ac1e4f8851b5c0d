import fc from 'fast-check'
import { expect, test } from 'vitest'
import { rejection } from '../../test/support/server.ts'
import { StatusError } from '../core/error.ts'
import type { TokenIssuer } from '../core/exchange.ts'
import { jwkOf, jwkThumbprint } from '../core/jwk.ts'
import { adminsOf } from '../plugins/oidc/admins.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { type HttpMessage, signWith } from '../transport/message-signature.ts'
import { operatorCredential } from '../transport/operator-signature.ts'
import { sendersOf } from './senders.ts'

const AT = 1_800_000_000
const AUDIENCE = 'https://server.example.org'
const NONCE = 'n'.repeat(22)
const signer = await generateSigner('ec-p256')
const thumbprint = await jwkThumbprint(signer.publicKey)
const trust = { verifyPeer: async () => Promise.reject(new StatusError('UNAUTHENTICATED', 'no')) } as never
const options = { trust, audiences: [AUDIENCE], verify: nodeVerifier(), clock: { nowMs: () => AT * 1000 } }
const whoSent = sendersOf({ ...options, operatorKeys: ['x'.repeat(43), thumbprint] })
/** As the handler does it: by the head, then the body. */
const senders = async (request: HttpMessage, address: string) => {
  const { checkBody, ...sender } = await whoSent(request, address)
  await checkBody?.(request.body)
  return sender
}

function message(headers: Record<string, string> = {}): HttpMessage {
  return {
    method: 'POST',
    target: '/spire.api.server.entry.v1.Entry/CountEntries',
    host: 'server.example.org',
    headers: new Headers({ 'content-type': 'application/proto', ...headers }),
    body: new TextEncoder().encode('body'),
  }
}

async function signed(terms: { audience?: string; now?: number } = {}, by = signer): Promise<HttpMessage> {
  const request = message()
  const headers = await signWith(request, operatorCredential(by), {
    audience: AUDIENCE,
    now: AT,
    nonce: NONCE,
    ...terms,
  })
  for (const [name, value] of Object.entries(headers)) request.headers.set(name, value)
  return request
}

test('who signs with the key of an operator is one, by the name of its thumbprint', async () => {
  expect(await senders(await signed(), '192.0.2.1')).toEqual({
    peer: { via: 'operator', address: '192.0.2.1', name: thumbprint, proof: 'operator_key' },
    signed: true,
  })
})

test('an RSA key of an operator works as well', async () => {
  const rsa = await generateSigner('rsa-2048')
  const own = sendersOf({ ...options, operatorKeys: [await jwkThumbprint(rsa.publicKey)] })
  expect(await own(await signed({}, rsa), '')).toMatchObject({ peer: { via: 'operator' } })
})

test('who shows nothing is nobody', async () => {
  expect(await senders(message(), '192.0.2.1')).toEqual({
    peer: { via: 'anonymous', address: '192.0.2.1' },
    signed: false,
  })
  // Added by a front to all requests; nobody configured that it means anything.
  expect((await senders(message({ 'cf-access-jwt-assertion': 'a.b.c' }), '')).peer.via).toBe('anonymous')
})

const header = (request: HttpMessage, name: string, change: (value: string) => string) => {
  request.headers.set(name, change(request.headers.get(name)!))
  return request
}
const otherKey = await generateSigner('ec-p256')

test.each<[string, () => Promise<HttpMessage> | HttpMessage, string]>([
  ['the key of a stranger', () => signed({}, otherKey), 'no operator of this server'],
  ['the audience of another server', () => signed({ audience: 'https://other.example.org' }), 'audience'],
  ['a signature of an hour ago', () => signed({ now: AT - 3600 }), `the server's time is ${AT}`],
  ['a signature of tomorrow', () => signed({ now: AT + 86400 }), `the server's time is ${AT}`],
  ['another body', async () => ({ ...(await signed()), body: new TextEncoder().encode('BODY') }), 'content digest'],
  [
    'another method of the API',
    async () => ({ ...(await signed()), target: '/spire.api.server.agent.v1.Agent/BanAgent' }),
    'does not verify',
  ],
  ['another HTTP method', async () => ({ ...(await signed()), method: 'PUT' }), 'does not verify'],
  ['a query', async () => ({ ...(await signed()), target: `${message().target}?x` }), 'does not verify'],
  [
    'another content type',
    async () => header(await signed(), 'content-type', () => 'application/json'),
    'does not verify',
  ],
  [
    'the key of somebody who is known under the signature of another',
    async () => {
      const request = await signed({}, otherKey)
      request.headers.set('operator-key', (await signed()).headers.get('operator-key')!)
      return request
    },
    'does not verify',
  ],
  [
    'a header that the signature leaves out',
    async () => header(await signed(), 'signature-input', (text) => text.replace(' "content-digest"', '')),
    'does not cover "content-digest"',
  ],
  [
    'a parameter twice',
    async () => header(await signed(), 'signature-input', (text) => `${text};tag="turret-operator-key"`),
    'repeats a parameter',
  ],
  [
    'a signature that names its algorithm',
    async () => header(await signed(), 'signature-input', (text) => `${text};alg="ecdsa-p256-sha256"`),
    'must not name an algorithm',
  ],
  [
    'a lifetime of an hour',
    async () =>
      header(await signed(), 'signature-input', (text) => text.replace(/expires=\d+/, `expires=${AT + 3600}`)),
    'lives too long',
  ],
  [
    'no key',
    async () => {
      const request = await signed()
      request.headers.delete('operator-key')
      return request
    },
    'is not there',
  ],
  [
    'a key with a member twice',
    async () => {
      const jwk = JSON.stringify(jwkOf(signer.publicKey))
      const twice = Buffer.from(`${jwk.slice(0, -1)},"kty":"EC"}`).toString('base64url')
      const request = message()
      const credential = { ...operatorCredential(signer), headers: { 'operator-key': twice } }
      const headers = await signWith(request, credential, { audience: AUDIENCE, now: AT, nonce: NONCE })
      for (const [name, value] of Object.entries(headers)) request.headers.set(name, value)
      return request
    },
    'the operator key is malformed',
  ],
  ['half a signature', () => message({ signature: 'wimse=:AAAA:' }), 'not signed'],
  ['an SVID that is none', () => message({ 'client-cert': ':AAAA:' }), 'not signed'],
  ['a bearer token that nobody asked for', () => message({ authorization: 'Bearer a.b.c' }), 'takes no bearer tokens'],
  ['a password', () => message({ authorization: 'Basic eDp5' }), 'no bearer token'],
])('a request with %s is refused', async (_, make, reason) => {
  const outcome = await rejection(senders(await make(), ''))
  expect(outcome).toContain('UNAUTHENTICATED: ')
  expect(outcome).toContain(reason)
})

test('without configured keys nobody is an operator', async () => {
  expect(await rejection(sendersOf(options)(await signed(), ''))).toContain('no operator of this server')
})

test('nothing that somebody sends as signature, key or token ends in anything but a refusal', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('signature-input', 'signature', 'operator-key', 'authorization'),
      fc.string({ unit: fc.constantFrom(...'wimse=();" :,.Bearer0A@/-\\'), maxLength: 80 }),
      async (name, text) => {
        const request = await signed()
        request.headers.set(name, text)
        expect(await rejection(senders(request, ''))).toMatch(/^UNAUTHENTICATED: /)
      },
    ),
    { numRuns: 300 },
  )
})

const issuer: TokenIssuer = {
  issuer: 'https://idp.example.org',
  async verify(token, { audiences }) {
    if (!audiences.includes('admin')) throw new StatusError('UNAUTHENTICATED', 'the token is for another audience')
    const claims = JSON.parse(token) as Record<string, unknown>
    const named = (claims.aud ?? ['admin']) as readonly string[]
    return { subject: 'me', audiences: named, expiresAt: AT + 60, claims, publicKey: new Uint8Array() }
  },
}
const admins = adminsOf(
  [{ issuer, audience: 'admin', claims: { groups: ['ops', 'root'], email: ['me@example.org'] } }],
  () => issuer.issuer,
)

test.each([
  [{ groups: ['dev', 'ops'], email: 'me@example.org' }, 'OK'],
  [{ groups: 'root', email: 'me@example.org', email_verified: true }, 'OK'],
  [
    { groups: ['dev'], email: 'me@example.org' },
    'PERMISSION_DENIED: the token does not make its holder an administrator',
  ],
  [{ groups: ['ops'] }, 'PERMISSION_DENIED: the token does not make its holder an administrator'],
  [
    { groups: ['ops'], email: 'me@example.org', email_verified: false },
    'PERMISSION_DENIED: the token does not make its holder an administrator',
  ],
  ...['false', 'true', 0, 1, null, [true], {}].map((email_verified): [object, string] => [
    { groups: ['ops'], email: 'me@example.org', email_verified },
    'PERMISSION_DENIED: the token does not make its holder an administrator',
  ]),
  [{ groups: ['ops'], email: 'me@example.org', aud: ['admin', 'admin'] }, 'OK'],
  [
    { groups: ['ops'], email: 'me@example.org', aud: ['admin', 'wiki'] },
    'UNAUTHENTICATED: the token is for other audiences, too',
  ],
  [
    { groups: [['ops']], email: { toString: 1 } },
    'PERMISSION_DENIED: the token does not make its holder an administrator',
  ],
])('the claims %j make: %s', async (claims, outcome) => {
  expect(await rejection(admins(JSON.stringify(claims)))).toBe(outcome)
})

test('a token in either header makes an operator by issuer and subject, and binds nothing', async () => {
  const withTokens = sendersOf({ ...options, verifyOperatorToken: async (token) => `issuer ${token}` })
  for (const headers of [{ authorization: 'Bearer a.b.c' }, { 'cf-access-jwt-assertion': 'a.b.c' }]) {
    expect(await withTokens(message(headers as never), '192.0.2.1')).toEqual({
      peer: { via: 'operator', address: '192.0.2.1', name: 'issuer a.b.c', proof: 'oidc' },
      signed: false,
    })
  }
})

test.each([
  'Basic a.b.c',
  'x Bearer a.b.c',
  'Basic, Bearer a.b.c',
  'Bearer a.b.c d',
  'Bearer a.b.c, Bearer d.e.f',
  'Bearer  a.b.c',
  'Bearer',
  'Bearer \u00e9',
])('the authorization %j is no token, and none is looked for in it', async (authorization) => {
  const withTokens = sendersOf({ ...options, verifyOperatorToken: async () => 'somebody' })
  const refusal = 'UNAUTHENTICATED: the authorization header is no bearer token'
  expect(await rejection(withTokens(message({ authorization }), ''))).toBe(refusal)
})

test.each(['localhost', 'evil.example.org', undefined])(
  'a token that was sent to the host %s is refused before it is looked at',
  async (host) => {
    const withTokens = sendersOf({ ...options, verifyOperatorToken: () => Promise.reject(new Error('looked at')) })
    for (const headers of [{ authorization: 'Bearer a.b.c' }, { 'cf-access-jwt-assertion': 'a.b.c' }]) {
      const { host: _, ...request } = message(headers as never)
      const sent = withTokens(host === undefined ? request : { ...request, host }, '')
      expect(await rejection(sent)).toMatch(/^UNAUTHENTICATED: .* none of the audiences/)
    }
  },
)

test('who has a good token and is no administrator is nobody, and may do what anybody may', async () => {
  const refusing = (code: 'PERMISSION_DENIED' | 'UNAUTHENTICATED') =>
    sendersOf({ ...options, verifyOperatorToken: () => Promise.reject(new StatusError(code, 'no')) })
  const request = message({ authorization: 'Bearer a.b.c' })
  expect(await refusing('PERMISSION_DENIED')(request, '192.0.2.1')).toEqual({
    peer: { via: 'anonymous', address: '192.0.2.1' },
    signed: false,
    refusal: expect.objectContaining({ code: 'PERMISSION_DENIED', message: 'no' }),
  })
  expect(await rejection(refusing('UNAUTHENTICATED')(request, ''))).toBe('UNAUTHENTICATED: no')
})

test('a token that is older than a day makes no administrator, however long it lives', async () => {
  const seen: unknown[] = []
  const watching: TokenIssuer = {
    issuer: issuer.issuer,
    verify: async (_, check) => {
      seen.push(check.maxAgeSeconds)
      throw new StatusError('UNAUTHENTICATED', 'the token is too old')
    },
  }
  const one = adminsOf([{ issuer: watching, audience: 'admin', claims: { groups: ['ops'] } }], () => issuer.issuer)
  expect(await rejection(one('x'))).toBe('UNAUTHENTICATED: the token is too old')
  expect(seen).toEqual([24 * 3600])
})
