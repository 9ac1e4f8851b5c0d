import { createHash, generateKeyPairSync, sign as signData } from 'node:crypto'
import fc from 'fast-check'
import {
  type CryptoKey,
  calculateJwkThumbprint,
  decodeJwt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  type JWTPayload,
  SignJWT,
} from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import * as api from '../../../proto/turret/exchange/v1.ts'
import { PLAIN_ENTRY } from '../../../test/support/entry.ts'
import { type PlatformIssuer, platformIssuer } from '../../../test/support/platform-issuer.ts'
import { PLATFORM_TOKENS } from '../../../test/support/platform-tokens.ts'
import { ANONYMOUS, call, rejection, TD, type TestServer, testServer } from '../../../test/support/server.ts'
import { AT } from '../../../test/support/x509.ts'
import { parseCertificate } from '../../core/certificate.ts'
import { createCsr } from '../../core/csr.ts'
import type { EntryFields } from '../../core/entry.ts'
import { StatusError } from '../../core/error.ts'
import type { ExchangeSourceOptions } from '../../core/exchange.ts'
import { jwkThumbprint } from '../../core/jwk.ts'
import { jwtSigner, signJwtSvid } from '../../core/jwt-svid.ts'
import type { Signer } from '../../core/key-type.ts'
import type { Log, LogFields } from '../../core/log.ts'
import { parseSpiffeId, type SpiffeId, spiffeId } from '../../core/spiffe-id.ts'
import { parseTrustDomain } from '../../core/trust-domain.ts'
import { encodeName } from '../../core/x509-name.ts'
import { generateSigner } from '../../plugins/signer.ts'

const AUDIENCE = 'https://id.example.org'
const GITHUB = PLATFORM_TOKENS.find(({ type }) => type === 'github_actions')!
const SUBJECT = encodeName({ commonName: 'anything' })
const signer = await generateSigner('ec-p256')
const csr = await createCsr(
  { subject: SUBJECT, uris: ['spiffe://example.org/admin'], dnsNames: ['evil.example'] },
  signer,
)

let issuer: PlatformIssuer
beforeAll(async () => {
  issuer = await platformIssuer()
})
afterAll(() => issuer.stop())

let serial = 0
/** A fresh token of GitHub Actions. */
function token(claims: JWTPayload = {}, header: Parameters<PlatformIssuer['sign']>[1] = {}): Promise<string> {
  serial += 1
  const times = { iat: AT - 5, nbf: AT - 5, exp: AT + 300 }
  return issuer.sign(
    { ...GITHUB.claims, iss: issuer.url, aud: AUDIENCE, jti: `t${serial}`, ...times, ...claims },
    header,
  )
}

const source = (more: Partial<ExchangeSourceOptions> = {}): ExchangeSourceOptions => ({
  name: 'ci',
  type: 'github_actions',
  audience: AUDIENCE,
  issuer: issuer.url,
  allow: { repository_owner_id: ['65'] },
  ...more,
})

const entryOf = (more: Partial<EntryFields> & { readonly id?: string } = {}) => ({
  id: '',
  spiffeId: spiffeId(TD, '/ci/deploy'),
  parentId: spiffeId(TD, '/spire/exchange/ci'),
  selectors: [
    { type: 'github_actions', value: 'repository_id:74' },
    { type: 'github_actions', value: 'branch:main' },
  ],
  ...PLAIN_ENTRY,
  ...more,
})

async function server(
  options: {
    readonly source?: Partial<ExchangeSourceOptions>
    readonly entries?: readonly Partial<EntryFields>[]
    readonly log?: Log
    readonly adminIds?: readonly SpiffeId[]
  } = {},
): Promise<TestServer> {
  const { log, adminIds } = options
  const made = await testServer({
    witSvids: true,
    exchange: [source(options.source)],
    ...(log ? { log } : {}),
    ...(adminIds ? { adminIds } : {}),
  })
  const results = await made.store.entries.create((options.entries ?? [{}]).map(entryOf), AT)
  for (const result of results) expect(result).toMatchObject({ outcome: 'created' })
  return made
}

