// CPU microseconds of the X.509 core on this machine: `node test/bench/micro/x509.ts`.
import { parseCertificate } from '../../../src/core/certificate.ts'
import { createCsr, parseCsr, verifyCsrSignature } from '../../../src/core/csr.ts'
import { verifyX509Svid } from '../../../src/core/path-validation.ts'
import { subjectKeyId, webCryptoVerifier } from '../../../src/core/public-key.ts'
import { encodeTbs, issuerOf, randomSerial, SVID_SUBJECT, signCertificate } from '../../../src/core/x509-svid.ts'
import { generateSigner, nodeVerifier } from '../../../src/plugins/signer.ts'

const NOW = 1_800_000_000
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

const ca = await generateSigner('ec-p256')
const key = await generateSigner('ec-p256')
const issuer = issuerOf(ca, SVID_SUBJECT, subjectKeyId(ca.publicKey))
const profile = (kind: 'ca' | 'svid', spki: Uint8Array) => ({
  kind,
  serial: randomSerial(random),
  subject: SVID_SUBJECT,
  spki,
  notBefore: NOW,
  notAfter: NOW + 3600,
  uri: 'spiffe://example.org/web',
})
const root = parseCertificate(await signCertificate(profile('ca', ca.publicKey), issuerOf(ca, SVID_SUBJECT)))
const svid = await signCertificate(profile('svid', key.publicKey), issuer)
const csrDer = await createCsr({ subject: SVID_SUBJECT, uris: ['spiffe://example.org/web'] }, key)
const csr = parseCsr(csrDer)
const node = nodeVerifier()
const web = webCryptoVerifier()
const chain = { chain: [svid], rootsOf: () => [root], at: NOW }

const rows: Record<string, () => unknown> = {
  'encode an SVID': () => encodeTbs(profile('svid', key.publicKey), issuer),
  'sign bytes, P-256, node:crypto': () => ca.sign(svid),
  'issue an SVID, all in': () => signCertificate(profile('svid', key.publicKey), issuer),
  'parse a CSR': () => parseCsr(csrDer),
  'verify a CSR, node:crypto': () => verifyCsrSignature(csr, node),
  'verify a CSR, Web Crypto': () => verifyCsrSignature(csr, web),
  'parse a certificate': () => parseCertificate(svid),
  'verify an SVID, node:crypto': () => verifyX509Svid({ ...chain, verify: node }),
  'verify an SVID, Web Crypto': () => verifyX509Svid({ ...chain, verify: web }),
}

for (const [name, run] of Object.entries(rows)) {
  await repeat(run, 2000)
  const rounds = 5000
  const before = process.cpuUsage()
  await repeat(run, rounds)
  const { user, system } = process.cpuUsage(before)
  console.log(`${name.padEnd(34)} ${((user + system) / rounds).toFixed(1).padStart(8)} us`)
}

async function repeat(run: () => unknown, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) await run()
}
