import { base64, base64Url, fromBase64 } from '../../../src/core/base64.ts'
import { bundleDocument, parseBundleDocument } from '../../../src/core/bundle-document.ts'
import { parseCertificate } from '../../../src/core/certificate.ts'
import { parseCsr, verifyCsrSignature } from '../../../src/core/csr.ts'
import { hex } from '../../../src/core/der.ts'
import { StatusError } from '../../../src/core/error.ts'
import { jwkThumbprint } from '../../../src/core/jwk.ts'
import { jwtSigner, signJwtSvid, validateJwtSvid } from '../../../src/core/jwt-svid.ts'
import type { KeyType, Signer } from '../../../src/core/key-type.ts'
import { verifyX509Svid } from '../../../src/core/path-validation.ts'
import { certificatesFromPem, encodePem } from '../../../src/core/pem.ts'
import { parsePublicKey, subjectKeyId, webCryptoVerifier } from '../../../src/core/public-key.ts'
import { normaliseSelectors } from '../../../src/core/selector.ts'
import { parseSpiffeId } from '../../../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../../../src/core/trust-domain.ts'
import { generateWebCryptoSigner } from '../../../src/core/web-crypto-signer.ts'
import { signWitSvid, validateWitSvid, witKeyOf } from '../../../src/core/wit-svid.ts'
import { encodeName } from '../../../src/core/x509-name.ts'
import {
  type CertificateProfile,
  encodeTbs,
  issuerOf,
  SVID_SUBJECT,
  signCertificate,
} from '../../../src/core/x509-svid.ts'
import inputs from '../wire/inputs.json' with { type: 'json' }

const AT = 1_800_000_000
const DAY = 86_400
const TD = parseTrustDomainName('example.org')
const WEB = parseSpiffeId('spiffe://example.org/web')
const verify = webCryptoVerifier()
const p256 = fromBase64(inputs.publicKeys.p256)
const p384 = fromBase64(inputs.publicKeys.p384)

/**
 * What the core does with fixed inputs and with keys of its own, as text that must be the same on every runtime. Nothing in here is
 * Node's: it is bundled for workerd as it is.
 */
export async function coreVectors(): Promise<Record<string, unknown>> {
  const results: Record<string, unknown> = {}
  const record = async (name: string, work: () => unknown): Promise<void> => {
    try {
      results[name] = await work()
    } catch (error) {
      results[name] = error instanceof StatusError ? `${error.code}: ${error.message}` : `${error}`
    }
  }

  for (const text of [
    'spiffe://example.org',
    'spiffe://example.org/a/b-c_d.e',
    'spiffe://Example.org/a',
    'spiffe://example.org/',
    'spiffe://example.org//a',
    'spiffe://example.org/..',
    'spiffe://example.org/ä',
    'https://example.org/a',
    '',
  ]) {
    await record(`SPIFFE ID ${text}`, () => parseSpiffeId(text))
  }
  await record('selectors', () =>
    normaliseSelectors([
      { type: 'unix', value: 'uid:2' },
      { type: 'k8s', value: 'ns:ä' },
      { type: 'unix', value: 'uid:10' },
      { type: 'unix', value: 'uid:2' },
    ]),
  )
  await record('base64', () => [base64(Uint8Array.of(0xfb, 0xff)), base64Url(Uint8Array.of(0xfb, 0xff))])
  await record('base64 of others', () => hex(fromBase64('+/8*')))
  await record('PEM', () => certificatesFromPem(encodePem('CERTIFICATE', Uint8Array.of(0x30, 0))).map(hex))
  for (const [name, text] of Object.entries(inputs.csrs)) {
    await record(`CSR ${name}`, async () => {
      const csr = parseCsr(fromBase64(text))
      await verifyCsrSignature(csr, verify)
      return { uris: csr.uris, dnsNames: csr.dnsNames, key: parsePublicKey(csr.spki).kind }
    })
    await record(`CSR ${name}, cut off`, () => parseCsr(fromBase64(text).slice(0, -1)))
    await record(`CSR ${name}, with a wrong signature`, () => {
      const der = fromBase64(text)
      der[der.length - 2]! ^= 1
      return verifyCsrSignature(parseCsr(der), verify)
    })
  }
  await record('thumbprints', () => Promise.all([p256, p384].map(jwkThumbprint)))
  await record('WIT keys', () => [witKeyOf(parsePublicKey(p256), 'ES256'), witKeyOf(parsePublicKey(p384), 'ES384')])
  await record('bundle document', () =>
    bundleDocument(
      {
        ...EMPTY_BUNDLE,
        jwtAuthorities: [authority('a', p256)],
        witAuthorities: [authority('b', p384)],
        sequenceNumber: 3,
      },
      60,
    ),
  )
  // Text that is no JSON is refused in the words of the engine.
  for (const text of [
    '[]',
    '{"keys":[{}]}',
    '{"keys":[{"use":"x509-svid"}]}',
    '{"keys":[{"use":"jwt-svid","kty":"EC"}]}',
  ]) {
    await record(`bundle document ${text}`, () => parseBundleDocument(TD, text))
  }
  for (const keyType of ['ec-p256', 'ec-p384', 'rsa-2048'] as const satisfies KeyType[])
    await withKeysOf(keyType, record)
  return results
}