const SERVICE = '/turret.exchange.v1.Exchange/'
type Wish = {
  readonly source?: string
  readonly spiffeId?: string
  readonly audience?: string[]
  readonly keyProof?: string
  readonly csr?: Uint8Array
}
const subject = (text: string, { source: name = '', spiffeId: id = '' }: Wish) => ({
  token: text,
  source: name,
  spiffeId: id,
})

const jwt = (at: TestServer, text: string, wish: Wish = {}) =>
  call(
    at,
    `${SERVICE}ExchangeJWT`,
    [
      api.ExchangeJWTRequest,
      { subject: subject(text, wish), audience: wish.audience ?? ['db'], keyProof: wish.keyProof ?? '' },
    ],
    api.ExchangeJWTResponse,
    ANONYMOUS,
  )
const x509 = (at: TestServer, text: string, wish: Wish = {}) =>
  call(
    at,
    `${SERVICE}ExchangeX509`,
    [api.ExchangeX509Request, { subject: subject(text, wish), csr: wish.csr ?? csr }],
    api.ExchangeX509Response,
    ANONYMOUS,
  )
const wit = (at: TestServer, text: string, wish: Wish = {}) =>
  call(
    at,
    `${SERVICE}ExchangeWIT`,
    [api.ExchangeWITRequest, { subject: subject(text, wish), keyProof: wish.keyProof ?? '' }],
    api.ExchangeWITResponse,
    ANONYMOUS,
  )

test('a token is exchanged for an X509-SVID of the key in the CSR; its names do not count', async () => {
  const at = await server({ entries: [{ dnsNames: ['ci.example.org'] }] })
  const { svid, x509Authorities } = await x509(at, await token())
  expect(svid).toMatchObject({ id: { trustDomain: TD, path: '/ci/deploy' }, expiresAt: AT + 3600 })
  const leaf = parseCertificate(svid!.certChain[0]!)
  expect(leaf.uris).toEqual(['spiffe://example.org/ci/deploy'])
  expect(leaf.dnsNames).toEqual(['ci.example.org'])
  expect(leaf.spki).toEqual(signer.publicKey)
  expect(x509Authorities).toHaveLength(1)
})

test('a token is exchanged for a JWT-SVID', async () => {
  const { svid } = await jwt(await server(), await token(), { audience: ['db', 'queue'] })
  expect(decodeJwt(svid!.token)).toMatchObject({
    sub: 'spiffe://example.org/ci/deploy',
    aud: ['db', 'queue'],
    exp: AT + 300,
  })
})

test.each(PLATFORM_TOKENS)('$type: an entry of selectors that its tokens earn', async (platform) => {
  const at = await testServer({
    exchange: [{ name: 'p', type: platform.type, audience: AUDIENCE, issuer: issuer.url, ...platform.source }],
  })
  const selectors = platform.earns.map((value) => ({ type: platform.type, value }))
  await at.store.entries.create([entryOf({ parentId: spiffeId(TD, '/spire/exchange/p'), selectors })], AT)
  const claims = { ...platform.claims, iss: issuer.url, aud: AUDIENCE, iat: AT, exp: AT + 60 }
  const text = await issuer.sign(claims, platform.type === 'vercel' ? { alg: 'ES256' } : {})
  expect((await jwt(at, text)).svid!.id).toEqual({ trustDomain: TD, path: '/ci/deploy' })
  expect(await rejection(jwt(at, text))).toBe('UNAUTHENTICATED: the token was used before')
})

test('SVIDs live as long as the entry, the source and an hour allow', async () => {
  const lifetimes = async (x509SvidTtlSeconds: number, jwtSvidTtlSeconds: number, maxTtlSeconds?: number) => {
    const at = await server({
      source: { maxTtlSeconds, use: 'svid_type' },
      entries: [{ x509SvidTtlSeconds, jwtSvidTtlSeconds }],
    })
    const text = await token()
    const answers = [await x509(at, text), await jwt(at, text), await wit(at, text, { keyProof: await proof(text) })]
    return answers.map(({ svid }) => svid!.expiresAt - AT)
  }
  expect(await lifetimes(0, 0)).toEqual([3600, 300, 3600])
  expect(await lifetimes(86_400, 86_400)).toEqual([3600, 3600, 3600])
  expect(await lifetimes(600, 60)).toEqual([600, 60, 600])
  expect(await lifetimes(600, 600, 120)).toEqual([120, 120, 120])
  expect(await lifetimes(0, 0, 120)).toEqual([120, 120, 120])
})

