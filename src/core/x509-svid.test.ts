import { execFileSync } from 'node:child_process'
import { createHash, generateKeyPairSync, sign, X509Certificate } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { nameText, parseCertificate, serialText } from './certificate.ts'
import { createCsr, parseCsr, verifyCsrSignature } from './csr.ts'
import { hex } from './der.ts'
import type { KeyType, Signer } from './key-type.ts'
import { verifyX509Svid } from './path-validation.ts'
import { encodePem } from './pem.ts'
import { subjectKeyId, webCryptoVerifier } from './public-key.ts'
import { encodeName } from './x509-name.ts'
import {
  type CertificateProfile,
  issuerOf,
  randomSerial,
  SVID_SUBJECT,
  serialDecimal,
  signCertificate,
} from './x509-svid.ts'

const NOW = 1_800_000_000
const verify = webCryptoVerifier()
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

function newSigner(keyType: KeyType): Signer {
  const { publicKey, privateKey } =
    keyType === 'ec-p256' || keyType === 'ec-p384'
      ? generateKeyPairSync('ec', { namedCurve: keyType === 'ec-p256' ? 'P-256' : 'P-384' })
      : generateKeyPairSync('rsa', { modulusLength: keyType === 'rsa-2048' ? 2048 : 4096 })
  const hash = keyType === 'ec-p384' ? 'sha384' : 'sha256'
  return {
    keyType,
    publicKey: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })),
    sign: (data) => new Uint8Array(sign(hash, data, { key: privateKey, dsaEncoding: 'ieee-p1363' })),
  }
}

async function authority(keyType: KeyType, changes: Partial<CertificateProfile> = {}) {
  const signer = newSigner(keyType)
  const subject = encodeName({ country: ['US'], organization: ['SPIFFE'], serialNumber: '42' })
  const der = await signCertificate(
    {
      kind: 'ca',
      serial: randomSerial(random),
      subject,
      spki: signer.publicKey,
      notBefore: NOW - 10,
      notAfter: NOW + 86400,
      uri: 'spiffe://example.org',
      ...changes,
    },
    issuerOf(signer, subject),
  )
  return { signer, subject, der, issuer: issuerOf(signer, subject, subjectKeyId(signer.publicKey)) }
}

function svid(signer: Signer, changes: Partial<CertificateProfile> = {}): CertificateProfile {
  return {
    kind: 'svid',
    serial: randomSerial(random),
    subject: SVID_SUBJECT,
    spki: signer.publicKey,
    notBefore: NOW - 10,
    notAfter: NOW + 3600,
    uri: 'spiffe://example.org/web',
    ...changes,
  }
}

test.each(['ec-p256', 'ec-p384', 'rsa-2048', 'rsa-4096'] as const)(
  'openssl accepts the chain of a %s authority',
  async (keyType) => {
    const ca = await authority(keyType)
    const leaf = await signCertificate(
      svid(newSigner('ec-p256'), { dnsNames: ['b.example.org', 'a.example.org'] }),
      ca.issuer,
    )
    const folder = mkdtempSync(join(tmpdir(), 'turret-x509-'))
    writeFileSync(join(folder, 'ca.pem'), encodePem('CERTIFICATE', ca.der))
    writeFileSync(join(folder, 'leaf.pem'), encodePem('CERTIFICATE', leaf))
    const verified = execFileSync('openssl', [
      'verify',
      '-x509_strict',
      '-attime',
      String(NOW),
      '-CAfile',
      join(folder, 'ca.pem'),
      join(folder, 'leaf.pem'),
    ])
    expect(verified.toString()).toContain('OK')
    const text = execFileSync('openssl', ['x509', '-in', join(folder, 'leaf.pem'), '-noout', '-text']).toString()
    expect(text).toContain('DNS:b.example.org, DNS:a.example.org, URI:spiffe://example.org/web')
    expect(text).toMatch(/Key Usage: critical\s+Digital Signature, Key Encipherment, Key Agreement/)
    expect(text).toMatch(/Extended Key Usage: \s+TLS Web Server Authentication, TLS Web Client Authentication/)
    expect(text).toMatch(/Basic Constraints: critical\s+CA:FALSE/)
    expect(text.indexOf('X509v3 Key Usage')).toBeLessThan(text.indexOf('X509v3 Extended Key Usage'))
    expect(text.indexOf('X509v3 Authority Key')).toBeLessThan(text.indexOf('X509v3 Subject Alternative'))
  },
)

test('node:crypto reads what was written', async () => {
  const ca = await authority('ec-p256')
  const serial = randomSerial(random)
  const signer = newSigner('ec-p256')
  const der = await signCertificate(svid(signer, { serial }), ca.issuer)
  const theirs = new X509Certificate(der)
  const ours = parseCertificate(der)
  expect(BigInt(`0x${theirs.serialNumber}`).toString()).toBe(serialText(ours))
  expect(serialText(ours)).toBe(serialDecimal(serial))
  expect(theirs.subjectAltName).toBe('URI:spiffe://example.org/web')
  expect(Date.parse(theirs.validFrom) / 1000).toBe(ours.notBefore)
  expect(theirs.verify(new X509Certificate(ca.der).publicKey)).toBe(true)
  expect(nameText(ours.subject)).toBe('O=SPIRE,C=US')
  const keyBits = signer.publicKey.subarray(signer.publicKey.length - 65)
  expect(hex(ours.subjectKeyId!)).toBe(createHash('sha1').update(keyBits).digest('hex'))
})

