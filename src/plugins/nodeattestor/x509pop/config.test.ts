import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { AT, makeCertificate } from '../../../../test/support/x509.ts'
import { base64 } from '../../../core/base64.ts'
import { parseCertificate } from '../../../core/certificate.ts'
import { encodePem } from '../../../core/pem.ts'
import { parseTrustDomainName } from '../../../core/trust-domain.ts'
import { nodeVerifier } from '../../signer.ts'
import { readX509Pop } from './config.ts'

const folder = mkdtempSync(join(tmpdir(), 'x509pop-'))
afterAll(() => rmSync(folder, { recursive: true }))
const one = await makeCertificate({ name: 'one', ca: true })
const two = await makeCertificate({ name: 'two', ca: true })
const own = await makeCertificate({ name: 'own', ca: true })
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const [onePem, twoPem] = [one, two].map(({ der }, at) => file(`${at}.pem`, encodePem('CERTIFICATE', der))) as [
  string,
  string,
]
const broken = file('broken.pem', encodePem('CERTIFICATE', Uint8Array.of(1)))

const configure = (data: Record<string, unknown>) =>
  readX509Pop(data)({
    trustDomain: parseTrustDomainName('example.org'),
    roots: async () => [parseCertificate(own.der)],
    clock: { nowMs: () => AT * 1000 },
    verify: nodeVerifier(),
  })

/** Whose leaves are challenged, by the names of their roots. */
async function trusted(data: Record<string, unknown>): Promise<string[]> {
  const attestor = configure(data)
  const found: string[] = []
  for (const [name, root] of Object.entries({ one, two, own })) {
    const { der } = await makeCertificate({ name: 'leaf', uris: ['spiffe://example.org/spire-exchange/n'] }, root)
    const payload = new TextEncoder().encode(JSON.stringify({ certificates: [base64(der)] }))
    await attestor.start(payload, { peerAddress: '192.0.2.1' }).then(
      () => found.push(name),
      () => {},
    )
  }
  return found
}

test.each([
  ['one file', { ca_bundle_path: onePem }, ['one']],
  ['several files', { ca_bundle_paths: [onePem, twoPem] }, ['one', 'two']],
  ['its mode by name', { mode: 'external_pki', ca_bundle_path: twoPem }, ['two']],
  ['no file in spiffe mode', { mode: 'spiffe' }, ['own']],
])('with %s the roots in it are trusted, and no others', async (_, data, names) => {
  expect(await trusted(data)).toEqual(names)
})

test.each<[string, Record<string, unknown>, string]>([
  ['no file', {}, 'one of ca_bundle_path or ca_bundle_paths must be configured'],
  ['an empty list of files', { ca_bundle_paths: [] }, 'one of ca_bundle_path or ca_bundle_paths must be configured'],
  [
    'a file and a list',
    { ca_bundle_path: onePem, ca_bundle_paths: [twoPem] },
    'only one of ca_bundle_path or ca_bundle_paths can be configured, not both',
  ],
  [
    'a file in spiffe mode',
    { mode: 'spiffe', ca_bundle_path: onePem },
    'you can not use ca_bundle_path or ca_bundle_paths in spiffe mode',
  ],
  [
    'files in spiffe mode',
    { mode: 'spiffe', ca_bundle_paths: [onePem] },
    'you can not use ca_bundle_path or ca_bundle_paths in spiffe mode',
  ],
  ['another mode', { mode: 'any', ca_bundle_path: onePem }, 'mode can only be either spiffe or external_pki'],
  [
    'a file that is not there',
    { ca_bundle_path: join(folder, 'none') },
    `unable to load trust bundle "${join(folder, 'none')}": open `,
  ],
  [
    'a file that holds none',
    { ca_bundle_path: broken },
    `unable to load trust bundle "${broken}": x509: malformed certificate`,
  ],
  ['no intermediates', { ca_bundle_path: onePem, max_intermediates: 0 }, 'max_intermediates must be greater than 0'],
  ['no RSA', { ca_bundle_path: onePem, max_rsa_key_size: 0 }, 'max_rsa_key_size must be greater than 0'],
  [
    'a template that is none',
    { ca_bundle_path: onePem, agent_path_template: '{{ x' },
    'failed to parse agent svid template',
  ],
])('%s is refused at the start', (_, data, message) => {
  expect(() => readX509Pop(data)).toThrow(message)
})

test('addresses are compared where that is configured, and only by true', async () => {
  expect(await trusted({ ca_bundle_path: onePem, verify_client_ip: true })).toEqual([])
  expect(await trusted({ ca_bundle_path: onePem, verify_client_ip: false })).toEqual(['one'])
})

test('the greatest number of intermediates is the one that is configured', async () => {
  const payload = (count: number) =>
    new TextEncoder().encode(JSON.stringify({ certificates: new Array(count + 1).fill(base64(one.der)) }))
  const attempt = (count: number) =>
    configure({ ca_bundle_path: onePem, max_intermediates: 2 }).start(payload(count), { peerAddress: '' })
  await expect(attempt(3)).rejects.toThrow('too many intermediate certificates')
  await expect(attempt(2)).rejects.not.toThrow('too many intermediate certificates')
})