// Once.

test('a token is taken once, also of two who come at once', async () => {
  const at = await server()
  const text = await token()
  const outcomes = await Promise.all([rejection(jwt(at, text)), rejection(jwt(at, text)), rejection(x509(at, text))])
  expect(outcomes.sort()).toEqual(['OK', ...Array(2).fill('UNAUTHENTICATED: the token was used before')])
  expect(await rejection(x509(at, text))).toContain('used before')
})

test('the mark lasts as long as the token could be taken', async () => {
  const at = await server()
  const ending = await token({ exp: AT + 300 })
  const long = await token({ iat: AT, exp: AT + 86_400 })
  for (const text of [ending, long]) expect(await rejection(jwt(at, text))).toBe('OK')
  at.clock.ms = (AT + 329) * 1000
  expect(await rejection(jwt(at, ending))).toContain('used before')
  at.clock.ms = (AT + 930) * 1000
  await at.store.uses.prune(AT + 930)
  expect(await rejection(jwt(at, long))).toContain('used before')
})

test('a source may give one SVID of each type for a token', async () => {
  const at = await server({ source: { use: 'svid_type' } })
  const text = await token()
  await jwt(at, text)
  await x509(at, text)
  expect(await rejection(jwt(at, text))).toContain('used before')
  expect(await rejection(x509(at, text))).toContain('used before')
})

test('without jti a token is known by what is signed: the other signature of ECDSA is no new token', async () => {
  const at = await server()
  const text = await token({ jti: undefined }, { alg: 'ES256' })
  const cut = text.lastIndexOf('.') + 1
  const raw = Buffer.from(text.slice(cut), 'base64url')
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551')
  const s = order - BigInt(`0x${raw.subarray(32).toString('hex')}`)
  const twin = Buffer.concat([raw.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, '0'), 'hex')])
  await jwt(at, text)
  expect(await rejection(jwt(at, text.slice(0, cut) + twin.toString('base64url')))).toContain('used before')
})

test('a request that was refused leaves its token good', async () => {
  const at = await server()
  const text = await token()
  expect(await rejection(x509(at, text, { csr: Uint8Array.of(1) }))).toContain('INVALID_ARGUMENT: invalid CSR')
  expect(await rejection(jwt(at, text, { audience: [] }))).toContain('at least one audience')
  expect(await rejection(jwt(at, text, { spiffeId: 'spiffe://example.org/other' }))).toContain('PERMISSION_DENIED')
  expect(await rejection(jwt(at, text))).toBe('OK')
})

// Tokens that are not good.

const b64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

