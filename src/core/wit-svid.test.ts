import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { importJWK, jwtVerify } from 'jose'
import { expect, test } from 'vitest'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import type { JwtAuthority } from './bundle.ts'
import { StatusError } from './error.ts'
import { jwkOf } from './jwk.ts'
import { jwtSigner, signJwtSvid } from './jwt-svid.ts'
import { webCryptoVerifier } from './public-key.ts'
import { parseSpiffeId } from './spiffe-id.ts'
import { parseTrustDomainName } from './trust-domain.ts'
import { parseWitKey, requireKeySize, signWitSvid, validateWitSvid, type WitKey, witKeyOf } from './wit-svid.ts'

const NOW = 1_800_000_000
const TD = parseTrustDomainName('example.org')
const sub = parseSpiffeId('spiffe://example.org/w')
const signer = await generateSigner('ec-p256')
const key = jwtSigner(signer, 'wit-1', 'wit+jwt')
const authority: JwtAuthority = { keyId: 'wit-1', publicKey: signer.publicKey, expiresAt: 0, tainted: false }

const spkiOf = (curveOrBits: string | number) => {
  const { publicKey } =
    typeof curveOrBits === 'number'
      ? generateKeyPairSync('rsa', { modulusLength: curveOrBits })
      : curveOrBits === 'Ed25519'
        ? generateKeyPairSync('ed25519')
        : generateKeyPairSync('ec', { namedCurve: curveOrBits })
  return new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
}
const workload = spkiOf('P-256')
const jwk = witKeyOf(parseWitKey(workload), 'ES256')
const claims = { jwk, exp: NOW + 3600, iat: NOW, sub }
const token = await signWitSvid(claims, key)

const validate = (changes: Partial<Parameters<typeof validateWitSvid>[0]> = {}) =>
  validateWitSvid({
    token,
    authoritiesOf: (td) => (td === TD ? [authority] : undefined),
    at: NOW,
    verify: nodeVerifier(),
    ...changes,
  })

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token with these members, signed by our key. */
async function made(header: object, payload: object): Promise<string> {
  const input = `${part({ alg: 'ES256', kid: 'wit-1', typ: 'wit+jwt', ...header })}.${part({ cnf: { jwk }, exp: NOW + 60, sub, ...payload })}`
  return `${input}.${Buffer.from(await signer.sign(new TextEncoder().encode(input))).toString('base64url')}`
}

test('jose verifies a WIT-SVID and finds the key in it', async () => {
  const { payload, protectedHeader } = await jwtVerify(
    token,
    await importJWK(jwkOf(signer.publicKey) as never, 'ES256'),
    {
      typ: 'wit+jwt',
      currentDate: new Date(NOW * 1000),
    },
  )
  expect(protectedHeader).toEqual({ alg: 'ES256', kid: 'wit-1', typ: 'wit+jwt' })
  expect(payload).toEqual({ cnf: { jwk: { ...jwkOf(workload), alg: 'ES256' } }, exp: NOW + 3600, iat: NOW, sub })
})

test('members are in the order in which SPIRE writes them', () => {
  const [header, payload] = token.split('.').map((segment) => Buffer.from(segment, 'base64url').toString())
  expect(header).toBe('{"alg":"ES256","kid":"wit-1","typ":"wit+jwt"}')
  expect(payload).toBe(
    `{"cnf":{"jwk":{"kty":"EC","crv":"P-256","alg":"ES256","x":"${jwk.x}","y":"${jwk.y}"}},"exp":${NOW + 3600},"iat":${NOW},"sub":"spiffe://example.org/w"}`,
  )
})

test.each([
  ['node:crypto', nodeVerifier()],
  ['Web Crypto', webCryptoVerifier()],
])('a WIT-SVID is valid with its authority until it ends, verified by %s', async (_, verify) => {
  const valid = await validate({ verify })
  expect(valid).toMatchObject({ spiffeId: sub, algorithm: 'ES256', expiresAt: NOW + 3600 })
  expect(valid.key.spki).toEqual(workload)
  await expect(validate({ verify, at: NOW + 3599 })).resolves.toBeDefined()
  await expect(validate({ verify, at: NOW + 3600 })).rejects.toThrow('token has expired')
})

