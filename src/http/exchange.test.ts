import { X509Certificate } from 'node:crypto'
import { decodeJwt, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { PLAIN_ENTRY } from '../../test/support/entry.ts'
import { type PlatformIssuer, platformIssuer } from '../../test/support/platform-issuer.ts'
import { TD, type TestServer, testServer } from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { base64 } from '../core/base64.ts'
import { createCsr } from '../core/csr.ts'
import { StatusError } from '../core/error.ts'
import { encodePem } from '../core/pem.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import { encodeName } from '../core/x509-name.ts'
import { generateSigner } from '../plugins/signer.ts'
import { exchangeDoors } from './exchange.ts'
import { exchangeCalls } from './exchange-calls.ts'
import { exchangeRest } from './exchange-rest.ts'
import { tokenEndpoint } from './token-endpoint.ts'

const AUDIENCE = 'turret'
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const JWT = 'urn:ietf:params:oauth:token-type:jwt'
const csr = await createCsr({ subject: encodeName({}) }, await generateSigner('ec-p256'))

let issuer: PlatformIssuer
let server: TestServer
let doors: ReturnType<typeof exchangeDoors>
beforeAll(async () => {
  issuer = await platformIssuer()
})
afterAll(() => issuer.stop())
beforeEach(async () => {
  server = await testServer({
    witSvids: true,
    exchange: [
      { name: 'any', type: 'oidc', audience: AUDIENCE, issuer: issuer.url, claims: ['sub'], allow: { sub: ['me'] } },
    ],
  })
  await server.store.entries.create(
    [
      {
        id: '',
        spiffeId: spiffeId(TD, '/w'),
        parentId: spiffeId(TD, '/spire/exchange/any'),
        selectors: [{ type: 'oidc', value: 'sub:me' }],
        ...PLAIN_ENTRY,
        x509SvidTtlSeconds: 600,
      },
    ],
    AT,
  )
  doors = exchangeDoors({ deps: server.deps, adminService: server.service }, server.clock)
})

let count = 0
const token = (claims: object = {}) =>
  issuer.sign({ iss: issuer.url, aud: AUDIENCE, sub: 'me', jti: `j${count++}`, iat: AT, exp: AT + 60, ...claims })

type Pairs = readonly (readonly [string, string])[]
async function post(pairs: Pairs, headers: Readonly<Record<string, string>> = {}) {
  const body = new URLSearchParams(pairs.map(([name, value]) => [name, value]))
  const request = new Request('https://id.example.org/v1/token', { method: 'POST', body, headers })
  const response = (await doors(request, '192.0.2.1'))!
  expect(response.headers.get('cache-control')).toBe('no-store')
  return { status: response.status, body: (await response.json()) as Record<string, string> }
}
const exchangeOf = (text: string, more: Pairs = []): Pairs => [
  ['grant_type', EXCHANGE],
  ['subject_token_type', JWT],
  ['subject_token', text],
  ...more,
]

test('a token exchange answers with a JWT-SVID', async () => {
  const { status, body } = await post(
    exchangeOf(await token(), [
      ['audience', 'db'],
      ['audience', 'queue'],
      ['resource', 'https://api'],
    ]),
  )
  expect(status).toBe(200)
  expect(body).toMatchObject({
    issued_token_type: JWT,
    token_type: 'Bearer',
    expires_in: 300,
    spiffe_id: 'spiffe://example.org/w',
  })
  expect(decodeJwt(body.access_token!)).toMatchObject({
    sub: 'spiffe://example.org/w',
    aud: ['db', 'queue', 'https://api'],
  })
})

test('id_token is taken as the type, and the JWT bearer grant is another way to say the same', async () => {
  const idToken: Pairs = [
    ['grant_type', EXCHANGE],
    ['subject_token_type', 'urn:ietf:params:oauth:token-type:id_token'],
    ['subject_token', await token()],
    ['audience', 'db'],
  ]
  expect((await post(idToken)).status).toBe(200)
  expect(
    (
      await post([
        ['grant_type', BEARER],
        ['assertion', await token()],
        ['audience', 'db'],
      ])
    ).status,
  ).toBe(200)
})

test('a parameter without a value counts as left out', async () => {
  const pairs: Pairs = [
    ['source', ''],
    ['source', 'any'],
    ['audience', 'db'],
  ]
  expect((await post(exchangeOf(await token(), pairs))).status).toBe(200)
})

test.each<[string, () => string]>([
  ['PEM', () => encodePem('CERTIFICATE REQUEST', csr)],
  ['PEM as Microsoft names it', () => encodePem('NEW CERTIFICATE REQUEST', csr)],
  ['base64', () => base64(csr)],
])('a CSR as %s gives an X509-SVID as PEM', async (_, text) => {
  const { status, body } = await post(
    exchangeOf(await token(), [
      ['requested_token_type', 'urn:turret:params:token-type:x509-svid'],
      ['csr', text()],
    ]),
  )
  expect(status).toBe(200)
  expect(body).toMatchObject({
    token_type: 'N_A',
    expires_in: 600,
    issued_token_type: 'urn:turret:params:token-type:x509-svid',
  })
  const leaf = new X509Certificate(body.access_token!)
  expect(leaf.subjectAltName).toBe('URI:spiffe://example.org/w')
  expect(leaf.verify(new X509Certificate(body.bundle!).publicKey)).toBe(true)
})

test('a key proof gives a WIT-SVID', async () => {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const text = await token()
  const ath = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(text))).toString('base64url')
  const proof = await new SignJWT({ aud: AUDIENCE, iat: AT, ath })
    .setProtectedHeader({ alg: 'ES256', typ: 'key-proof+jwt', jwk: await exportJWK(publicKey) })
    .sign(privateKey)
  const { status, body } = await post(
    exchangeOf(text, [
      ['requested_token_type', 'urn:turret:params:token-type:wit-svid'],
      ['key_proof', proof],
    ]),
  )
  expect(status).toBe(200)
  expect(decodeJwt<{ cnf: { jwk: object } }>(body.access_token!).cnf.jwk).toMatchObject(await exportJWK(publicKey))
})