test.each<[string, () => Promise<string> | string, string]>([
  ['another audience', () => token({ aud: 'sts.amazonaws.com' }), 'issuer, or for an audience, that is not known'],
  ['no audience', () => token({ aud: undefined }), 'issuer, or for an audience, that is not known'],
  [
    'somebody else as audience, too',
    () => token({ aud: [AUDIENCE, 'https://other.example'] }),
    'for other audiences, too',
  ],
  ['an audience that is no text', () => token({ aud: [AUDIENCE, 1] as never }), 'for other audiences, too'],
  ['an audience that only starts alike', () => token({ aud: `${AUDIENCE}.evil.example` }), 'that is not known'],
  ['a foreign issuer', () => token({ iss: 'https://evil.example' }), 'issuer, or for an audience, that is not known'],
  ['an issuer that is spelled otherwise', () => token({ iss: `${issuer.url}/` }), 'that is not known'],
  ['an end that has passed', () => token({ exp: AT - 31, iat: AT - 60 }), 'has expired'],
  ['no end', () => token({ exp: undefined }), 'has no end'],
  ['too long a life behind it', () => token({ iat: AT - 15 * 60 - 31, exp: AT + 3600 }), 'too old'],
  ['no beginning', () => token({ iat: undefined }), 'does not say when'],
  ['its beginning in the future', () => token({ iat: AT + 31, exp: AT + 300 }), 'issued in the future'],
  ['a later time from which it is good', () => token({ nbf: AT + 31 }), 'not valid yet'],
  ['another type', () => token({}, { typ: 'at+jwt' }), 'of another type'],
  ['the type of a WIT-SVID', () => token({}, { typ: 'wit+jwt' }), 'of another type'],
  ['a key that there is not', () => token({}, { kid: 'made-up' }), 'has no key'],
  ['the key of another algorithm', () => token({}, { kid: 'es' }), 'does not verify'],
  [
    'no signature',
    async () => `${b64({ alg: 'none', kid: 'rs' })}.${(await token()).split('.')[1]}.`,
    'algorithm is none that is taken',
  ],
  [
    'the RSA key as the secret of an HMAC',
    async () => {
      const pem = JSON.stringify(await exportJWK(issuer.keys.rs.publicKey))
      return new SignJWT({ ...GITHUB.claims, iss: issuer.url, aud: AUDIENCE, iat: AT, exp: AT + 60 })
        .setProtectedHeader({ alg: 'HS256', kid: 'rs' })
        .sign(new TextEncoder().encode(pem))
    },
    'algorithm is none that is taken',
  ],
  [
    'other claims than were signed',
    async () => {
      const [header, payload, signature] = (await token()).split('.')
      const claims = JSON.parse(Buffer.from(payload!, 'base64url').toString())
      return `${header}.${b64({ ...claims, repository_id: '1' })}.${signature}`
    },
    'does not verify',
  ],
  [
    'its own key in the header',
    async () => {
      const mine = await generateKeyPair('ES256')
      const claims = { ...GITHUB.claims, iss: issuer.url, aud: AUDIENCE, iat: AT, exp: AT + 60 }
      return new SignJWT(claims)
        .setProtectedHeader({
          alg: 'ES256',
          kid: 'es',
          jwk: await exportJWK(mine.publicKey),
          jku: 'https://evil.example',
        })
        .sign(mine.privateKey)
    },
    'does not verify',
  ],
  ['too many characters', async () => `${await token()}${'A'.repeat(20_000)}`, 'too long'],
  ['too few parts', () => 'a.b', 'malformed'],
])('a token with %s earns nothing', async (_, make, reason) => {
  const text = await make()
  const outcome = await rejection(jwt(await server(), text))
  expect(outcome).toMatch(/^UNAUTHENTICATED: /)
  expect(outcome).toContain(reason)
  expect(outcome).not.toContain(text.split('.')[1])
})

test('thirty seconds of difference between clocks are forgiven', async () => {
  const at = await server()
  for (const claims of [{ exp: AT - 29, iat: AT - 60 }, { iat: AT + 30, nbf: AT + 30 }, { iat: AT - 15 * 60 - 30 }]) {
    expect(await rejection(jwt(at, await token(claims)))).toBe('OK')
  }
})

test.each<[string, JWTPayload, string]>([
  ['another owner', { repository_owner_id: '66' }, '"repository_owner_id" of the token is not allowed'],
  ['no owner', { repository_owner_id: undefined }, '"repository_owner_id" of the token is not allowed'],
  [
    'another branch',
    { ref: 'refs/heads/topic' },
    'no entry below "spiffe://example.org/spire/exchange/ci" fits the token',
  ],
  ['a tag of the name of the branch', { ref: 'refs/tags/main', ref_type: 'tag' }, 'no entry below'],
])('a token of %s earns nothing', async (_, claims, reason) => {
  const outcome = await rejection(jwt(await server(), await token(claims)))
  expect(outcome).toMatch(/^PERMISSION_DENIED: /)
  expect(outcome).toContain(reason)
})

// Entries.

test('only entries right below the source count, with all their selectors', async () => {
  const at = await server({
    entries: [
      { parentId: spiffeId(TD, '/spire/exchange/other') },
      { parentId: spiffeId(TD, '/spire/agent/x'), spiffeId: spiffeId(TD, '/a') },
      {
        spiffeId: spiffeId(TD, '/b'),
        selectors: [
          { type: 'github_actions', value: 'repository_id:74' },
          { type: 'unix', value: 'uid:0' },
        ],
      },
      { spiffeId: spiffeId(TD, '/c'), expiresAt: AT - 1 },
      {
        spiffeId: spiffeId(TD, '/d'),
        selectors: [{ type: 'github_actions', value: 'ref_type:branch' }],
        storeSvid: true,
      },
      { spiffeId: spiffeId(TD, '/e'), selectors: [{ type: 'gitlab_ci', value: 'branch:main' }] },
    ],
  })
  expect(await rejection(jwt(at, await token()))).toMatch(
    /^PERMISSION_DENIED: no entry .* github_actions:repository_id:74/,
  )
})

