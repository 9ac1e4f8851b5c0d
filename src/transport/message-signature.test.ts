import { generateKeyPairSync, sign } from 'node:crypto'
import { expect, test } from 'vitest'
import { rejection } from '../../test/support/server.ts'
import { parsePublicKey } from '../core/public-key.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import {
  type Credential,
  checkDigest,
  checkRequest,
  checkSignature,
  checkWindow,
  contentDigest,
  isClockSkew,
  parseSignatureInput,
  requireComponents,
  signWith,
  tagOf,
  textParam,
  timesOf,
} from './message-signature.ts'

const NOW = 1_800_000_000
const AUDIENCE = 'https://server.example.org'
const signer = await generateSigner('ec-p256')
const credential: Credential = { tag: 'test', headers: { 'x-key': 'k' }, signer }
const profile = { tag: 'test', credentialHeaders: ['x-key'] }
const key = parsePublicKey(signer.publicKey)
const verify = nodeVerifier()

function message() {
  return {
    method: 'POST',
    target: '/a/B?c',
    headers: new Headers({ 'content-type': 'application/proto' }),
    body: new TextEncoder().encode('body'),
  }
}

async function signed(changes: { audience?: string; now?: number; nonce?: string } = {}) {
  const request = message()
  const headers = await signWith(request, credential, { audience: AUDIENCE, now: NOW, nonce: 'n', ...changes })
  for (const [name, value] of Object.entries(headers)) request.headers.set(name, value)
  return request
}

/** What becomes of a signed request whose signature input was changed before it was looked at. */
async function outcome(change: (input: string) => string, now = NOW): Promise<string> {
  const request = await signed()
  request.headers.set('signature-input', change(request.headers.get('signature-input')!))
  return rejection(
    (async () => {
      const { base } = checkRequest(request, profile, { audiences: ['https://x', AUDIENCE], now })
      await checkSignature(request.headers, base, key, verify)
    })(),
  )
}

test('what was signed is what is verified', async () => {
  expect(await outcome((input) => input)).toBe('OK')
  expect(checkRequest(await signed({ nonce: 'abc' }), profile, { audiences: [AUDIENCE], now: NOW }).nonce).toBe('abc')
})

const times = (created: number, expires: number) => (input: string) =>
  input.replace(/created=\d+;expires=\d+/, `created=${created};expires=${expires}`)

