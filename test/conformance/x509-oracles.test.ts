import 'reflect-metadata'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Crypto } from '@peculiar/webcrypto'
import * as peculiar from '@peculiar/x509'
import * as asn1js from 'asn1js'
import * as pkijs from 'pkijs'
import { beforeAll, expect, test } from 'vitest'
import { nameText, parseCertificate, serialText } from '../../src/core/certificate.ts'
import { createCsr, parseCsr, verifyCsrSignature } from '../../src/core/csr.ts'
import { hex } from '../../src/core/der.ts'
import { errorMessage } from '../../src/core/error.ts'
import { verifyPath } from '../../src/core/path-validation.ts'
import { subjectKeyId, webCryptoVerifier } from '../../src/core/public-key.ts'
import { encodeName } from '../../src/core/x509-name.ts'
import { issuerOf, randomSerial, SVID_SUBJECT, signCertificate } from '../../src/core/x509-svid.ts'
import { generateSigner, type MemorySigner, nodeVerifier } from '../../src/plugins/signer.ts'

const NOW = 1_800_000_000
const verifiers = [nodeVerifier(), webCryptoVerifier(), webCryptoVerifier(new Crypto().subtle)]
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

let ca: Uint8Array
let svid: Uint8Array
let key: MemorySigner

beforeAll(async () => {
  const caKey = await generateSigner('ec-p384')
  key = await generateSigner('ec-p256')
  const subject = encodeName({ country: ['US'], organization: ['SPIFFE'], serialNumber: '42' })
  const common = { notBefore: NOW - 10, notAfter: NOW + 3600 }
  ca = await signCertificate(
    {
      ...common,
      kind: 'ca',
      serial: randomSerial(random),
      subject,
      spki: caKey.publicKey,
      uri: 'spiffe://example.org',
    },
    issuerOf(caKey, subject),
  )
  svid = await signCertificate(
    {
      ...common,
      kind: 'svid',
      serial: randomSerial(random),
      subject: SVID_SUBJECT,
      spki: key.publicKey,
      uri: 'spiffe://example.org/web',
      dnsNames: ['b', 'a'],
    },
    issuerOf(caKey, subject, subjectKeyId(caKey.publicKey)),
  )
})

const buffer = (bytes: Uint8Array) => new Uint8Array(bytes).buffer as ArrayBuffer

test('@peculiar/x509 reads an SVID as it was meant', async () => {
  peculiar.cryptoProvider.set(crypto)
  const found = new peculiar.X509Certificate(buffer(svid))
  const authority = new peculiar.X509Certificate(buffer(ca))
  expect(await found.verify({ publicKey: authority.publicKey, signatureOnly: true })).toBe(true)
  expect(found.extensions.map(({ type, critical }) => [type, critical])).toEqual([
    ['2.5.29.15', true],
    ['2.5.29.37', false],
    ['2.5.29.19', true],
    ['2.5.29.14', false],
    ['2.5.29.35', false],
    ['2.5.29.17', false],
  ])
  const names = found.getExtension(peculiar.SubjectAlternativeNameExtension)!.names.toJSON()
  expect(names).toEqual([
    { type: 'dns', value: 'b' },
    { type: 'dns', value: 'a' },
    { type: 'url', value: 'spiffe://example.org/web' },
  ])
  expect(found.getExtension(peculiar.KeyUsagesExtension)!.usages).toBe(
    peculiar.KeyUsageFlags.digitalSignature |
      peculiar.KeyUsageFlags.keyEncipherment |
      peculiar.KeyUsageFlags.keyAgreement,
  )
  expect(authority.extensions.map(({ type }) => type)).toEqual(['2.5.29.15', '2.5.29.19', '2.5.29.14', '2.5.29.17'])
  expect(found.notAfter.getTime() / 1000).toBe(NOW + 3600)
})

test('pkijs validates the chain', async () => {
  pkijs.setEngine('web', new pkijs.CryptoEngine({ name: 'web', crypto: crypto as never }))
  const read = (der: Uint8Array) => new pkijs.Certificate({ schema: asn1js.fromBER(buffer(der)).result })
  const engine = new pkijs.CertificateChainValidationEngine({
    trustedCerts: [read(ca)],
    certs: [read(svid)],
    checkDate: new Date(NOW * 1000),
  })
  expect(await engine.verify()).toMatchObject({ result: true })
})