test('where several entries fit, the caller names one', async () => {
  const at = await server({ entries: [{}, { spiffeId: spiffeId(TD, '/ci/other') }] })
  const text = await token()
  expect(await rejection(jwt(at, text))).toBe(
    'INVALID_ARGUMENT: the token fits several entries; name the SPIFFE ID that is wanted: spiffe://example.org/ci/deploy, spiffe://example.org/ci/other',
  )
  expect((await jwt(at, text, { spiffeId: 'spiffe://example.org/ci/other' })).svid!.id!.path).toBe('/ci/other')
})

test.each<[string, Parameters<typeof server>[0], 'allowAdmin' | 'allowDownstream']>([
  ['an entry of an administrator', { entries: [{ admin: true }] }, 'allowAdmin'],
  ['an entry of a server below', { entries: [{ downstream: true }] }, 'allowDownstream'],
  [
    'the ID of an administrator elsewhere',
    { entries: [{}, { admin: true, parentId: spiffeId(TD, '/spire/agent/x') }] },
    'allowAdmin',
  ],
  [
    'the ID of a server below elsewhere',
    { entries: [{}, { downstream: true, parentId: spiffeId(TD, '/spire/agent/x') }] },
    'allowDownstream',
  ],
  ['the ID of an administrator by configuration', { adminIds: [spiffeId(TD, '/ci/deploy')] }, 'allowAdmin'],
])('%s is only issued where the source says so', async (_, options, switchName) => {
  const outcome = await rejection(x509(await server(options), await token()))
  expect(outcome).toMatch(
    /^PERMISSION_DENIED: "spiffe:\/\/example.org\/ci\/deploy" is (an administrator|a server below)/,
  )
  const other = switchName === 'allowAdmin' ? 'allowDownstream' : 'allowAdmin'
  expect(await rejection(x509(await server({ ...options, source: { [other]: true } }), await token()))).toBe(outcome)
  expect(await rejection(x509(await server({ ...options, source: { [switchName]: true } }), await token()))).toBe('OK')
})

test('fifty requests a second come from one address, and a hundred may wait', async () => {
  const waits: number[] = []
  const at = await testServer({ exchange: [source()], wait: async (ms) => void waits.push(ms) })
  const outcomes = await Promise.all(Array.from({ length: 200 }, () => rejection(jwt(at, 'a.b.c'))))
  expect(outcomes.filter((outcome) => outcome.startsWith('UNAUTHENTICATED'))).toHaveLength(150)
  expect(outcomes.filter((outcome) => outcome.startsWith('RESOURCE_EXHAUSTED'))).toHaveLength(50)
  expect(waits).toHaveLength(100)
})

test('a CSR with a small RSA key is refused', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const small: Signer = {
    keyType: 'rsa-2048',
    publicKey: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' })),
    sign: (data) => new Uint8Array(signData('sha256', data, privateKey)),
  }
  const weak = await createCsr({ subject: SUBJECT }, small)
  expect(await rejection(x509(await server(), await token(), { csr: weak }))).toBe(
    'INVALID_ARGUMENT: invalid CSR: RSA key has 1024 bits; 2048 to 8192 are allowed',
  )
})

test('whatever comes is refused with a reason, and is no bug', async () => {
  const at = await testServer({ exchange: [source()], witSvids: true, limitAttestation: false })
  const good = (await token()).split('.')
  const part = fc.oneof(
    fc.constantFrom(...good, ''),
    fc.json().map((text) => Buffer.from(text).toString('base64url')),
    fc.string(),
  )
  const texts = fc.oneof(
    fc.string(),
    fc.array(part, { minLength: 2, maxLength: 4 }).map((parts) => parts.join('.')),
  )
  await fc.assert(
    fc.asyncProperty(texts, texts, fc.uint8Array(), async (text, keyProof, bytes) => {
      const attempts = [jwt(at, text, { keyProof }), x509(at, text, { csr: bytes }), wit(at, text, { keyProof })]
      for (const outcome of await Promise.all(attempts.map(rejection))) {
        expect(outcome).toMatch(/^(UNAUTHENTICATED|INVALID_ARGUMENT|PERMISSION_DENIED): /)
      }
      const fresh = await token()
      expect(await rejection(wit(at, fresh, { keyProof }))).toMatch(/^(UNAUTHENTICATED|INVALID_ARGUMENT): /)
      expect(await rejection(x509(at, fresh, { csr: bytes }))).toMatch(/^INVALID_ARGUMENT: /)
    }),
    { numRuns: 60 },
  )
})