test.each<[string, () => Promise<Pairs> | Pairs, number, string, string]>([
  ['no grant', () => [], 400, 'unsupported_grant_type', 'grant_type must be'],
  ['another grant', () => [['grant_type', 'client_credentials']], 400, 'unsupported_grant_type', 'grant_type must be'],
  ['no token', () => exchangeOf('', [['audience', 'db']]), 400, 'invalid_request', 'missing token'],
  [
    'no type',
    async () => [
      ['grant_type', EXCHANGE],
      ['subject_token', await token()],
    ],
    400,
    'invalid_request',
    'subject_token_type must be',
  ],
  ['no audience', async () => exchangeOf(await token()), 400, 'invalid_request', 'at least one audience'],
  [
    'a parameter twice',
    async () =>
      exchangeOf(await token(), [
        ['source', 'a'],
        ['source', 'b'],
      ]),
    400,
    'invalid_request',
    "more than once: 'source'",
  ],
  [
    'an actor',
    async () => exchangeOf(await token(), [['actor_token', 'x']]),
    400,
    'invalid_request',
    'actor tokens are not taken',
  ],
  [
    'a type that there is not',
    async () => exchangeOf(await token(), [['requested_token_type', 'urn:x']]),
    400,
    'invalid_request',
    'requested_token_type must be',
  ],
  [
    'no CSR',
    async () => exchangeOf(await token(), [['requested_token_type', 'urn:turret:params:token-type:x509-svid']]),
    400,
    'invalid_request',
    'missing CSR',
  ],
  [
    'text as CSR',
    async () =>
      exchangeOf(await token(), [
        ['requested_token_type', 'urn:turret:params:token-type:x509-svid'],
        ['csr', '%%'],
      ]),
    400,
    'invalid_request',
    'neither PEM nor base64',
  ],
  ...(
    [
      ['a certificate', encodePem('CERTIFICATE', csr)],
      ['two requests', encodePem('CERTIFICATE REQUEST', csr).repeat(2)],
      ['a request and its key', encodePem('CERTIFICATE REQUEST', csr) + encodePem('PRIVATE KEY', csr)],
      ['an old request', encodePem('OLD CERTIFICATE REQUEST', csr)],
      ['the attributes of a request', encodePem('CERTIFICATE REQUEST ATTRIBUTES', csr)],
    ] as const
  ).map(([name, text]): [string, () => Promise<Pairs>, number, string, string] => [
    `${name} as CSR`,
    async () =>
      exchangeOf(await token(), [
        ['requested_token_type', 'urn:turret:params:token-type:x509-svid'],
        ['csr', text],
      ]),
    400,
    'invalid_request',
    'neither PEM nor base64',
  ]),
  [
    'a parameter with a long name twice',
    async () =>
      exchangeOf(await token(), [
        ['x'.repeat(1000), 'a'],
        ['x'.repeat(1000), 'b'],
      ]),
    400,
    'invalid_request',
    `more than once: '${'x'.repeat(64)}'`,
  ],
  [
    'another source',
    async () =>
      exchangeOf(await token(), [
        ['audience', 'db'],
        ['source', 'x"y'],
      ]),
    400,
    'invalid_request',
    "there is no source 'x''y'",
  ],
  [
    'a token of somebody else',
    async () => exchangeOf(await token({ sub: 'you' }), [['audience', 'db']]),
    400,
    'invalid_request',
    "'sub' of the token is not allowed",
  ],
  [
    'an expired token',
    async () => exchangeOf(await token({ exp: AT - 60 }), [['audience', 'db']]),
    400,
    'invalid_request',
    'has expired',
  ],
  [
    'an expired assertion',
    async () => [
      ['grant_type', BEARER],
      ['assertion', await token({ exp: AT - 60 })],
      ['audience', 'db'],
    ],
    400,
    'invalid_grant',
    'has expired',
  ],
])('a request with %s is refused as OAuth has it', async (_, pairs, status, error, reason) => {
  const answer = await post(await pairs())
  expect(answer).toEqual({ status, body: { error, error_description: expect.stringContaining(reason) } })
  expect(answer.body.error_description).toMatch(/^[\x20-\x21\x23-\x5b\x5d-\x7e]*$/)
})

