import { expect, test } from 'vitest'
import { parseCertificate } from '../src/core/certificate.ts'
import { type Log, silentLog } from '../src/core/log.ts'
import { issuingKeyId } from '../src/core/path-validation.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { memoryKeyManager } from '../src/plugins/keymanager/memory.ts'
import { generateSigner, type MemorySigner } from '../src/plugins/signer.ts'
import { AT, makeCertificate } from '../test/support/x509.ts'
import { clientIdentity, identityOf, otherSlot, storedIdentity } from './identity.ts'

const TD = parseTrustDomainName('example.org')
const ID = 'spiffe://example.org/spire/agent/x/a'
const root = await makeCertificate({ name: 'root', ca: true })
const chainFor = async (key: MemorySigner, says = {}) => [
  (await makeCertificate({ name: 'agent', uris: [ID], key, notAfter: AT + 60, ...says }, root)).der,
]

test('an SVID makes an identity with the key that it is for, and with no other', async () => {
  const key = await generateSigner('ec-p256')
  const chain = await chainFor(key)
  expect(identityOf(chain, key, 'agent-svid-A', true)).toMatchObject({
    spiffeId: ID,
    slot: 'agent-svid-A',
    reattestable: true,
    notAfter: AT + 60,
  })
  expect(clientIdentity(identityOf(chain, key, 'agent-svid-A', true))).toEqual({
    chain,
    privateKey: key.exportPrivateKey(),
  })
  const other = await generateSigner('ec-p256')
  expect(() => identityOf(chain, other, 'agent-svid-A', true)).toThrow(
    'the server signed an agent SVID for another key',
  )
})

test.each([
  ['no ID', { uris: [] }],
  ['two IDs', { uris: [ID, ID] }],
  ['the marks of a CA', { ca: true }],
])('a certificate with %s makes none', async (_, says) => {
  const key = await generateSigner('ec-p256')
  const chain = await chainFor(key, says)
  expect(() => identityOf(chain, key, 'agent-svid-A', true)).toThrow(
    expect.objectContaining({ code: 'UNAUTHENTICATED' }),
  )
})

test('a key that its manager keeps to itself is not for TLS', async () => {
  const { exportPrivateKey: _, ...key } = await generateSigner('ec-p256')
  const chain = await chainFor({ ...key, exportPrivateKey: () => new Uint8Array(0) } as MemorySigner)
  expect(() => clientIdentity(identityOf(chain, key as never, 'agent-svid-A', true))).toThrow(
    'cannot hand the agent key to TLS',
  )
})

test('the next key goes where the present one is not', () => {
  expect([otherSlot('agent-svid-A'), otherSlot('agent-svid-B'), otherSlot(undefined)]).toEqual([
    'agent-svid-B',
    'agent-svid-A',
    'agent-svid-A',
  ])
})

test('the root that an identity leads to is the one that its last certificate names', async () => {
  const key = await generateSigner('ec-p256')
  const intermediate = await makeCertificate({ name: 'intermediate', ca: true }, root)
  const leaf = await makeCertificate({ name: 'agent', uris: [ID], key }, intermediate)
  const rootOf = (...chain: readonly Uint8Array[]) => identityOf(chain, key, 'agent-svid-A', true).rootKeyId
  const [direct] = await chainFor(key)
  expect(rootOf(direct!)).toBe(issuingKeyId(parseCertificate(intermediate.der)))
  expect(rootOf(leaf.der, intermediate.der)).toBe(rootOf(direct!))
  expect(rootOf(leaf.der)).not.toBe(rootOf(direct!))
})

test('what is stored is taken up with its own key, in its own trust domain and while it is good; else the log says why not', async () => {
  const manager = memoryKeyManager()
  const said: string[] = []
  const say = (message: string) => void said.push(message)
  const log: Log = { ...silentLog, info: say, warn: say }
  const stored = async (chain: readonly Uint8Array[], now = AT, td = TD) => {
    said.length = 0
    return storedIdentity(chain, true, manager, td, now, log)
  }
  const lost = await chainFor(await generateSigner('ec-p256'))
  expect(await stored([])).toBeUndefined()
  expect(said).toEqual(['SVID is not found. Starting node attestation'])
  expect(await stored(lost)).toBeUndefined()
  expect(said).toEqual(['SVID recovered, but no keys found. Generating new keypair'])
  await manager.generateKey('another', 'ec-p256')
  expect(await stored(lost)).toBeUndefined()
  expect(said).toEqual(['SVID recovered, but no keys found. Generating new keypair'])
  const first = (await manager.generateKey('agent-svid-A', 'ec-p256')) as MemorySigner
  const second = (await manager.generateKey('agent-svid-B', 'ec-p256')) as MemorySigner
  expect(await stored([])).toBeUndefined()
  expect(said).toEqual([
    'Keys recovered, but no SVID found. Generating new keypair',
    'SVID is not found. Starting node attestation',
  ])
  expect(await stored(lost)).toBeUndefined()
  expect(said).toEqual(['SVID recovered, but no SVID key found. Generating new keypair'])
  expect(await stored(await chainFor(first))).toMatchObject({ spiffeId: ID, slot: 'agent-svid-A', reattestable: true })
  expect(said).toEqual(['SVID loaded'])
  const chain = await chainFor(second)
  expect(await stored(chain)).toMatchObject({ slot: 'agent-svid-B' })
  expect(await stored(chain, AT + 58)).toBeDefined()
  expect(await stored(chain, AT + 59)).toBeUndefined()
  expect(said).toEqual(['SVID key recovered, but SVID is expired. Generating new keypair'])
  await expect(stored(chain, AT, parseTrustDomainName('other.org'))).rejects.toThrow(
    'the stored SVID is of another trust domain',
  )
})