// Keys.

const pair = await generateKeyPair('ES256', { extractable: true })
const thumbprintOfPair = await calculateJwkThumbprint(await exportJWK(pair.publicKey))

async function proof(
  text: string,
  changes: { readonly claims?: JWTPayload; readonly header?: Record<string, unknown>; readonly key?: CryptoKey } = {},
): Promise<string> {
  const ath = createHash('sha256').update(text).digest('base64url')
  const header = { alg: 'ES256', typ: 'key-proof+jwt', jwk: await exportJWK(pair.publicKey), ...changes.header }
  return new SignJWT({ aud: AUDIENCE, iat: AT, ath, ...changes.claims })
    .setProtectedHeader(header)
    .sign(changes.key ?? pair.privateKey)
}

test('a token is exchanged for a WIT-SVID of the key that proves itself', async () => {
  const text = await token()
  const { svid } = await wit(await server(), text, { keyProof: await proof(text) })
  expect(decodeProtectedHeader(svid!.token)).toMatchObject({ typ: 'wit+jwt' })
  const { cnf, sub } = decodeJwt<{ cnf: { jwk: Record<string, string> } }>(svid!.token)
  expect(sub).toBe('spiffe://example.org/ci/deploy')
  expect(await calculateJwkThumbprint(cnf.jwk)).toBe(thumbprintOfPair)
})

test.each<[string, (text: string) => Promise<string>, string]>([
  ['none', async () => '', 'INVALID_ARGUMENT: missing key proof'],
  ['one for another token', async () => proof('other'), 'for another token'],
  ['one for another server', (text) => proof(text, { claims: { aud: 'https://other' } }), 'for another audience'],
  ['an old one', (text) => proof(text, { claims: { iat: AT - 331 } }), 'too old'],
  ['one of the future', (text) => proof(text, { claims: { iat: AT + 31 } }), 'of the future'],
  ['one without time', (text) => proof(text, { claims: { iat: undefined } }), 'does not say when'],
  ['one of another type', (text) => proof(text, { header: { typ: 'JWT' } }), 'another type'],
  [
    'one by another key',
    async (text) => proof(text, { key: (await generateKeyPair('ES256')).privateKey }),
    'does not verify',
  ],
  [
    'one with the private key',
    async (text) => proof(text, { header: { jwk: await exportJWK(pair.privateKey) } }),
    'private key in it',
  ],
  ['one without key', (text) => proof(text, { header: { jwk: undefined } }), 'has no jwk'],
  ['the token itself', async (text) => text, 'of another type'],
  ['text', async () => 'a.b.c', 'malformed'],
  [
    'no algorithm',
    async (text) =>
      `${b64({ alg: 'none', typ: 'key-proof+jwt', jwk: await exportJWK(pair.publicKey) })}.${(await proof(text)).split('.')[1]}.`,
    'algorithm that is not taken',
  ],
])('a WIT-SVID needs a proof of its key; refused: %s', async (_, make, reason) => {
  const at = await server()
  const text = await token()
  const keyProof = await make(text)
  expect(await rejection(wit(at, text, { keyProof }))).toContain(reason)
  expect(await rejection(wit(at, text, { keyProof: await proof(text) }))).toBe('OK')
})

