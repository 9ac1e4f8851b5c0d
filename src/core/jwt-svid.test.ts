import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import * as peculiar from '@peculiar/webcrypto'
import fc from 'fast-check'
import { exportJWK, generateKeyPair, importJWK, jwtVerify, SignJWT } from 'jose'
import { expect, test } from 'vitest'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import type { JwtAuthority } from './bundle.ts'
import { bundleDocument, parseBundleDocument, workloadJwks } from './bundle-document.ts'
import { StatusError } from './error.ts'
import { jwkOf, spkiOfJwk } from './jwk.ts'
import { fitsJws, jwtSigner, signJwtSvid, validateJwtSvid } from './jwt-svid.ts'
import { parsePublicKey, webCryptoVerifier } from './public-key.ts'
import { parseSpiffeId } from './spiffe-id.ts'
import { parseTrustDomainName } from './trust-domain.ts'

const NOW = 1_800_000_000
const TD = parseTrustDomainName('example.org')
const sub = parseSpiffeId('spiffe://example.org/w')
const signer = await generateSigner('ec-p256')
const key = jwtSigner(signer, 'key-1')
const authority: JwtAuthority = { keyId: 'key-1', publicKey: signer.publicKey, expiresAt: 0, tainted: false }
const claims = { aud: ['a', 'b'], exp: NOW + 300, iat: NOW, sub }
const token = await signJwtSvid(claims, key)

const validate = (changes: Partial<Parameters<typeof validateJwtSvid>[0]> = {}) =>
  validateJwtSvid({
    token,
    audience: ['a'],
    authoritiesOf: (td) => (td === TD ? [authority] : undefined),
    at: NOW,
    verify: nodeVerifier(),
    ...changes,
  })

const HEADER = '{"alg":"ES256","kid":"key-1","typ":"JWT"}'
const CLAIMS = JSON.stringify(claims)
const ALGORITHM = { 'ec-p256': 'ES256', 'ec-p384': 'ES384', 'rsa-2048': 'RS256' } as const
const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token with these members, signed by our key. */
const made = (header: object, payload: object) =>
  signedText(
    JSON.stringify({ alg: 'ES256', kid: 'key-1', typ: 'JWT', ...header }),
    JSON.stringify({ ...claims, ...payload }),
  )

async function signedText(header: string, payload: string): Promise<string> {
  const input = `${Buffer.from(header).toString('base64url')}.${Buffer.from(payload).toString('base64url')}`
  return `${input}.${Buffer.from(await signer.sign(new TextEncoder().encode(input))).toString('base64url')}`
}

test.each(['ec-p256', 'ec-p384', 'rsa-2048'] as const)('jose verifies what a %s key signed', async (type) => {
  const own = await generateSigner(type)
  const jwt = await signJwtSvid({ ...claims, iss: 'https://issuer', jti: 'j' }, jwtSigner(own, 'k'))
  const { payload, protectedHeader } = await jwtVerify(
    jwt,
    await importJWK(jwkOf(own.publicKey) as never, ALGORITHM[type]),
    {
      audience: 'b',
      currentDate: new Date(NOW * 1000),
    },
  )
  expect(payload).toEqual({ ...claims, iss: 'https://issuer', jti: 'j' })
  expect(protectedHeader).toEqual({ alg: ALGORITHM[type], kid: 'k', typ: 'JWT' })
})

test('members are in alphabetical order, as SPIRE writes them', () => {
  expect(Buffer.from(token.split('.')[1]!, 'base64url').toString()).toBe(
    `{"aud":["a","b"],"exp":${NOW + 300},"iat":${NOW},"sub":"spiffe://example.org/w"}`,
  )
})

test.each([
  ['node:crypto', nodeVerifier()],
  ['Web Crypto', webCryptoVerifier()],
  ['@peculiar/webcrypto', webCryptoVerifier(new peculiar.Crypto().subtle as unknown as SubtleCrypto)],
])('%s validates it', async (_, verify) => {
  expect(await validate({ verify })).toEqual({ spiffeId: sub, claims })
})

test.each(['ES256', 'ES384', 'RS256', 'RS512', 'PS256', 'PS384'])(
  'a token that jose signed with %s is valid',
  async (alg) => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
    const jwt = await new SignJWT({ aud: 'a' })
      .setProtectedHeader({ alg, kid: 'j' })
      .setSubject(sub)
      .setExpirationTime(NOW + 60)
      .sign(privateKey)
    const jwk = (await exportJWK(publicKey)) as Record<string, unknown>
    const authorities = [{ ...authority, keyId: 'j', publicKey: spkiOfJwk(jwk) }]
    expect((await validate({ token: jwt, authoritiesOf: () => authorities })).claims).toEqual({
      aud: ['a'],
      sub,
      exp: NOW + 60,
    })
  },
)