test('a parameter as often as a body has room for costs next to nothing', async () => {
  const before = process.cpuUsage()
  expect((await post(Array.from({ length: 16_000 }, () => ['a', '1'] as const))).body).toMatchObject({
    error: 'invalid_request',
    error_description: expect.stringContaining("more than once: 'a'"),
  })
  // Microseconds. It took more than a second when the list of its values was copied for each one.
  const { user, system } = process.cpuUsage(before)
  expect(user + system).toBeLessThan(600_000)
})

test('other methods, other types and bodies without end are refused', async () => {
  const send = async (init: RequestInit) => (await doors(new Request('https://id.example.org/v1/token', init), ''))!
  expect((await send({ method: 'GET' })).status).toBe(405)
  expect(await (await send({ method: 'POST', body: '{}' })).json()).toMatchObject({ error: 'invalid_request' })
  const headers = { 'content-type': 'Application/x-www-form-urlencoded ; charset=utf-8' }
  const known = await send({ method: 'POST', headers, body: 'grant_type=x' })
  expect(await known.json()).toMatchObject({ error: 'unsupported_grant_type' })
  const large = await send({ method: 'POST', body: new URLSearchParams({ a: 'x'.repeat(100_000) }) })
  expect(large.status).toBe(413)
  expect(await large.json()).toMatchObject({ error_description: expect.stringContaining('larger') })
})

/** A body that breaks off in its middle. */
function broken(): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode('{'))
    },
    pull: (controller) => controller.error(new Error('gone')),
  })
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

/** Both doors, with calls that end in this error. */
function failing(error: Error) {
  const fail = () => Promise.reject(error)
  const calls = { x509: fail, jwt: fail, wit: fail }
  const [token, rest] = [tokenEndpoint(calls, server.clock), exchangeRest(calls)]
  return {
    token: (body: BodyInit) =>
      token(new Request('https://x/v1/token', { method: 'POST', headers: FORM, body, duplex: 'half' } as never), ''),
    rest: (body: BodyInit) => {
      const headers = { authorization: 'Bearer a' }
      const request = new Request('https://x/', { method: 'POST', headers, body, duplex: 'half' } as never)
      return rest(request, { source: 'any', kind: 'jwt' }, '')
    },
  }
}

