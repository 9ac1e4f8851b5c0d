import { expect, test } from 'vitest'
import { rejection } from '../../test/support/server.ts'
import { base64Url } from '../core/base64.ts'
import { jwkOf, jwkThumbprint } from '../core/jwk.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { signWith } from './message-signature.ts'
import { isOperatorTag, operatorCredential, verifyOperatorRequest } from './operator-signature.ts'

const NOW = 1_800_000_000
const AUDIENCE = 'https://server.example.org'
const signer = await generateSigner('ec-p256')
const other = await generateSigner('ec-p256')
const thumbprint = await jwkThumbprint(signer.publicKey)
const check = { audiences: [AUDIENCE], now: NOW, verify: nodeVerifier(), thumbprints: ['another', thumbprint] }

/** A request that this key signed, which names a key in its header. */
async function request(signedBy = signer, names?: string) {
  const credential = operatorCredential(signedBy)
  const headers = names === undefined ? credential.headers : { ...credential.headers, 'operator-key': names }
  const message = {
    method: 'POST',
    target: '/a',
    headers: new Headers({ 'content-type': 'application/proto' }),
    body: new Uint8Array(0),
  }
  const added = await signWith(message, { ...credential, headers }, { audience: AUDIENCE, now: NOW, nonce: 'n' })
  for (const [name, value] of Object.entries(added)) message.headers.set(name, value)
  return message
}
const headerOf = (value: unknown) =>
  base64Url(new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value)))
const jwk = jwkOf(signer.publicKey)

test('an operator is who signs with a key that the server was told of', async () => {
  expect(await verifyOperatorRequest(await request(), check)).toBe(thumbprint)
  expect(isOperatorTag('turret-operator-key')).toBe(true)
  for (const tag of [undefined, '', 'turret-operator', 'wimse-workload-to-workload'])
    expect(isOperatorTag(tag)).toBe(false)
})

test.each<[string, () => ReturnType<typeof request>, string]>([
  ['another key', () => request(other), 'the key is no operator of this server'],
  ['the name of a key that another one used', () => request(other, headerOf(jwk)), 'the signature does not verify'],
  ['no JSON', () => request(signer, headerOf('x')), 'the operator key is malformed'],
  ['null', () => request(signer, headerOf(null)), 'the operator key is malformed'],
  ['text', () => request(signer, headerOf('"x"')), 'the operator key is malformed'],
  ['a list', () => request(signer, headerOf([jwk])), 'the operator key is malformed'],
  ['a private key', () => request(signer, headerOf({ ...jwk, d: 'AA' })), 'the operator key is malformed'],
  [
    'a member twice',
    () => request(signer, headerOf(`{"kty":"RSA",${JSON.stringify(jwk).slice(1)}`)),
    'the operator key is malformed',
  ],
  ['no base64url', () => request(signer, '!'), 'the operator key is malformed'],
  [
    'too long a key',
    () => request(signer, headerOf({ ...jwk, x5c: 'A'.repeat(4096) })),
    'the operator key is missing or too long',
  ],
])('a request with %s is refused', async (_, make, message) => {
  expect(await rejection(verifyOperatorRequest(await make(), check))).toBe(`UNAUTHENTICATED: ${message}`)
})

test('where there are no operators, nobody is one', async () => {
  expect(await rejection(verifyOperatorRequest(await request(), { ...check, thumbprints: [] }))).toBe(
    'UNAUTHENTICATED: the key is no operator of this server',
  )
  for (const near of [thumbprint.slice(0, -1), `${thumbprint}A`, thumbprint.toUpperCase(), ''])
    expect(await rejection(verifyOperatorRequest(await request(), { ...check, thumbprints: [near] }))).toMatch(
      /no operator/,
    )
})

test('a signature for another server, or at another time, is no operator here', async () => {
  expect(await rejection(verifyOperatorRequest(await request(), { ...check, audiences: ['https://x'] }))).toMatch(
    /not this server/,
  )
  expect(await rejection(verifyOperatorRequest(await request(), { ...check, now: NOW + 1000 }))).toMatch(
    /not valid at this time/,
  )
})