test.each<[string, () => Promise<string> | string, string]>([
  ['no token', () => 'x', 'unable to parse JWT token: go-jose/go-jose: compact JWS format must have three parts'],
  ['alg none', () => made({ alg: 'none' }, {}), 'unexpected signature algorithm "none"'],
  ['alg HS256', () => made({ alg: 'HS256' }, {}), 'unexpected signature algorithm "HS256"'],
  ['an inherited name as alg', () => made({ alg: 'constructor' }, {}), 'unexpected signature algorithm'],
  ['critical extensions', () => made({ crit: ['x'] }, {}), 'unsupported crit header'],
  ['no kid', () => made({ kid: undefined }, {}), 'token header missing key id'],
  ['no sub', () => made({}, { sub: undefined }), 'token missing subject claim'],
  ['no exp', () => made({}, { exp: undefined }), 'token missing exp claim'],
  [
    'a sub that is no SPIFFE ID',
    () => made({}, { sub: 'me' }),
    'token has in invalid subject claim: scheme is missing or invalid',
  ],
  [
    'another trust domain',
    () => made({}, { sub: 'spiffe://other.org/w' }),
    'no keys found for trust domain "other.org"',
  ],
  ['an unknown kid', () => made({ kid: 'zz' }, {}), 'public key "zz" not found in trust domain "example.org"'],
  ['another alg than the key has', () => made({ alg: 'ES384' }, {}), 'error in cryptographic primitive'],
  ['RSA alg with an EC key', () => made({ alg: 'RS256' }, {}), 'error in cryptographic primitive'],
  [
    'a changed payload',
    () => token.replace(/\.[^.]+\./, `.${part({ ...claims, sub: 'spiffe://example.org/admin' })}.`),
    'error in cryptographic primitive',
  ],
  ['another audience', () => made({}, { aud: ['x'] }), 'expected audience in ["a"] (audience=["x"])'],
  ['no audience', () => made({}, { aud: undefined }), 'expected audience in ["a"] (audience=[])'],
  ['an end in the past', () => made({}, { exp: NOW - 61 }), 'token has expired'],
  ['a start in the future', () => made({}, { nbf: NOW + 61 }), 'token not valid yet (nbf)'],
  ['an issue in the future', () => made({}, { iat: NOW + 61 }), 'token issued in the future (iat)'],
  ['an end that is no number', () => made({}, { exp: 'never' }), 'invalid exp claim'],
  ['the type of a WIT-SVID', () => made({ typ: 'wit+jwt' }, {}), 'token header type not equal to either JWT or JOSE'],
  ['the type of an access token', () => made({ typ: 'at+jwt' }, {}), 'token header type not equal to either'],
  ['its type in lower case', () => made({ typ: 'jwt' }, {}), 'token header type not equal to either'],
  ['an empty type', () => made({ typ: '' }, {}), 'token header type not equal to either'],
  ['a type that is no text', () => made({ typ: null }, {}), 'the type in its header is no text'],
  ['a key id twice', () => signedText(`{"kid":"other",${HEADER.slice(1)}`, CLAIMS), 'json: duplicate key in object'],
  ['an algorithm twice', () => signedText(`{"alg":"none",${HEADER.slice(1)}`, CLAIMS), 'json: duplicate key in object'],
  ['a subject twice', () => signedText(HEADER, `{"sub":"spiffe://example.org/a",${CLAIMS.slice(1)}`), 'duplicate key'],
  ['an end twice, once escaped', () => signedText(HEADER, `{"\\u0065xp":1,${CLAIMS.slice(1)}`), 'duplicate key'],
  ['a claim with a member twice', () => signedText(HEADER, `{"x":[{"a":1,"a":1}],${CLAIMS.slice(1)}`), 'duplicate key'],
  ['a mark of byte order', () => signedText(HEADER, `\ufeff${CLAIMS}`), 'unable to parse JWT token'],
])('%s is refused', async (_, make, message) => {
  await expect((async () => validate({ token: await make() }))()).rejects.toThrow(message)
})