type Recorder = (name: string, work: () => unknown) => Promise<void>

const EMPTY_BUNDLE = {
  trustDomain: TD,
  x509Authorities: [],
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHintSeconds: 0,
  sequenceNumber: 0,
}
const authority = (keyId: string, publicKey: Uint8Array) => ({ keyId, publicKey, expiresAt: 0, tainted: false })

/** Signs with new keys of a type and judges what was signed, good and spoiled. */
async function withKeysOf(keyType: KeyType, record: Recorder): Promise<void> {
  const [rootKey, midKey, otherKey] = await Promise.all([1, 2, 3].map(() => generateWebCryptoSigner(keyType)))
  const name = (commonName: string) => encodeName({ commonName })
  const profile = (
    kind: 'ca' | 'svid',
    spki: Uint8Array,
    more: Partial<CertificateProfile> = {},
  ): CertificateProfile => ({
    kind,
    serial: Uint8Array.from({ length: 16 }, (_, at) => at + 1),
    subject: kind === 'ca' ? name('mid') : SVID_SUBJECT,
    spki,
    notBefore: AT - DAY,
    notAfter: AT + DAY,
    uri: kind === 'ca' ? 'spiffe://example.org' : WEB,
    ...more,
  })
  const under = (signer: Signer, subject: string) => issuerOf(signer, name(subject), subjectKeyId(signer.publicKey))
  await record(`${keyType}: what is signed`, () =>
    hex(
      encodeTbs(
        profile('svid', p256, { dnsNames: ['a.example.org'] }),
        issuerOf(rootKey!, name('root'), Uint8Array.of(1, 2)),
      ),
    ),
  )
  const root = parseCertificate(
    await signCertificate(
      profile('ca', rootKey!.publicKey, { subject: name('root') }),
      issuerOf(rootKey!, name('root')),
    ),
  )
  const mid = await signCertificate(profile('ca', midKey!.publicKey), under(rootKey!, 'root'))
  const leaf = await signCertificate(profile('svid', p256), under(midKey!, 'mid'))
  const chains: Record<string, readonly Uint8Array[]> = {
    good: [leaf, mid],
    'without its intermediate': [leaf],
    'of a leaf that is a CA': [mid],
    'with a spoiled signature': [spoiled(leaf), mid],
    'of another key': [await signCertificate(profile('svid', p256), under(otherKey!, 'mid')), mid],
    'that expired': [await signCertificate(profile('svid', p256, { notAfter: AT - 1 }), under(midKey!, 'mid')), mid],
    'of another trust domain': [
      await signCertificate(profile('svid', p256, { uri: 'spiffe://other.org/a' }), under(midKey!, 'mid')),
      mid,
    ],
  }
  for (const [what, chain] of Object.entries(chains)) {
    await record(`${keyType}: a chain ${what}`, async () => {
      const rootsOf = (trustDomain: string) => (trustDomain === TD ? [root] : undefined)
      const { spiffeId, path } = await verifyX509Svid({ chain, rootsOf, at: AT, verify })
      return { spiffeId, length: path.length }
    })
  }

  const key = jwtSigner(rootKey!, 'key-1')
  const claims = { aud: ['db'], exp: AT + 60, iat: AT, sub: WEB }
  const token = await signJwtSvid(claims, key)
  await record(`${keyType}: header and payload`, () => token.split('.').slice(0, 2))
  const tokens: Record<string, string> = {
    good: token,
    'with a spoiled signature': `${token.slice(0, -8)}AAAA${token.slice(-4)}`,
    'that expired': await signJwtSvid({ ...claims, exp: AT - 61 }, key),
    'of another key': await signJwtSvid(claims, jwtSigner(otherKey!, 'key-1')),
    'of an unknown key': await signJwtSvid(claims, jwtSigner(rootKey!, 'key-2')),
    'for others': await signJwtSvid({ ...claims, aud: ['cache'] }, key),
    'of no form': 'a.b',
  }
  const authoritiesOf = () => [authority('key-1', rootKey!.publicKey)]
  for (const [what, text] of Object.entries(tokens)) {
    await record(`${keyType}: a JWT-SVID ${what}`, () =>
      validateJwtSvid({ token: text, audience: ['db'], authoritiesOf, at: AT, verify }),
    )
  }
  const wit = await signWitSvid(
    { jwk: witKeyOf(parsePublicKey(p256), 'ES256'), exp: AT + 60, iat: AT, sub: WEB },
    jwtSigner(rootKey!, 'key-1', 'wit+jwt'),
  )
  for (const [what, text] of Object.entries({ good: wit, 'that is a JWT-SVID': token })) {
    await record(`${keyType}: a WIT-SVID ${what}`, async () => {
      const { spiffeId, algorithm, claims } = await validateWitSvid({ token: text, authoritiesOf, at: AT, verify })
      return { spiffeId, algorithm, claims }
    })
  }
}

function spoiled(der: Uint8Array): Uint8Array {
  const copy = der.slice()
  copy[copy.length - 2]! ^= 1
  return copy
}