test.each([
  ['INVALID_ARGUMENT', 400, 'invalid_request', 'invalid_request', 400],
  ['UNAUTHENTICATED', 400, 'invalid_request', 'invalid_grant', 401],
  ['PERMISSION_DENIED', 400, 'invalid_request', 'invalid_grant', 403],
  ['UNIMPLEMENTED', 400, 'unsupported_grant_type', 'unsupported_grant_type', 501],
  ['RESOURCE_EXHAUSTED', 429, 'temporarily_unavailable', 'temporarily_unavailable', 429],
  ['DEADLINE_EXCEEDED', 408, 'invalid_request', 'invalid_request', 408],
  ['UNAVAILABLE', 503, 'temporarily_unavailable', 'temporarily_unavailable', 503],
  ['ABORTED', 500, 'server_error', 'server_error', 500],
  ['none', 500, 'server_error', 'server_error', 500],
] as const)('an error with the code %s is told as such, and a bug without its text', async (code, ...wanted) => {
  const [status, error, assertionError, restStatus] = wanted
  const doors = failing(code === 'none' ? new Error('of inside') : new StatusError(code, 'said so'))
  const description = code === 'none' ? 'internal error' : 'said so'
  for (const [form, name] of [
    [{ grant_type: EXCHANGE, subject_token_type: JWT, subject_token: 'a' }, error],
    [{ grant_type: BEARER, assertion: 'a' }, assertionError],
  ] as const) {
    const answer = await doors.token(new URLSearchParams(form).toString())
    expect(answer.status).toBe(status)
    expect(await answer.json()).toEqual({ error: name, error_description: description })
  }
  const answer = await doors.rest('{}')
  expect(answer.status).toBe(restStatus)
  expect(await answer.json()).toEqual({ error: description })
  expect(answer.headers.get('www-authenticate')).toBe(restStatus === 401 ? 'Bearer' : null)
})

test('a body that breaks off is no body, and none that was too large', async () => {
  const doors = failing(new Error('called'))
  for (const answer of [await doors.token(broken()), await doors.rest(broken())]) {
    expect(answer.status).toBe(400)
    expect(JSON.stringify(await answer.json())).toContain('the request broke off')
  }
})

test('who comes through a door is nobody, whatever the request shows, and a service without the method has no such door', async () => {
  const seen: unknown[] = []
  const unary = async (_: Uint8Array, call: { readonly peer: unknown; header(name: string): readonly string[] }) => {
    seen.push(call.peer, call.header('signature'))
    throw new StatusError('ABORTED', 'enough')
  }
  const methods = new Map([['/turret.exchange.v1.Exchange/ExchangeJWT', { unary }]])
  const calls = exchangeCalls({ methods, services: new Set() } as never)
  const caller = { address: '192.0.2.1', signal: new AbortController().signal }
  const subject = { token: 'a', source: '', spiffeId: '' }
  await expect(calls.jwt({ subject, audience: [], keyProof: '' }, caller)).rejects.toThrow('enough')
  expect(seen).toEqual([{ via: 'anonymous', address: '192.0.2.1' }, []])
  const missing = { code: 'UNIMPLEMENTED', message: 'unknown method ExchangeWIT' }
  await expect(calls.wit({ subject, keyProof: '' }, caller)).rejects.toMatchObject(missing)
})