test('a leaf verifies to its own trust domain and to no other', async () => {
  const ca = await authority('ec-p256')
  const other = await authority('ec-p256')
  const leaf = await signCertificate(svid(newSigner('ec-p256')), ca.issuer)
  const check = (root: Uint8Array | undefined, at = NOW) =>
    verifyX509Svid({ chain: [leaf], rootsOf: () => root && [parseCertificate(root)], at, verify })
  expect((await check(ca.der)).spiffeId).toBe('spiffe://example.org/web')
  await expect(check(other.der)).rejects.toThrow('x509: certificate signed by unknown authority')
  await expect(check(undefined)).rejects.toThrow('no X.509 bundle for trust domain "example.org"')
  await expect(check(ca.der, NOW + 3601)).rejects.toThrow(
    'x509: certificate has expired or is not yet valid: current time',
  )
  await expect(check(ca.der, NOW - 11)).rejects.toThrow('is before')
})

test('a chain through an intermediate verifies; the same chain without it does not', async () => {
  const root = await authority('ec-p384')
  const signer = newSigner('ec-p256')
  const name = encodeName({ organizationalUnit: ['DOWNSTREAM-1'] })
  const middle = await signCertificate(
    { ...svid(signer), kind: 'ca', subject: name, uri: 'spiffe://example.org' },
    root.issuer,
  )
  const leaf = await signCertificate(
    svid(newSigner('rsa-2048')),
    issuerOf(signer, name, subjectKeyId(signer.publicKey)),
  )
  const rootsOf = () => [parseCertificate(root.der)]
  const { path } = await verifyX509Svid({ chain: [leaf, middle], rootsOf, at: NOW, verify })
  expect(path).toHaveLength(3)
  await expect(verifyX509Svid({ chain: [leaf], rootsOf, at: NOW, verify })).rejects.toThrow('unknown authority')
  // A leaf must not sign: an SVID in the place of the intermediate is refused.
  const impostor = await signCertificate({ ...svid(signer), subject: name }, root.issuer)
  await expect(verifyX509Svid({ chain: [leaf, impostor], rootsOf, at: NOW, verify })).rejects.toThrow(
    'parent certificate cannot sign',
  )
})

test.each([
  ['a CA certificate', { kind: 'ca' } as const, 'leaf certificate with CA flag set to true'],
  ['an ID that is none', { uri: 'https://example.org/web' }, 'scheme is missing or invalid'],
])('%s is no X509-SVID', async (_, changes, message) => {
  const ca = await authority('ec-p256')
  const leaf = await signCertificate(svid(newSigner('ec-p256'), changes), ca.issuer)
  await expect(
    verifyX509Svid({ chain: [leaf], rootsOf: () => [parseCertificate(ca.der)], at: NOW, verify }),
  ).rejects.toThrow(message)
})

test.each(['ec-p256', 'ec-p384', 'rsa-2048'] as const)(
  'a CSR of a %s key says what it was given, and openssl verifies it',
  async (keyType) => {
    const signer = newSigner(keyType)
    const der = await createCsr(
      { subject: SVID_SUBJECT, uris: ['spiffe://example.org/web'], dnsNames: ['web'] },
      signer,
    )
    const csr = parseCsr(der)
    expect(csr).toMatchObject({ uris: ['spiffe://example.org/web'], dnsNames: ['web'] })
    await verifyCsrSignature(csr, verify)
    const out = execFileSync('openssl', ['req', '-inform', 'der', '-verify', '-noout', '-text'], {
      input: der,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    expect(out.toString()).toContain('URI:spiffe://example.org/web')
    const forged = new Uint8Array(der)
    forged[forged.length - 40]! ^= 1
    await expect((async () => verifyCsrSignature(parseCsr(forged), verify))()).rejects.toThrow()
  },
)

test('a CSR made by openssl is read', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-csr-'))
  execFileSync(
    'openssl',
    [
      'req',
      '-new',
      '-newkey',
      'ed25519',
      '-nodes',
      '-keyout',
      join(folder, 'k'),
      '-subj',
      '/O=Any/CN=x',
      '-addext',
      'subjectAltName=URI:spiffe://example.org/a,DNS:x',
      '-outform',
      'der',
      '-out',
      join(folder, 'r'),
    ],
    { stdio: 'ignore' },
  )
  const csr = parseCsr(new Uint8Array(execFileSync('cat', [join(folder, 'r')])))
  expect(csr).toMatchObject({ uris: ['spiffe://example.org/a'], dnsNames: ['x'] })
  return verifyCsrSignature(csr, verify)
})

test('no certificate is made for an ID of more than 2048 bytes', async () => {
  const { signer, issuer } = await authority('ec-p256')
  const uriOf = (bytes: number) => `spiffe://example.org/${'a'.repeat(bytes - 21)}`
  const made = await signCertificate(svid(signer, { uri: uriOf(2048) }), issuer)
  expect(parseCertificate(made).uris).toEqual([uriOf(2048)])
  await expect(signCertificate(svid(signer, { uri: uriOf(2049) }), issuer)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'SPIFFE ID is longer than 2048 bytes',
  })
})

test('a serial number is never zero, and may have zeros in it', () => {
  const draws = [new Uint8Array(16), new Uint8Array(16).fill(1, 3), new Uint8Array(16).fill(2)]
  expect(randomSerial(() => draws.shift()!)).toEqual(new Uint8Array(16).fill(1, 3))
})

test('key usage and basic constraints are critical, in SVIDs and CAs', async () => {
  const { signer, issuer, der } = await authority('ec-p256')
  const leaf = await signCertificate(svid(signer), issuer)
  for (const certificate of [leaf, der])
    for (const type of ['551d0f', '551d13']) expect(hex(certificate)).toContain(`0603${type}0101ff04`)
})
