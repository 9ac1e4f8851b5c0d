// Makes inputs.json: keys and CSRs that stay the same in every run. usage: bin/with-node test/runtimes/wire/make-inputs.ts
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { base64 } from '../../../src/core/base64.ts'
import { createCsr } from '../../../src/core/csr.ts'
import { parseSpiffeId } from '../../../src/core/spiffe-id.ts'
import { SVID_SUBJECT } from '../../../src/core/x509-svid.ts'
import { generateSigner } from '../../../src/plugins/signer.ts'

const CSRS = {
  p256: ['ec-p256', 'spiffe://example.org/golden/p256', []],
  p384: ['ec-p384', 'spiffe://example.org/golden/p384', []],
  rsa: ['rsa-2048', 'spiffe://example.org/golden/rsa', []],
  dns: ['ec-p256', 'spiffe://example.org/golden/dns', ['a.example.org', 'b.example.org']],
  'trust domain': ['ec-p256', 'spiffe://example.org', []],
  foreign: ['ec-p256', 'spiffe://other.example/golden', []],
} as const

const csrs: Record<string, string> = {}
for (const [name, [type, id, dnsNames]] of Object.entries(CSRS)) {
  const uris = [parseSpiffeId(id)]
  csrs[name] = base64(await createCsr({ subject: SVID_SUBJECT, uris, dnsNames }, await generateSigner(type)))
}
const spki = { type: 'spki', format: 'der' } as const
const key = { type: 'pkcs8', format: 'der' } as const
const publicKeys = {
  p256: generateKeyPairSync('ec', { namedCurve: 'P-256', publicKeyEncoding: spki, privateKeyEncoding: key }).publicKey,
  p384: generateKeyPairSync('ec', { namedCurve: 'P-384', publicKeyEncoding: spki, privateKeyEncoding: key }).publicKey,
}
writeFileSync(
  join(import.meta.dirname, 'inputs.json'),
  `${JSON.stringify({ csrs, publicKeys: Object.fromEntries(Object.entries(publicKeys).map(([name, bytes]) => [name, base64(bytes)])) }, undefined, 2)}\n`,
)