test.each([
  ['P-256', 'ES256', 'ES384', 'ec-p256'],
  ['P-384', 'ES384', 'ES256', 'ec-p384'],
  ['P-521', 'ES512', 'ES256', 'ec-p521'],
  [2048, 'RS256', 'ES256', 'RSA'],
  [2048, 'PS512', 'HS256', 'RSA'],
] as const)('a key on %s takes %s and not %s', async (kind, algorithm, wrong, name) => {
  const spki = spkiOf(kind)
  const bound = witKeyOf(parseWitKey(spki), algorithm)
  const valid = await validate({ token: await signWitSvid({ ...claims, jwk: bound }, key) })
  expect(valid.algorithm).toBe(algorithm)
  expect(valid.key.spki).toEqual(spki)
  expect(() => witKeyOf(parseWitKey(spki), wrong)).toThrow(`unsupported signing algorithm for ${name} key: ${wrong}`)
})

test('keys that no WIT-SVID should carry are refused', () => {
  expect(() => witKeyOf(parseWitKey(spkiOf('Ed25519')), 'EdDSA')).toThrow("unsupported key type 'ed25519.PublicKey'")
  expect(() => witKeyOf(parseWitKey(spkiOf(1024)), 'RS256')).toThrow('RSA key has 1024 bits')
  const offCurve = workload.slice()
  offCurve[offCurve.length - 1]! ^= 1
  expect(() => parseWitKey(offCurve)).toThrow('failed to unmarshal elliptic curve point')
  expect(() => parseWitKey(workload.subarray(0, 40))).toThrow()
})

const offCurveJwk = { ...jwk, y: Buffer.alloc(32, 1).toString('base64url') }
test.each([
  ['a JWT-SVID', { typ: 'JWT' }, {}, 'token type is not "wit+jwt"'],
  ['no type', { typ: undefined }, {}, 'token type is not'],
  ['no key id', { kid: undefined }, {}, 'token header missing key id'],
  ['another key id', { kid: 'other' }, {}, 'public key "other" not found in trust domain "example.org"'],
  ['algorithm none', { alg: 'none' }, {}, 'unexpected signature algorithm'],
  ['an algorithm of another curve', { alg: 'ES384' }, {}, 'token has an invalid signature'],
  ['an algorithm of another kind', { alg: 'RS256' }, {}, 'token has an invalid signature'],
  ['a critical header', { crit: ['x'] }, {}, 'unsupported crit header'],
  ['no subject', {}, { sub: undefined }, 'token missing subject claim'],
  ['a subject that is no SPIFFE ID', {}, { sub: 'https://example.org' }, 'token has an invalid subject claim'],
  ['a subject of an unknown trust domain', {}, { sub: 'spiffe://other.org/w' }, 'no keys found for trust domain'],
  ['no end', {}, { exp: undefined }, 'token missing exp claim'],
  ['an end that is text', {}, { exp: '9999999999' }, 'token missing exp claim'],
  ['an end in the past', {}, { exp: NOW }, 'token has expired'],
  ['a start in the future', {}, { nbf: NOW + 1 }, 'token not valid yet'],
  ['no confirmation', {}, { cnf: undefined }, 'token missing cnf.jwk claim'],
  ['a confirmation by thumbprint', {}, { cnf: { jkt: 'x' } }, 'token missing cnf.jwk claim'],
  ['a key without algorithm', {}, { cnf: { jwk: { ...jwk, alg: undefined } } }, 'token missing cnf.jwk claim'],
  ['a key with a foreign algorithm', {}, { cnf: { jwk: { ...jwk, alg: 'ES384' } } }, 'unsupported signing algorithm'],
  ['a private key', {}, { cnf: { jwk: { ...jwk, d: 'AA' } } }, 'token has a private key in its cnf claim'],
  ['a shared secret', {}, { cnf: { jwk: { kty: 'oct', k: 'AA', alg: 'HS256' } } }, 'token has a private key'],
  ['a point off its curve', {}, { cnf: { jwk: offCurveJwk } }, 'token has an invalid key in its cnf claim'],
])('a token with %s is refused', async (_, header, payload, reason) => {
  const error = await validate({ token: await made(header, payload) }).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(StatusError)
  expect(String(error)).toContain(reason)
})