test('a token that is bound to a key is of no use to who stole it', async () => {
  const at = await server()
  const text = await token({ aud: `${AUDIENCE}#${thumbprintOfPair}` })
  expect(await rejection(jwt(at, text))).toBe(
    'UNAUTHENTICATED: the token is bound to a key; a proof of that key is needed',
  )
  expect(await rejection(x509(at, text))).toBe('UNAUTHENTICATED: the token is bound to another key')
  const thief = await generateKeyPair('ES256', { extractable: true })
  const keyProof = await proof(text, { header: { jwk: await exportJWK(thief.publicKey) }, key: thief.privateKey })
  const attempts = [jwt(at, text, { keyProof }), wit(at, text, { keyProof })]
  for (const outcome of await Promise.all(attempts.map(rejection))) expect(outcome).toContain('bound to another key')
  expect(await rejection(jwt(at, text, { keyProof: await proof(text) }))).toBe('OK')
})

test('a token that is bound to the key of the CSR gives an X509-SVID; a free audience beside it does not set it free', async () => {
  const at = await server({ source: { use: 'svid_type' } })
  const bound = `${AUDIENCE}#${await jwkThumbprint(signer.publicKey)}`
  expect(await rejection(x509(at, await token({ aud: bound })))).toBe('OK')
  expect(await rejection(jwt(at, await token({ aud: [AUDIENCE, bound] })))).toContain('a proof of that key is needed')
})

test('a token that is bound to two keys is for nobody', async () => {
  const mine = `${AUDIENCE}#${await jwkThumbprint(signer.publicKey)}`
  const at = await server()
  expect(await rejection(x509(at, await token({ aud: [mine, `${AUDIENCE}#${thumbprintOfPair}`] })))).toContain(
    'another key',
  )
})

test('a source may take bound tokens alone', async () => {
  const at = await server({ source: { requireBoundKey: true } })
  expect(await rejection(x509(at, await token()))).toContain('not bound to a key, which this source requires')
  expect(await rejection(x509(at, await token({ aud: `${AUDIENCE}#${await jwkThumbprint(signer.publicKey)}` })))).toBe(
    'OK',
  )
})

// JWT-SVIDs of another trust domain.

test('a JWT-SVID of a trust domain whose bundle is here is exchanged; of others it is not', async () => {
  const other = parseTrustDomain('other.org')
  const at = await testServer({ exchange: [{ name: 'peer', type: 'spiffe', audience: AUDIENCE, trustDomain: other }] })
  const key = await generateSigner('ec-p256')
  const authority = { keyId: 'k1', publicKey: key.publicKey, expiresAt: AT + 3600, tainted: false }
  const selectors = [{ type: 'spiffe', value: 'source_path:/billing' }]
  await at.store.entries.create([entryOf({ parentId: spiffeId(TD, '/spire/exchange/peer'), selectors })], AT)
  const claims = { aud: [AUDIENCE], exp: AT + 60, iat: AT, sub: parseSpiffeId('spiffe://other.org/billing') }
  const sign = (changes: object = {}) => signJwtSvid({ ...claims, ...changes }, jwtSigner(key, 'k1'))

  expect(await rejection(jwt(at, await sign()))).toBe('UNAVAILABLE: the bundle of "other.org" is not known')
  await at.store.bundles.append({ trustDomain: other, jwtAuthorities: [authority] })
  const text = await sign()
  expect((await jwt(at, text)).svid!.id!.path).toBe('/ci/deploy')
  expect(await rejection(jwt(at, text))).toContain('used before')
  expect(await rejection(jwt(at, await sign({ aud: ['x'] })))).toContain('that is not known')
  expect(await rejection(jwt(at, await sign({ sub: 'spiffe://third.org/billing' }), { source: 'peer' }))).toContain(
    'no valid JWT-SVID',
  )
  expect(await rejection(jwt(at, await sign({ iat: AT - 1000 })))).toContain('too old')
  expect(await rejection(jwt(at, await sign({ exp: AT - 31 })))).toContain('expired')
  const stranger = await signJwtSvid(claims, jwtSigner(await generateSigner('ec-p256'), 'k1'))
  expect(await rejection(jwt(at, stranger))).toContain('no valid JWT-SVID')
  await at.store.bundles.set({
    ...(await at.store.bundles.get(other))!,
    jwtAuthorities: [{ ...authority, tainted: true }],
  })
  expect(await rejection(jwt(at, await sign({ exp: AT + 61 })))).toContain('no valid JWT-SVID')
})

// Around it.