test.each([{ typ: 'JWT' }, { typ: 'JOSE' }, { typ: undefined }])('a token with %o is valid', async (header) => {
  expect(await validate({ token: await made(header, {}) })).toEqual({ spiffeId: sub, claims })
})

test('a minute of leeway counts', async () => {
  await validate({ token: await made({}, { exp: NOW - 60, iat: NOW + 60, nbf: NOW + 60 }) })
})

test('a token is good under the key that it names, in the bundle of its trust domain, and under no other', async () => {
  const signers = await Promise.all(['ec-p256', 'ec-p256', 'ec-p384'].map((type) => generateSigner(type as 'ec-p256')))
  const domains = ['example.org', 'other.org', 'third.org'].map(parseTrustDomainName)
  const keyIds = ['a', 'b', 'c']
  const bundles = fc.array(
    fc.array(fc.record({ keyId: fc.constantFrom(...keyIds), by: fc.nat(2) }), { maxLength: 3 }),
    {
      minLength: 2,
      maxLength: 2,
    },
  )
  const tokens = fc.record({
    domain: fc.nat(2),
    keyId: fc.constantFrom(...keyIds),
    by: fc.nat(2),
    lateBy: fc.integer({ min: -2, max: 2 }),
  })
  let good = 0
  await fc.assert(
    fc.asyncProperty(bundles, fc.array(tokens, { minLength: 1, maxLength: 6 }), async (known, made) => {
      const authorities = known.map((keys) =>
        keys.map(({ keyId, by }) => ({ keyId, publicKey: signers[by]!.publicKey, expiresAt: 0, tainted: false })),
      )
      for (const { domain, keyId, by, lateBy } of made) {
        const subject = parseSpiffeId(`spiffe://${domains[domain]}/w`)
        // A minute of leeway.
        const exp = NOW - 60 - lateBy
        const text = await signJwtSvid({ ...claims, sub: subject, exp }, jwtSigner(signers[by]!, keyId))
        const named = known[domain]?.find((one) => one.keyId === keyId)
        const valid = named?.by === by && lateBy <= 0
        if (valid) good += 1
        const attempt = validate({ token: text, authoritiesOf: (td) => authorities[domains.indexOf(td)] })
        if (valid) expect((await attempt).spiffeId).toBe(subject)
        else await expect(attempt).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      }
    }),
    { numRuns: 200 },
  )
  expect(good).toBeGreaterThan(5)
})

test('whatever the token, it is refused with INVALID_ARGUMENT', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.string(),
        fc
          .tuple(fc.json(), fc.json())
          .map(([a, b]) => `${Buffer.from(a).toString('base64url')}.${Buffer.from(b).toString('base64url')}.AAAA`),
      ),
      async (text) => {
        await expect((async () => validate({ token: text }))()).rejects.toSatisfy(
          (error) => error instanceof StatusError && error.code === 'INVALID_ARGUMENT',
        )
      },
    ),
  )
})

test('a JWK is its SubjectPublicKeyInfo and back', async () => {
  for (const type of ['ec-p256', 'ec-p384', 'rsa-2048'] as const) {
    const { publicKey } = await generateSigner(type)
    expect(spkiOfJwk({ ...jwkOf(publicKey) })).toEqual(publicKey)
  }
})

test.each<[string, string, string]>([
  ['no use', '{"keys":[{"kty":"EC"}]}', 'missing use for key entry 0'],
  ['another use', '{"keys":[{"use":"enc"}]}', 'unrecognized use "enc" for key entry 0'],
  [
    'no certificate',
    '{"keys":[{"use":"x509-svid","x5c":[]}]}',
    'expected a single certificate in x509-svid entry 0; got 0',
  ],
  ['no kid', '{"keys":[{"use":"jwt-svid"}]}', 'missing key ID in jwt-svid entry 0'],
  ['no keys', '{}', 'no authorities found'],
  ['a list', '[]', 'a JSON object is expected'],
  ['its keys twice', '{"keys":[],"keys":[]}', 'json: duplicate key in object'],
  ['a use twice', '{"keys":[{"use":"jwt-svid","use":"x509-svid"}]}', 'json: duplicate key in object'],
])('a bundle document with %s is refused', (_, text, message) => {
  expect(() => parseBundleDocument(TD, text)).toThrow(message)
})

