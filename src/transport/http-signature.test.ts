import { expect, test } from 'vitest'
import type { KeyType } from '../core/key-type.ts'
import { verifyX509Svid } from '../core/path-validation.ts'
import { subjectKeyId, webCryptoVerifier } from '../core/public-key.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { issuerOf, randomSerial, SVID_SUBJECT, signCertificate } from '../core/x509-svid.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { selfSignCa } from '../server/ca.ts'
import { signResponse, verifyRequest, verifyResponse, x509Credential } from './http-signature.ts'
import { checkDigest, type HttpMessage, signWith } from './message-signature.ts'

const NOW = 1_800_000_000
const AUDIENCE = 'https://server.example.org'
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)
const trustDomain = parseTrustDomainName('example.org')
const verify = nodeVerifier()

const ca = await selfSignCa({
  trustDomain,
  signer: await generateSigner('ec-p256'),
  subject: { organization: ['SPIFFE'] },
  notAfter: NOW + 3600,
  now: NOW,
  random,
})

async function identity(uri = 'spiffe://example.org/agent', keyType: KeyType = 'ec-p256') {
  const signer = await generateSigner(keyType)
  const der = await signCertificate(
    {
      kind: 'svid',
      serial: randomSerial(random),
      subject: SVID_SUBJECT,
      spki: signer.publicKey,
      notBefore: NOW - 10,
      notAfter: NOW + 600,
      uri,
    },
    issuerOf(ca.signer, ca.certificate.subject, subjectKeyId(ca.signer.publicKey)),
  )
  return { chain: [der], signer }
}

const verifyChain = async (chain: readonly Uint8Array[]) => {
  await verifyX509Svid({ chain, rootsOf: () => [ca.certificate], at: NOW, verify })
}
const check = { audiences: [AUDIENCE], now: NOW, verify, verifyChain }

function message(changes: Partial<HttpMessage> = {}): HttpMessage {
  return {
    method: 'POST',
    target: '/spire.api.server.svid.v1.SVID/NewJWTSVID',
    headers: new Headers({ 'content-type': 'application/proto' }),
    body: new TextEncoder().encode('body'),
    ...changes,
  }
}

async function signed(options: { audience?: string; now?: number; nonce?: string; keyType?: KeyType } = {}) {
  const request = message()
  const headers = await signWith(request, x509Credential(await identity(undefined, options.keyType)), {
    audience: options.audience ?? AUDIENCE,
    now: options.now ?? NOW,
    nonce: options.nonce ?? 'nonce-0123456789',
  })
  for (const [name, value] of Object.entries(headers)) request.headers.set(name, value)
  return request
}

test.each(['ec-p256', 'ec-p384', 'rsa-2048'] as const)('a request signed with a %s key verifies', async (keyType) => {
  const verified = await verifyRequest(await signed({ keyType }), check)
  expect(verified.nonce).toBe('nonce-0123456789')
  expect(verified.leaf.uris).toEqual(['spiffe://example.org/agent'])
})

test('Web Crypto verifies what node:crypto signed', async () => {
  await verifyRequest(await signed(), { ...check, verify: webCryptoVerifier() })
})

const replaced = (name: string, change: (value: string) => string) => (request: HttpMessage) => {
  request.headers.set(name, change(request.headers.get(name)!))
  return request
}