async function rest(path: string, text: string | undefined, body?: unknown) {
  const headers: Record<string, string> = text === undefined ? {} : { authorization: `Bearer ${text}` }
  const init = { method: 'POST', headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
  const response = await doors(new Request(`https://id.example.org/api/v1/svid/${path}`, init), '192.0.2.1')
  return response && { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

test('the shape of the other exchange: JSON, with the token as bearer token', async () => {
  const x509 = (await rest('any/x509', await token(), { csr: encodePem('CERTIFICATE REQUEST', csr) }))!
  expect(x509).toMatchObject({ status: 200, body: { spiffeId: 'spiffe://example.org/w', expiresAt: AT + 600 } })
  expect(Object.keys(x509.body).sort()).toEqual(['bundle', 'cert', 'expiresAt', 'spiffeId'])
  expect(new X509Certificate(x509.body.cert as string).subjectAltName).toBe('URI:spiffe://example.org/w')
  const jwt = await rest('any/jwt', await token(), { audiences: ['db'] })
  expect(jwt).toMatchObject({ status: 200, body: { spiffeId: 'spiffe://example.org/w', expiresAt: AT + 300 } })
})

test.each<[string, string, () => Promise<string | undefined>, unknown, number, string]>([
  ['no token', 'any/jwt', async () => undefined, {}, 401, 'missing bearer token'],
  ['a bad token', 'any/jwt', async () => 'abc', { audiences: ['db'] }, 401, 'malformed'],
  ['a token that earns nothing', 'any/jwt', () => token({ sub: 'you' }), { audiences: ['db'] }, 403, 'not allowed'],
  ['no CSR', 'any/x509', () => token(), undefined, 400, 'keys are made by who uses them'],
  ['another source', 'other/jwt', () => token(), { audiences: ['db'] }, 400, 'there is no source "other"'],
  ['no audiences', 'any/jwt', () => token(), undefined, 400, 'at least one audience'],
  ['audiences that are none', 'any/jwt', () => token(), { audiences: [1] }, 400, 'must be a list of texts'],
  ['no object', 'any/jwt', () => token(), [], 400, 'no JSON object'],
])('the other shape, with %s', async (_, path, make, body, status, reason) => {
  expect(await rest(path, await make(), body)).toEqual({ status, body: { error: expect.stringContaining(reason) } })
})

test('the other shape, with a member twice', async () => {
  const init = { method: 'POST', headers: { authorization: `Bearer ${await token()}` } }
  const body = '{"audiences":["a"],"audiences":["db"]}'
  const response = await doors(new Request('https://id.example.org/api/v1/svid/any/jwt', { ...init, body }), '')
  expect(response?.status).toBe(400)
  expect(await response?.json()).toEqual({ error: expect.stringContaining('no JSON object') })
})

test.each<[string, (text: string) => RequestInit, number, string]>([
  ['two blanks before its token', (text) => ({ headers: { authorization: `Bearer  ${text}` } }), 200, ''],
  ['a token of another kind', (text) => ({ headers: { authorization: `Basic ${text}` } }), 401, 'missing bearer'],
  ['something before its token', (text) => ({ headers: { authorization: `x Bearer ${text}` } }), 401, 'missing bearer'],
  ['something after it', (text) => ({ headers: { authorization: `Bearer ${text} x` } }), 401, 'missing bearer'],
  ['another method', () => ({ method: 'PUT' }), 405, ''],
  ['bytes that are no text', () => ({ body: Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d) }), 400, 'no JSON'],
  [
    'a SPIFFE ID that is none',
    () => ({ body: '{"audiences":["db"],"spiffeId":["spiffe://x/y"]}' }),
    400,
    'must be text',
  ],
  ['more than it may hold', () => ({ body: JSON.stringify({ a: 'x'.repeat(100_000) }) }), 413, 'larger'],
])('the other shape, with %s: %3$i', async (_, change, status, reason) => {
  const text = await token()
  const init = { method: 'POST', headers: { authorization: `Bearer ${text}` }, body: '{"audiences":["db"]}' }
  const url = 'https://id.example.org/api/v1/svid/any/jwt'
  const answer = (await doors(new Request(url, { ...init, ...change(text) }), ''))!
  expect(answer.status).toBe(status)
  expect(await answer.text()).toContain(reason)
})

test('other paths are not answered; nor is any where there are no sources', async () => {
  for (const path of ['any/wit', 'a/b/x509', '../x509', 'any/x509/']) expect(await rest(path, 'x')).toBeUndefined()
  const below = new Request('https://id.example.org/x/api/v1/svid/any/jwt', { method: 'POST' })
  expect(await doors(below, '')).toBeUndefined()
  const none = await testServer()
  const closed = exchangeDoors({ deps: none.deps, adminService: none.service }, none.clock)
  expect(await closed(new Request('https://id.example.org/v1/token', { method: 'POST' }), '')).toBeUndefined()
})