test('no sources: nothing is exchanged', async () => {
  expect(await rejection(jwt(await testServer(), await token()))).toBe(
    'UNIMPLEMENTED: no sources of tokens are configured',
  )
})

test('a token that fits two sources needs the name of one', async () => {
  const at = await testServer({ exchange: [source(), source({ name: 'second' })] })
  const text = await token()
  expect(await rejection(jwt(at, text))).toBe('INVALID_ARGUMENT: the token fits several sources; name one')
  expect(await rejection(jwt(at, text, { source: 'second' }))).toContain('/spire/exchange/second')
  expect(await rejection(jwt(at, text, { source: 'third' }))).toBe('INVALID_ARGUMENT: there is no source "third"')
})

test('logs say where an SVID came from, and never have the token', async () => {
  const lines: string[] = []
  const write = (fields: LogFields) => (message: string, more?: LogFields) =>
    void lines.push(JSON.stringify({ message, ...fields, ...more }))
  const logOf = (fields: LogFields): Log => {
    const line = write(fields)
    return {
      debug: line,
      info: line,
      warn: line,
      error: line,
      child: (more: LogFields) => logOf({ ...fields, ...more }),
    } as unknown as Log
  }
  const at = await server({ log: logOf({}) })
  const text = await token()
  const { svid } = await jwt(at, text)
  await rejection(jwt(at, text))
  const hash = createHash('sha256').update(text).digest('base64url')
  const [issued, refused] = [
    lines.find((line) => line.includes('Token was exchanged')),
    lines.find((line) => line.includes('Token was not exchanged')),
  ]
  for (const part of [
    hash,
    issuer.url,
    'repo:octo-org/octo-repo:environment:prod',
    'spiffe://example.org/ci/deploy',
    '"entry_id"',
  ]) {
    expect(issued).toContain(part)
    expect(refused).toContain(part)
  }
  for (const secret of [...text.split('.').slice(1), svid!.token.split('.')[2]!])
    expect(lines.join('\n')).not.toContain(secret)
})

test('what breaks in the store stays in the log, and the token stays good', async () => {
  const at = await server()
  const text = await token()
  const uses = at.store.uses as { take: TestServer['store']['uses']['take'] }
  const take = uses.take
  for (const error of [new Error('D1_ERROR: detail'), new StatusError('INTERNAL', 'datastore-sql: detail')]) {
    uses.take = async () => {
      throw error
    }
    expect(await rejection(jwt(at, text))).toBe('INTERNAL: failed to exchange the token')
  }
  uses.take = take
  expect(await rejection(jwt(at, text))).toBe('OK')
})

test('two clusters whose issuers and token ids are the same do not use up the tokens of each other', async () => {
  const clusters = await Promise.all(['blue', 'green'].map(() => generateKeyPair('ES256')))
  const iss = 'https://kubernetes.default.svc'
  const at = await testServer({
    exchange: await Promise.all(
      clusters.map(async ({ publicKey }, index) => ({
        name: `cluster-${index}`,
        type: 'oidc',
        audience: AUDIENCE,
        issuer: iss,
        jwks: { keys: [{ ...(await exportJWK(publicKey)), kid: 'k', use: 'sig' }] },
        claims: ['sub'],
        allow: { sub: ['web'] },
      })),
    ),
  })
  const parents = clusters.map((_, index) => spiffeId(TD, `/spire/exchange/cluster-${index}`))
  await at.store.entries.create(
    parents.map((parentId) => entryOf({ parentId, selectors: [{ type: 'oidc', value: 'sub:web' }] })),
    AT,
  )
  const claims = { iss, sub: 'web', aud: AUDIENCE, jti: 'one', iat: AT - 5, exp: AT + 300 }
  for (const [index, { privateKey }] of clusters.entries()) {
    const text = await new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'k' }).sign(privateKey)
    await jwt(at, text, { source: `cluster-${index}` })
    expect(await rejection(jwt(at, text, { source: `cluster-${index}` }))).toContain('was used before')
  }
})

test('SVIDs of this trust domain are no tokens for SVIDs, whatever keys a source has', async () => {
  const at = await server()
  const text = await token({ sub: `spiffe://${TD}/w` })
  expect(await rejection(jwt(at, text))).toBe('UNAUTHENTICATED: the token is an SVID of this trust domain')
})