test.each<[string, (request: HttpMessage) => HttpMessage | Promise<HttpMessage>, string]>([
  ['another body', (r) => ({ ...r, body: new TextEncoder().encode('bodY') }), 'content digest'],
  ['another path', (r) => ({ ...r, target: '/spire.api.server.svid.v1.SVID/MintX509SVID' }), 'does not verify'],
  ['another method', (r) => ({ ...r, method: 'PUT' }), 'does not verify'],
  ['another content type', replaced('content-type', () => 'application/json'), 'does not verify'],
  ['another audience', () => signed({ audience: 'https://other.example.org' }), 'audience'],
  ['a signature from the past', () => signed({ now: NOW - 91 }), `the server's time is ${NOW}`],
  ['a signature from the future', () => signed({ now: NOW + 31 }), `the server's time is ${NOW}`],
  [
    'a longer life',
    replaced('signature-input', (v) => v.replace(/expires=\d+/, `expires=${NOW + 100000}`)),
    'lives too long',
  ],
  ['an algorithm of its own', replaced('signature-input', (v) => `${v};alg="hmac-sha256"`), 'must not name'],
  [
    'a component left out',
    replaced('signature-input', (v) => v.replace(' "content-digest"', '')),
    'does not cover "content-digest"',
  ],
  [
    'a repeated component',
    replaced('signature-input', (v) => v.replace('"@method"', '"@method" "@method"')),
    'repeats a component',
  ],
  ['a repeated parameter', replaced('signature-input', (v) => `${v};created=${NOW}`), 'repeats a parameter'],
  ['a label of another kind', replaced('signature-input', (v) => v.replace('wimse=', 'sig1=')), 'malformed'],
  ['blanks where none belong', replaced('signature-input', (v) => v.replace(';created', '; created')), 'malformed'],
  ['a signature that is none', replaced('signature', () => 'wimse=:AAAA:'), 'does not verify'],
  [
    'no signature',
    (r) => {
      r.headers.delete('signature')
      return r
    },
    'malformed',
  ],
  ['a certificate that is none', replaced('client-cert', () => ':AAAA:'), 'malformed certificate'],
  [
    'a chain that was not signed',
    (r) => {
      r.headers.set('client-cert-chain', r.headers.get('client-cert')!)
      return r
    },
    'does not cover "client-cert-chain"',
  ],
])('a request with %s is refused', async (_, change, reason) => {
  const request = await change(await signed())
  const verified = verifyRequest(request, check).then(() => checkDigest(request))
  await expect(verified).rejects.toThrow(reason)
})

test("somebody else's certificate does not make one of them", async () => {
  const request = await signed()
  const other = await signWith(message(), x509Credential(await identity('spiffe://example.org/admin')), {
    audience: AUDIENCE,
    now: NOW,
    nonce: 'n-0123456789012345',
  })
  request.headers.set('client-cert', other['client-cert']!)
  await expect(verifyRequest(request, check)).rejects.toThrow('does not verify')
})

test('an answer is bound to its request and its status', async () => {
  const request = {
    method: 'POST',
    target: '/x',
    headers: new Headers({ signature: 'wimse=:AA==:' }),
    nonce: 'nonce-of-request',
  }
  const body = new TextEncoder().encode('answer')
  const headers = new Headers({
    'content-type': 'application/proto',
    ...(await signResponse(
      request,
      { status: 200, contentType: 'application/proto', body },
      await identity('spiffe://example.org/spire/server'),
      NOW,
    )),
  })
  const response = { status: 200, headers, body }
  const responseCheck = { verify, verifyChain }
  expect(await verifyResponse(request, response, responseCheck)).toBe(NOW)
  await expect(verifyResponse({ ...request, nonce: 'another' }, response, responseCheck)).rejects.toThrow(
    'another request',
  )
  await expect(verifyResponse({ ...request, target: '/y' }, response, responseCheck)).rejects.toThrow('does not verify')
  const somebodyElses = { ...request, headers: new Headers({ signature: 'wimse=:AQ==:' }) }
  await expect(verifyResponse(somebodyElses, response, responseCheck)).rejects.toThrow('does not verify')
  const unsigned = { ...request, headers: new Headers() }
  await expect(verifyResponse(unsigned, response, responseCheck)).rejects.toThrow('does not know')
  await expect(verifyResponse(request, { ...response, status: 201 }, responseCheck)).rejects.toThrow('does not verify')
  await expect(
    verifyResponse(request, { ...response, body: new TextEncoder().encode('Answer') }, responseCheck),
  ).rejects.toThrow('content digest')
})
