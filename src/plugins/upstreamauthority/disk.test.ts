import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { parseCertificate } from '../../core/certificate.ts'
import { createCsr } from '../../core/csr.ts'
import { silentLog } from '../../core/log.ts'
import { verifyPath } from '../../core/path-validation.ts'
import { certificatesFromPem } from '../../core/pem.ts'
import { parseTrustDomainName } from '../../core/trust-domain.ts'
import { encodeName } from '../../core/x509-name.ts'
import { generateSigner, nodeVerifier } from '../signer.ts'
import declaration, { type DiskUpstreamOptions, diskUpstreamAuthority } from './disk.ts'

const folder = mkdtempSync(join(tmpdir(), 'turret-upstream-'))
const at = (name: string) => join(folder, name)
const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' })
const verify = nodeVerifier()
/** A minute on, because what openssl makes begins when it is made, which is after this line. */
const now = Math.floor(Date.now() / 1000) + 60

beforeAll(() => {
  writeFileSync(
    at('ca.ext'),
    'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n',
  )
  for (const name of ['root', 'other']) {
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-384',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
      '-subj',
      `/CN=${name}`,
      '-days',
      '2',
    )
  }
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'middle.key', '-out', 'middle.csr', '-subj', '/CN=middle')
  openssl(
    'x509',
    '-req',
    '-in',
    'middle.csr',
    '-CA',
    'root.pem',
    '-CAkey',
    'root.key',
    '-CAcreateserial',
    '-days',
    '1',
    '-extfile',
    'ca.ext',
    '-out',
    'middle.pem',
  )
})

function open(changes: Partial<DiskUpstreamOptions> = {}) {
  return diskUpstreamAuthority({
    trustDomain: parseTrustDomainName('example.org'),
    certFilePath: at('root.pem'),
    keyFilePath: at('root.key'),
    bundleFilePath: '',
    clock: { nowMs: () => now * 1000 },
    random: (bytes) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>),
    verify,
    log: silentLog,
    ...changes,
  })
}

async function csr(uris = ['spiffe://example.org']) {
  return createCsr({ subject: encodeName({ organization: ['SPIFFE'] }), uris }, await generateSigner('ec-p256'))
}

test.each([
  ['a self-signed CA', {}, 1],
  [
    'an intermediate with its root',
    { certFilePath: at('middle.pem'), keyFilePath: at('middle.key'), bundleFilePath: at('root.pem') },
    2,
  ],
])('%s signs a CA that leads to the root, also in the eyes of openssl', async (_, files, length) => {
  const { caChain, upstreamRoots } = await (await open(files)).mintX509Ca(await csr(), 3600)
  expect(caChain).toHaveLength(length)
  const [own, ...intermediates] = caChain.map(parseCertificate)
  expect(own).toMatchObject({ isCa: true, uris: ['spiffe://example.org'], notBefore: now - 10, notAfter: now + 3600 })
  const roots = upstreamRoots.map(({ der }) => parseCertificate(der))
  await verifyPath({ leaf: own!, intermediates, roots, at: now, verify })
  expect(certificatesFromPem(readFileSync(at('root.pem'), 'utf8'))).toEqual(
    upstreamRoots.map(({ der }) => Buffer.from(der)).map((der) => new Uint8Array(der)),
  )
})

test('a lifetime is cut at the end of the upstream CA', async () => {
  const { caChain } = await (await open()).mintX509Ca(await csr(), 30 * 86400)
  expect(parseCertificate(caChain[0]!).notAfter).toBe(
    parseCertificate(certificatesFromPem(readFileSync(at('root.pem'), 'utf8'))[0]!).notAfter,
  )
})

test.each([
  ['another trust domain', ['spiffe://other.org']],
  ['no URI', []],
  ['two URIs', ['spiffe://example.org', 'spiffe://example.org/x']],
])('a CSR with %s is refused', async (_, uris) => {
  await expect((await open()).mintX509Ca(await csr(uris), 60)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('a CSR that its own key did not sign is refused', async () => {
  const other = await generateSigner('ec-p256')
  const forged = await createCsr(
    { subject: encodeName({ organization: ['SPIFFE'] }), uris: ['spiffe://example.org'] },
    { ...(await generateSigner('ec-p256')), sign: (data: Uint8Array) => other.sign(data) },
  )
  await expect((await open()).mintX509Ca(forged, 60)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'x509: ECDSA verification failure',
  })
  await expect((await open()).mintX509Ca(Uint8Array.of(1), 60)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test.each<[string, Partial<DiskUpstreamOptions>, string]>([
  ['a key of another CA', { keyFilePath: at('other.key') }, 'certificate and private key do not match'],
  [
    'a root that did not sign it',
    { certFilePath: at('middle.pem'), keyFilePath: at('middle.key'), bundleFilePath: at('other.pem') },
    'unable to verify certificates against root',
  ],
  ['a missing key', { keyFilePath: at('nope') }, 'unable to load upstream CA key'],
  ['a missing certificate', { certFilePath: at('nope') }, 'unable to load upstream CA certificate'],
  ['a key that is none', { keyFilePath: at('ca.ext') }, 'no PEM blocks'],
])('%s is refused at the start', async (_, changes, message) => {
  await expect(open(changes)).rejects.toThrow(message)
})

test('files that are replaced are used for the next CA; while they are broken the last good ones are', async () => {
  writeFileSync(at('live.pem'), readFileSync(at('root.pem')))
  writeFileSync(at('live.key'), readFileSync(at('root.key')))
  const upstream = await open({ certFilePath: at('live.pem'), keyFilePath: at('live.key') })
  writeFileSync(at('live.pem'), 'broken')
  const first = await upstream.mintX509Ca(await csr(), 60)
  expect(Buffer.from(first.upstreamRoots[0]!.der)).toEqual(
    Buffer.from(certificatesFromPem(readFileSync(at('root.pem'), 'utf8'))[0]!),
  )
  writeFileSync(at('live.pem'), readFileSync(at('other.pem')))
  writeFileSync(at('live.key'), readFileSync(at('other.key')))
  const second = await upstream.mintX509Ca(await csr(), 60)
  expect(Buffer.from(second.upstreamRoots[0]!.der)).toEqual(
    Buffer.from(certificatesFromPem(readFileSync(at('other.pem'), 'utf8'))[0]!),
  )
})

test('a CA that has ended signs nothing, with a bundle or without, and is found out before anything is made', async () => {
  const late = { nowMs: () => (now + 3 * 86_400) * 1000 }
  for (const [certFilePath, keyFilePath, bundleFilePath] of [
    ['root.pem', 'root.key', ''],
    ['middle.pem', 'middle.key', 'root.pem'],
  ] as const) {
    const files = {
      cert_file_path: at(certFilePath),
      key_file_path: at(keyFilePath),
      bundle_file_path: bundleFilePath === '' ? '' : at(bundleFilePath),
    }
    const host = { trustDomain: parseTrustDomainName('example.org'), dataDir: folder, verify }
    await expect(declaration.server!.preview(files, { ...host, clock: late })).rejects.toThrow(
      'unable to load upstream CA: the certificate ended at',
    )
    await declaration.server!.preview(files, { ...host, clock: { nowMs: () => now * 1000 } })
  }
})
