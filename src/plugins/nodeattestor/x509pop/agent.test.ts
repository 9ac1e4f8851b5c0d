import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { AT, makeCertificate } from '../../../../test/support/x509.ts'
import { base64 } from '../../../core/base64.ts'
import { parseCertificate } from '../../../core/certificate.ts'
import { encodePem } from '../../../core/pem.ts'
import { parseTrustDomainName } from '../../../core/trust-domain.ts'
import type { ServerHost } from '../../plugin.ts'
import { nodeVerifier } from '../../signer.ts'
import { x509PopFiles } from './agent.ts'
import { x509pop } from './edge.ts'
import declaration from './plugin.ts'

const folder = mkdtempSync(join(tmpdir(), 'x509pop-agent-'))
afterAll(() => rmSync(folder, { recursive: true }))
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const trustDomain = parseTrustDomainName('example.org')
const root = await makeCertificate({ name: 'root', ca: true })
const own = await makeCertificate({ name: 'own', ca: true })
const middle = await makeCertificate({ name: 'middle', ca: true }, root)
const leaf = await makeCertificate({ name: 'leaf' }, middle)
const data = {
  private_key_path: file('key.pem', encodePem('PRIVATE KEY', leaf.key.exportPrivateKey())),
  certificate_path: file('leaf.pem', encodePem('CERTIFICATE', leaf.der)),
  intermediates_path: file('middle.pem', encodePem('CERTIFICATE', middle.der)),
}
const host = {
  trustDomain,
  dataDir: folder,
  env: {},
  roots: async () => [parseCertificate(own.der)],
  clock: { nowMs: () => AT * 1000 },
  verify: nodeVerifier(),
} as Partial<ServerHost> as ServerHost

test.each([
  ['private_key_path', { ...data, private_key_path: '' }],
  ['private_key_path', { ...data, private_key_path: undefined }],
  ['certificate_path', { ...data, certificate_path: '' }],
  ['certificate_path', { ...data, certificate_path: 7 }],
])('without %s no agent starts', (key, incomplete) => {
  expect(() => x509PopFiles(incomplete)).toThrow(`${key} is required`)
})

test('files are read at each attestation: the leaf first, then what is between, if there is something', async () => {
  const load = x509PopFiles(data)
  expect((await load()).certificates).toEqual([leaf.der, middle.der])
  const { intermediates_path: _, ...alone } = data
  expect((await x509PopFiles(alone)()).certificates).toEqual([leaf.der])
  const renewed = await makeCertificate({ name: 'renewed' }, middle)
  file('leaf.pem', encodePem('CERTIFICATE', renewed.der))
  expect((await load()).certificates).toEqual([renewed.der, middle.der])
  file('leaf.pem', encodePem('CERTIFICATE', leaf.der))
  await expect(x509PopFiles({ ...data, private_key_path: join(folder, 'none') })()).rejects.toThrow('ENOENT')
})

test('both halves, as they are configured, attest each other', async () => {
  const server = await declaration.server!.make(
    { ca_bundle_path: file('root.pem', encodePem('CERTIFICATE', root.der)) },
    host,
  )
  const agent = await declaration.agent!.make(data, host)
  const { payload, respond } = await agent.begin(undefined)
  const step = await server!.start(payload, { peerAddress: '' })
  if (!('challenge' in step)) throw new Error('no challenge')
  const end = await server!.resume(step.state, await respond(step.challenge), { peerAddress: '' })
  expect(end).toMatchObject({ attributes: { selectorValues: expect.arrayContaining(['subject:cn:leaf']) } })
})

/** Whose leaves an attestor at the edge challenges. */
async function trusted(settings: Parameters<typeof x509pop>[0]): Promise<string[]> {
  const attestor = x509pop(settings)(host)
  const found: string[] = []
  for (const [name, issuer] of Object.entries({ root, own })) {
    const { der } = await makeCertificate({ name: '', uris: ['spiffe://example.org/spire-exchange/n'] }, issuer)
    const payload = new TextEncoder().encode(JSON.stringify({ certificates: [base64(der)] }))
    await attestor.start(payload, { peerAddress: '' }).then(
      () => found.push(name),
      () => {},
    )
  }
  return found
}

test('at the edge the roots of the bundle are trusted, and without one those of the server, and no others', async () => {
  expect(await trusted({ caBundle: encodePem('CERTIFICATE', root.der) })).toEqual(['root'])
  expect(await trusted({})).toEqual(['own'])
  for (const caBundle of ['', 'x']) expect(() => x509pop({ caBundle })).toThrow()
})