test('a JWT-SVID of the same trust domain is no WIT-SVID, even by the same key', async () => {
  const jwt = await signJwtSvid({ aud: ['a'], exp: NOW + 60, iat: NOW, sub }, jwtSigner(signer, 'wit-1'))
  await expect(validate({ token: jwt })).rejects.toThrow('token type is not')
})

test('a changed byte anywhere makes it invalid', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(token.length - 1), fc.constantFrom('A', 'z', '0', '_'), async (at, letter) => {
      if (token[at] === letter || token[at] === '.') return
      const changed = `${token.slice(0, at)}${letter}${token.slice(at + 1)}`
      // The last letter of a segment holds bits that mean nothing.
      if (
        Buffer.from(changed.split('.')[2]!, 'base64url').equals(Buffer.from(token.split('.')[2]!, 'base64url')) &&
        at > token.lastIndexOf('.')
      )
        return
      await expect(validate({ token: changed })).rejects.toBeInstanceOf(StatusError)
    }),
    { numRuns: 100 },
  )
})

test('whatever comes in, the answer is a StatusError', async () => {
  const anything = fc.oneof(fc.string(), fc.jsonValue())
  await fc.assert(
    fc.asyncProperty(anything, fc.jsonValue(), async (cnf, sub) => {
      await expect(validate({ token: await made({}, { cnf, sub }) })).rejects.toBeInstanceOf(StatusError)
      await expect(
        validate({ token: await made({}, { cnf: { jwk: cnf } as { jwk: unknown } & WitKey }) }),
      ).rejects.toBeInstanceOf(StatusError)
    }),
    { numRuns: 50 },
  )
})

test.each<[string, object, string]>([
  ['an empty subject', { sub: '' }, 'token missing subject claim'],
  ['a subject that is no text', { sub: [sub] }, 'token missing subject claim'],
  ['an end that is null', { exp: null }, 'token missing exp claim'],
  ['a start that is text', { nbf: '1' }, 'token not valid yet'],
  ['a start that is null', { nbf: null }, 'token not valid yet'],
  ['a key that is null', { cnf: { jwk: null } }, 'token missing cnf.jwk claim'],
  ['a key that is text with an algorithm', { cnf: { jwk: 'ES256' } }, 'token missing cnf.jwk claim'],
  ['a key in a list', { cnf: [{ jwk }] }, 'token missing cnf.jwk claim'],
  ['an algorithm that is no text', { cnf: { jwk: { ...jwk, alg: ['ES256'] } } }, 'token missing cnf.jwk claim'],
])('a token with %s is refused', async (_, payload, message) => {
  await expect(validate({ token: await made({}, payload) })).rejects.toThrow(message)
})

test('a token is valid from the second in which it starts', async () => {
  expect(await validate({ token: await made({}, { nbf: NOW }) })).toMatchObject({ spiffeId: sub })
  expect(await validate({ token: await made({}, { nbf: NOW - 1 }) })).toMatchObject({ spiffeId: sub })
})

test('RSA keys have from 2048 to 8192 bits; keys of other kinds have no such bounds', () => {
  const rsa = parseWitKey(spkiOf(2048))
  if (rsa.kind !== 'rsa') throw new Error('no RSA key')
  for (const bits of [2048, 3072, 8192]) expect(() => requireKeySize({ ...rsa, bits })).not.toThrow()
  for (const bits of [1024, 2047, 8193, 16_384])
    expect(() => requireKeySize({ ...rsa, bits })).toThrow(`RSA key has ${bits} bits; 2048 to 8192 are allowed`)
  expect(() => requireKeySize(parseWitKey(workload))).not.toThrow()
  expect(() => requireKeySize({ ...parseWitKey(workload), bits: 1 } as never)).not.toThrow()
  expect(Object.keys(witKeyOf(rsa, 'RS256'))).not.toContain('crv')
})