test('a bundle document is read as it was written', () => {
  const bundle = {
    trustDomain: TD,
    x509Authorities: [],
    jwtAuthorities: [authority],
    witAuthorities: [{ ...authority, keyId: 'wit-1' }],
    refreshHintSeconds: 60,
    sequenceNumber: 3,
  }
  expect(parseBundleDocument(TD, bundleDocument(bundle))).toEqual(bundle)
  expect(workloadJwks(bundle)).toMatch(
    /^\{\n {4}"keys": \[\n {8}\{\n {12}"kty": "EC",\n {12}"kid": "key-1",\n {12}"crv": "P-256",/,
  )
})

test('an algorithm fits keys of its kind, its curve and enough bits only', () => {
  const keyOf = (publicKey: KeyObject) =>
    parsePublicKey(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })))
  const ec = (namedCurve: string) => keyOf(generateKeyPairSync('ec', { namedCurve }).publicKey)
  const rsa = (modulusLength: number) => keyOf(generateKeyPairSync('rsa', { modulusLength }).publicKey)
  const keys = {
    'P-256': ec('P-256'),
    'P-384': ec('P-384'),
    'P-521': ec('P-521'),
    'RSA 1024': rsa(1024),
    'RSA 2040': rsa(2040),
    'RSA 2048': rsa(2048),
    Ed25519: keyOf(generateKeyPairSync('ed25519').publicKey),
  }
  const fitting = (algorithm: string) =>
    Object.entries(keys).flatMap(([name, one]) => (fitsJws(one, algorithm) ? [name] : []))
  expect(fitting('ES256')).toEqual(['P-256'])
  expect(fitting('ES384')).toEqual(['P-384'])
  expect(fitting('ES512')).toEqual(['P-521'])
  for (const algorithm of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'])
    expect(fitting(algorithm)).toEqual(['RSA 2048'])
  for (const algorithm of ['', 'none', 'HS256', 'EdDSA', 'constructor', '__proto__'])
    expect(fitting(algorithm)).toEqual([])
})

test.each<[string, object, object, string]>([
  ['an algorithm in a list', { alg: ['ES256'] }, {}, 'unexpected signature algorithm ["ES256"]'],
  ['an empty subject', {}, { sub: '' }, 'token missing subject claim'],
  ['a subject that is no text', {}, { sub: 5 }, 'token missing subject claim'],
  ['an end that is null', {}, { exp: null }, 'token missing exp claim'],
  ['a start that is text', {}, { nbf: '1' }, 'invalid nbf claim'],
  ['a time of issue that is a list', {}, { iat: [1] }, 'invalid iat claim'],
  ['an audience that is null', {}, { aud: null }, 'expected audience in ["a"] (audience=[])'],
  ['an audience that is a number', {}, { aud: 5 }, 'invalid aud claim'],
  ['an audience with a number in it', {}, { aud: ['a', 5] }, 'invalid aud claim'],
  ['an audience with a list in it', {}, { aud: [['a']] }, 'invalid aud claim'],
  ['an audience that begins alike', {}, { aud: ['ab', 'A'] }, 'expected audience in ["a"]'],
])('a token with %s is refused', async (_, header, payload, message) => {
  await expect(validate({ token: await made(header, payload) })).rejects.toThrow(message)
})

test('a token whose text is no UTF-8 or no base64url is refused', async () => {
  const [header, , signature] = token.split('.')
  const broken = Buffer.concat([
    Buffer.from(CLAIMS.slice(0, -1)),
    Buffer.from(',"x":"'),
    Buffer.of(0xff),
    Buffer.from('"}'),
  ])
  const input = `${header}.${broken.toString('base64url')}`
  const signed = Buffer.from(await signer.sign(new TextEncoder().encode(input))).toString('base64url')
  for (const text of [
    `${input}.${signed}`,
    `${header}.!.${signature}`,
    `${header}.${part(claims)}.!`,
    `${token}.`,
    `.${token}`,
  ])
    await expect((async () => validate({ token: text }))()).rejects.toThrow('unable to parse JWT token')
})

test('times that are null are as if they were not there', async () => {
  expect(await validate({ token: await made({}, { nbf: null, iat: null }) })).toMatchObject({ spiffeId: sub })
})

test('a token has at most 64 KiB, whatever is in it', async () => {
  const padded = async (length: number) => {
    const bare = (await made({}, { x: '' })).length
    // Three bytes are four letters.
    return made({}, { x: 'a'.repeat(Math.floor(((length - bare) * 3) / 4)) })
  }
  await expect(validate({ token: await padded(60_000) })).resolves.toMatchObject({ spiffeId: sub })
  await expect((async () => validate({ token: await padded(70_000) }))()).rejects.toThrow('must have three parts')
})
