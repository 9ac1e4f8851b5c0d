import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { rejection } from '../../../test/support/server.ts'
import type { TokenIssuer } from '../../core/exchange.ts'
import { type Log, silentLog } from '../../core/log.ts'
import { nodeVerifier } from '../signer.ts'
import { oidcIssuer } from './issuer.ts'

const AUDIENCE = 'turret'
const clock = { ms: 1_800_000_000_000, nowMs: () => clock.ms }
const now = () => clock.ms / 1000
const keys = {
  es: await generateKeyPair('ES256', { extractable: true }),
  rs: await generateKeyPair('RS256', { extractable: true }),
}
const jwk = async (name: keyof typeof keys, kid: string = name) => ({
  ...(await exportJWK(keys[name].publicKey)),
  kid,
  use: 'sig',
})

/** An issuer whose answers a test may change. */
let server: Server
let base: string
let asked: string[]
let answer: (request: IncomingMessage, response: ServerResponse) => boolean
beforeAll(async () => {
  const jwks = JSON.stringify({ keys: [await jwk('es'), await jwk('rs')] })
  server = createServer((request, response) => {
    asked.push(request.url!)
    if (answer(request, response)) return
    if (request.url === '/.well-known/openid-configuration') {
      response.end(JSON.stringify({ issuer: base, jwks_uri: `${base}/jwks` }))
    } else response.end(jwks)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
let issuer: TokenIssuer
let logged: string[]
const log: Log = { ...silentLog, error: (_, fields) => logged.push(String(fields?.error)) }
beforeEach(() => {
  asked = []
  answer = () => false
  logged = []
  issuer = oidcIssuer({ issuer: base, verify: nodeVerifier(), clock, log })
})

function token(claims: JWTPayload = {}, options: { kid?: string; typ?: string } = {}): Promise<string> {
  return new SignJWT({ iss: base, sub: 'me', aud: AUDIENCE, iat: now(), exp: now() + 300, ...claims })
    .setProtectedHeader({
      alg: 'ES256',
      kid: options.kid ?? 'es',
      ...(options.typ === undefined ? {} : { typ: options.typ }),
    })
    .sign(keys.es.privateKey)
}
const check = (text: string, more = {}) => issuer.verify(text, { audiences: [AUDIENCE], ...more })

test('a token of the issuer is good, and its keys are fetched once', async () => {
  expect(await check(await token({ email: 'a@b.org' }))).toMatchObject({
    subject: 'me',
    audiences: [AUDIENCE],
    claims: { email: 'a@b.org' },
  })
  await Promise.all([check(await token({}, { typ: 'JWT' })), check(await token({ aud: ['x', AUDIENCE] }))])
  expect(asked).toEqual(['/.well-known/openid-configuration', '/jwks'])
})

test('keys that an issuer publishes with a member twice are not taken', async () => {
  const key = JSON.stringify(await jwk('es'))
  answer = (request, response) => {
    if (request.url === '/jwks') response.end(`{"keys":[${key.slice(0, -1)},"kid":"es"}]}`)
    return request.url === '/jwks'
  }
  expect(await rejection(check(await token()))).toMatch(/^UNAVAILABLE: /)
  expect(logged).toEqual([expect.stringContaining('cannot be had: it is not JSON')])
})

const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

test.each<[string, () => Promise<string> | string, string]>([
  ['another issuer', () => token({ iss: 'https://evil.example' }), 'of another issuer'],
  ['a trailing slash more', () => token({ iss: `${base}/` }), 'of another issuer'],
  ['another audience', () => token({ aud: 'somebody' }), 'for another audience'],
  ['no audience', () => token({ aud: undefined }), 'for another audience'],
  ['an end in the past', () => token({ iat: now() - 600, exp: now() - 31 }), 'has expired'],
  ['no end', () => token({ exp: undefined }), 'has no end'],
  ['no beginning', () => token({ iat: undefined }), 'does not say when'],
  ['a beginning in the future', () => token({ iat: now() + 60 }), 'issued in the future'],
  ['a time from which it is good in the future', () => token({ nbf: now() + 60 }), 'not valid yet'],
  ['no subject', () => token({ sub: undefined }), 'no subject'],
  ['another type', () => token({}, { typ: 'at+jwt' }), 'of another type'],
  ['a key that there is not', () => token({}, { kid: 'nope' }), 'has no key "nope"'],
  ['the key of another algorithm', () => token({}, { kid: 'rs' }), 'does not verify'],
  ['no signature', () => new UnsecuredJWT({ iss: base, sub: 'me', aud: AUDIENCE }).encode(), 'malformed'],
  [
    'the public key as the secret of an HMAC',
    async () => {
      const secret = new TextEncoder().encode(JSON.stringify(await jwk('rs')))
      return new SignJWT({ iss: base, sub: 'me', aud: AUDIENCE, iat: now(), exp: now() + 60 })
        .setProtectedHeader({ alg: 'HS256', kid: 'rs' })
        .sign(secret)
    },
    'malformed',
  ],
  [
    'a changed claim',
    async () => {
      const [header, , signature] = (await token()).split('.')
      return `${header}.${encoded({ iss: base, sub: 'you', aud: AUDIENCE, iat: now(), exp: now() + 60 })}.${signature}`
    },
    'does not verify',
  ],
  [
    'a key in its header',
    async () => {
      const [, payload, signature] = (await token()).split('.')
      return `${encoded({ alg: 'ES256', jwk: await jwk('es') })}.${payload}.${signature}`
    },
    'malformed',
  ],
  ['too many characters', async () => `${await token()}${'A'.repeat(20_000)}`, 'too long'],
])('a token with %s is refused, and not repeated', async (_, make, reason) => {
  const text = await make()
  const outcome = await rejection(check(text))
  expect(outcome).toContain('UNAUTHENTICATED: ')
  expect(outcome).toContain(reason)
  expect(outcome).not.toContain(text.split('.')[1])
})

test('a token may be good for longer than we take it', async () => {
  const old = await token({ iat: now() - 1000, exp: now() + 3600 })
  await check(old)
  expect(await rejection(check(old, { maxAgeSeconds: 900 }))).toContain('too old')
})

test.each<[string, (request: IncomingMessage, response: ServerResponse) => boolean, string]>([
  ['redirects its discovery', redirect('/.well-known/openid-configuration'), 'it redirects'],
  ['redirects its keys', redirect('/jwks'), 'it redirects'],
  [
    'claims to be another',
    json('/.well-known/openid-configuration', () => ({ issuer: 'https://x', jwks_uri: `${base}/jwks` })),
    'of another issuer',
  ],
  [
    'has its keys on plain HTTP elsewhere',
    json('/.well-known/openid-configuration', () => ({ issuer: base, jwks_uri: 'http://192.0.2.1/jwks' })),
    'must be fetched over https://',
  ],
  [
    'has keys without end',
    (request, response) => {
      if (request.url !== '/jwks') return false
      const part = `${'x'.repeat(64 * 1024)}`
      response.write('{"keys":["')
      const more = () => {
        while (!response.destroyed && response.write(part)) {}
      }
      response.on('drain', more)
      more()
      return true
    },
    'larger than 256 KiB',
  ],
  ['has too many keys', json('/jwks', () => ({ keys: Array.from({ length: 101 }, () => ({})) })), 'more than 100 keys'],
  ['has keys that are none', json('/jwks', () => 'keys'), 'no JWKS'],
  [
    'fails',
    (_, response) => {
      response.statusCode = 500
      response.end()
      return true
    },
    'HTTP status 500',
  ],
])(
  'an issuer that %s cannot be used; where it was looked for and why is for the log alone',
  async (_, change, reason) => {
    answer = change
    const outcome = await rejection(check(await token()))
    expect(outcome).toBe(`UNAVAILABLE: the keys of the issuer "${base}" could not be fetched`)
    expect(logged).toEqual([expect.stringContaining(reason)])
  },
)

function redirect(path: string) {
  return (request: IncomingMessage, response: ServerResponse): boolean => {
    if (request.url !== path) return false
    response.writeHead(302, { location: `${base}/elsewhere` }).end()
    return true
  }
}

function json(path: string, body: () => unknown) {
  return (request: IncomingMessage, response: ServerResponse): boolean => {
    if (request.url !== path) return false
    response.end(JSON.stringify(body()))
    return true
  }
}

test('an issuer elsewhere does not send us to what listens on this machine', async () => {
  const seen: string[] = []
  const elsewhere = 'https://idp.example.org'
  const send = async (url: unknown) => {
    seen.push(String(url))
    return Response.json({ issuer: elsewhere, jwks_uri: `${base}/jwks`, keys: [] })
  }
  issuer = oidcIssuer({ issuer: elsewhere, verify: nodeVerifier(), clock, log, fetch: send as typeof fetch })
  expect(await rejection(check(await token({ iss: elsewhere })))).toMatch(/^UNAVAILABLE: /)
  expect(logged).toEqual([expect.stringContaining('over https:')])
  expect(seen).toEqual([`${elsewhere}/.well-known/openid-configuration`])
})

test('made-up key ids do not make us ask more than once a minute', async () => {
  await check(await token())
  clock.ms += 61_000
  asked = []
  for (let index = 0; index < 20; index++) await rejection(check(await token({}, { kid: `made-up-${index}` })))
  expect(asked).toHaveLength(2)
  clock.ms += 61_000
  await rejection(check(await token({}, { kid: 'again' })))
  expect(asked).toHaveLength(4)
})

test('while an issuer is away its keys are good for a day, and it is not asked all the time', async () => {
  await check(await token())
  answer = (_, response) => {
    response.destroy()
    return true
  }
  clock.ms += 11 * 60_000
  asked = []
  await check(await token())
  await check(await token())
  expect(asked).toHaveLength(1)
  clock.ms += 24 * 3600_000
  expect(await rejection(check(await token()))).toContain('UNAVAILABLE')
})

test('an issuer that changes its keys is followed', async () => {
  await check(await token())
  const next = await generateKeyPair('ES256', { extractable: true })
  const keysNow = { keys: [{ ...(await exportJWK(next.publicKey)), kid: 'next' }] }
  answer = json('/jwks', () => keysNow)
  clock.ms += 61_000
  const claims = { iss: base, sub: 'me', aud: AUDIENCE, iat: now(), exp: now() + 60 }
  const fresh = await new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'next' }).sign(next.privateKey)
  await check(fresh)
  expect(await rejection(check(await token()))).toContain('has no key "es"')
})