test.each<[string, (input: string) => string, RegExp]>([
  ['another tag', (v) => v.replace('tag="test"', 'tag="other"'), /another profile/],
  ['no tag', (v) => v.replace(';tag="test"', ''), /another profile/],
  ['a tag that is a number', (v) => v.replace('tag="test"', 'tag=5'), /another profile/],
  ['a key id', (v) => `${v};keyid="k"`, /must not name an algorithm or a key/],
  ['an algorithm', (v) => `${v};alg="x"`, /must not name an algorithm or a key/],
  ['a time twice', (v) => `${v};created=${NOW}`, /repeats a parameter/],
  ['no time of making', (v) => v.replace(/;created=\d+/, ''), /has no times/],
  ['no end', (v) => v.replace(/;expires=\d+/, ''), /has no times/],
  ['a time in quotes', (v) => v.replace(/created=(\d+)/, 'created="$1"'), /has no times/],
  ['an end in quotes', (v) => v.replace(/expires=(\d+)/, 'expires="$1"'), /has no times/],
  ['an end before its time', times(NOW, NOW - 1), /lives too long/],
  ['an end at its time', times(NOW, NOW), /lives too long/],
  ['five minutes and a second', times(NOW, NOW + 301), /lives too long/],
  ['five minutes', times(NOW, NOW + 300), /does not verify/],
  ['a second', times(NOW, NOW + 1), /does not verify/],
  ['no audience', (v) => v.replace(/;wimse-aud="[^"]*"/, ''), /has no wimse-aud/],
  ['an empty audience', (v) => v.replace(/;wimse-aud="[^"]*"/, ';wimse-aud=""'), /has no wimse-aud/],
  [
    'another audience',
    (v) => v.replace(/wimse-aud="[^"]*"/, 'wimse-aud="https://server.example.org/"'),
    /not this server/,
  ],
  ['no nonce', (v) => v.replace(/;nonce="[^"]*"/, ''), /has no nonce/],
  ['another nonce', (v) => v.replace('nonce="n"', 'nonce="m"'), /does not verify/],
  ['another order', (v) => v.replace('"@method" "@request-target"', '"@request-target" "@method"'), /does not verify/],
  [
    'a component more',
    (v) => v.replace('"@method"', '"@method" "date"'),
    /covers "date", which this profile does not know/,
  ],
  ['no credential', (v) => v.replace(' "x-key"', ''), /does not cover "x-key"/],
  ['no method', (v) => v.replace('"@method" ', ''), /does not cover "@method"/],
  ['another label', (v) => v.replace('wimse=', 'sig1='), /malformed/],
  ['two signatures', (v) => `${v}, ${v}`, /malformed/],
  ['text before it', (v) => `x${v}`, /malformed/],
  ['text after it', (v) => `${v}x`, /malformed/],
  ['a component in capitals', (v) => v.replace('"x-key"', '"X-Key"'), /malformed/],
  ['a parameter without value', (v) => `${v};x`, /malformed/],
  ['a number of 16 digits', (v) => `${v};x=1234567890123456`, /malformed/],
  ['a quote in a value', (v) => `${v};x="a\\"b"`, /malformed/],
  ['a letter beyond ASCII', (v) => `${v};x="\xe4"`, /malformed/],
  ['an unknown parameter', (v) => `${v};x=123456789012345`, /does not verify/],
  ['too much text', (v) => `${v};x="${'a'.repeat(4096)}"`, /too long/],
])('a signature with %s is refused', async (_, change, reason) => {
  expect(await outcome(change)).toMatch(/^UNAUTHENTICATED: /)
  expect(await outcome(change)).toMatch(reason)
})

test.each([
  [-31, false],
  [-30, true],
  [0, true],
  [90, true],
  [91, false],
])('a signature of a minute is taken at its time and half a minute around it: %i: %s', async (seconds, taken) => {
  const found = await outcome((input) => input, NOW + seconds)
  if (taken) expect(found).toBe('OK')
  else
    expect(found).toBe(
      `UNAUTHENTICATED: the signature is not valid at this time; the server's time is ${NOW + seconds}`,
    )
})

test('a wrong clock is told from other refusals', async () => {
  const { values } = parseSignatureInput((await signed()).headers.get('signature-input'), 'test')
  expect(timesOf(values)).toEqual({ created: NOW, expires: NOW + 60 })
  const errorOf = (run: () => void) => {
    try {
      run()
    } catch (error) {
      return error as Parameters<typeof isClockSkew>[0]
    }
    throw new Error('no error')
  }
  expect(isClockSkew(errorOf(() => checkWindow(values, NOW + 1000)))).toBe(true)
  expect(isClockSkew(errorOf(() => textParam(values, 'none')))).toBe(false)
  expect(textParam(values, 'nonce')).toBe('n')
})

test('a message that is not signed is refused, and of no profile', () => {
  expect(() => parseSignatureInput(null, 'test')).toThrow('the message is not signed')
  expect(tagOf(new Headers())).toBeUndefined()
  expect(tagOf(new Headers({ 'signature-input': 'wimse=("@method");tag="a b"' }))).toBe('a b')
})

test('what a signature covers must be there', async () => {
  const request = await signed()
  request.headers.delete('x-key')
  expect(await rejection((async () => checkRequest(request, profile, { audiences: [AUDIENCE], now: NOW }))())).toBe(
    'UNAUTHENTICATED: the signature covers "x-key", which is not there',
  )
  expect(() => requireComponents(['a', 'b'], ['b', 'a'])).not.toThrow()
})

test('the digest is of the very body, by SHA-256 alone', async () => {
  const request = await signed()
  expect(await rejection(checkDigest(request))).toBe('OK')
  const mismatch = 'UNAUTHENTICATED: the content digest does not match the body'
  expect(await rejection(checkDigest({ ...request, body: new Uint8Array(0) }))).toBe(mismatch)
  for (const digest of [
    await contentDigest(request.body, 'sha-512'),
    `${await contentDigest(request.body)}, sha-512=:AA==:`,
    '',
  ]) {
    request.headers.set('content-digest', digest)
    expect(await rejection(checkDigest(request))).toBe(mismatch)
  }
  request.headers.delete('content-digest')
  expect(await rejection(checkDigest(request))).toBe(mismatch)
})

const base = new TextEncoder().encode('base')
const textOf = (signature: Uint8Array) => `wimse=:${Buffer.from(signature).toString('base64')}:`
const check = (text: string | undefined, own = key) =>
  rejection(checkSignature(new Headers(text === undefined ? {} : { signature: text }), base, own, verify))

test('a signature has one form', async () => {
  const good = textOf(await signer.sign(base))
  expect(await check(good)).toBe('OK')
  const malformed = 'UNAUTHENTICATED: the signature is malformed'
  for (const text of [
    undefined,
    '',
    good.slice(0, -1),
    `x${good}`,
    `${good}x`,
    good.replace('wimse', 'sig1'),
    good.replace('==', ''),
    good.replace('A', '-').replace('wimse=:', 'wimse=:-'),
    `wimse=:${'A'.repeat(1396)}:`,
  ])
    expect(await check(text)).toBe(malformed)
  expect(await check(`wimse=:${'A'.repeat(1392)}:`)).toBe('UNAUTHENTICATED: the signature does not verify')
})

test.each([
  ['P-256', 'sha256', 'OK'],
  ['P-256', 'sha384', 'does not verify'],
  ['P-384', 'sha384', 'OK'],
  ['P-384', 'sha256', 'does not verify'],
  ['P-521', 'sha512', 'does not verify'],
])('a key on %s signs with %s: %s', async (namedCurve, hash, wanted) => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve })
  const own = parsePublicKey(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })))
  expect(await check(textOf(sign(hash, base, { key: privateKey, dsaEncoding: 'ieee-p1363' })), own)).toContain(wanted)
})

test.each([
  [1024, 'does not verify'],
  [2048, 'OK'],
])('a key of RSA with %i bits: %s', async (modulusLength, wanted) => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength })
  const own = parsePublicKey(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })))
  expect(await check(textOf(sign('sha256', base, privateKey)), own)).toContain(wanted)
})

test('a key of Ed25519 signs as there is but one way', async () => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const own = parsePublicKey(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })))
  expect(await check(textOf(sign(null, base, privateKey)), own)).toBe('OK')
  expect(await check(textOf(sign(null, new Uint8Array(1), privateKey)), own)).toContain('does not verify')
})