test('certificates that @peculiar/x509 issues are read and verified, whatever the algorithm', async () => {
  peculiar.cryptoProvider.set(crypto)
  for (const algorithm of [
    { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
    { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
    { name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-512' },
    { name: 'Ed25519' },
    { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', publicExponent: Uint8Array.of(1, 0, 1), modulusLength: 2048 },
  ]) {
    const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as CryptoKeyPair
    const theirs = await peculiar.X509CertificateGenerator.createSelfSigned({
      serialNumber: '0a0b',
      name: 'O=SPIFFE, C=US',
      notBefore: new Date((NOW - 10) * 1000),
      notAfter: new Date((NOW + 10) * 1000),
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new peculiar.BasicConstraintsExtension(true, undefined, true),
        await peculiar.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    })
    const ours = parseCertificate(new Uint8Array(theirs.rawData))
    expect(serialText(ours)).toBe('2571')
    expect(hex(ours.subjectKeyId!)).toBe(hex(subjectKeyId(ours.spki)))
    for (const verify of algorithm.name === 'Ed25519' ? verifiers.slice(0, 2) : verifiers) {
      const path = await verifyPath({ leaf: ours, intermediates: [], roots: [ours], at: NOW, verify })
      expect(path, algorithm.name).toHaveLength(2)
    }
  }
})

test('both Web Crypto providers and node:crypto agree on a good signature and on a bad one', async () => {
  const leaf = parseCertificate(svid)
  const forged = new Uint8Array(svid)
  forged[forged.length - 1]! ^= 1
  for (const verify of verifiers) {
    const input = { intermediates: [], roots: [parseCertificate(ca)], at: NOW, verify }
    expect(await verifyPath({ ...input, leaf })).toHaveLength(2)
    await expect(verifyPath({ ...input, leaf: parseCertificate(forged) })).rejects.toThrow('unknown authority')
  }
})

test.each([
  ['an RSA key', 'RSA', 'sha256', true],
  ['a key that is for PSS only', 'RSA-PSS', 'sha512', true],
  ['an RSA key with a hash that is not taken', 'RSA', 'sha1', false],
])('RSASSA-PSS by %s', async (_, algorithm, hash, good) => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-pss-'))
  const openssl = (...args: string[]) =>
    new Uint8Array(execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] }))
  openssl('genpkey', '-algorithm', algorithm, '-pkeyopt', 'rsa_keygen_bits:2048', '-out', 'key')
  const how = [
    ...['-new', '-key', 'key', '-subj', '/O=x', `-${hash}`, '-outform', 'der'],
    ...['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:digest'],
  ]
  const csr = parseCsr(openssl('req', ...how))
  const root = parseCertificate(openssl('req', '-x509', ...how))
  rmSync(folder, { recursive: true })
  for (const verify of verifiers.slice(0, 2)) {
    const request = verifyCsrSignature(csr, verify)
    const path = verifyPath({ leaf: root, intermediates: [], roots: [root], at: root.notBefore, verify })
    if (good) {
      await request
      expect(await path).toHaveLength(2)
    } else {
      await expect(request).rejects.toThrow('x509: unsupported signature algorithm')
      await expect(path).rejects.toThrow('x509: unsupported signature algorithm')
    }
  }
})

const goMissing = spawnSync('go', ['version']).error !== undefined

test.skipIf(goMissing)(
  'Go reads names, CSRs and SVIDs alike (needs go on the PATH)',
  { timeout: 120_000 },
  async () => {
    const subjects = [
      encodeName({}),
      encodeName({ country: ['US'], organization: ['b', 'a'], organizationalUnit: ['x,y'], commonName: ' #c ' }),
      encodeName({ organization: ['Zoë'], serialNumber: '7' }),
    ]
    const requests: Uint8Array[] = []
    for (const subject of subjects) {
      requests.push(await createCsr({ subject, uris: ['spiffe://example.org/a'], dnsNames: ['b', 'a'] }, key))
    }
    requests.push(await createCsr({ subject: subjects[0]! }, { ...key, sign: () => new Uint8Array(64).fill(1) }))
    const base64 = (der: Uint8Array) => Buffer.from(der).toString('base64')
    const lines = [
      ...requests.map((der) => ({ csr: base64(der) })),
      { leaf: base64(svid), roots: [base64(ca)], intermediates: [], at: NOW },
    ]
    const output = execFileSync('go', ['run', '.'], {
      cwd: join(import.meta.dirname, '../interop/go/x509verify'),
      env: { ...process.env, GOTOOLCHAIN: 'local', GOFLAGS: '-mod=mod' },
      input: lines.map((line) => JSON.stringify(line)).join('\n'),
    })
    const verdicts = output
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    for (const [index, der] of requests.entries()) {
      const csr = parseCsr(der)
      const error = await verifyCsrSignature(csr, nodeVerifier()).then(() => '', errorMessage)
      expect(verdicts[index]).toMatchObject({
        error,
        subject: nameText(csr.subject),
        uris: csr.uris.length > 0 ? csr.uris : null,
        dns: csr.dnsNames.length > 0 ? csr.dnsNames : null,
      })
    }
    expect(verdicts.at(-1)).toMatchObject({
      error: '',
      subject: 'O=SPIRE,C=US',
      serial: serialText(parseCertificate(svid)),
      uris: ['spiffe://example.org/web'],
      dns: ['b', 'a'],
    })
  },
)
