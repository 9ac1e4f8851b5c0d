import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import { expect, test } from 'vitest'
import { SERVER } from '../../agent/server-methods.ts'
import { base64 } from '../../src/core/base64.ts'
import { parseBundleDocument } from '../../src/core/bundle-document.ts'
import { parseCertificate } from '../../src/core/certificate.ts'
import { createCsr } from '../../src/core/csr.ts'
import { SVID_SUBJECT } from '../../src/core/x509-svid.ts'
import { generateSigner } from '../../src/plugins/signer.ts'
import {
  type AttestedAgent,
  attestByCertificate,
  attestByToken,
  channelTo,
  createEntry,
  KEK,
  type Place,
  type Seed,
  TRUST_DOMAIN,
  witOf,
} from '../support/edge.ts'

export interface EdgeServer extends Seed {
  readonly place: Place
  /** Everything that it logged so far, where that can be seen. */
  readonly logged?: () => string
}

/** What a server does over HTTP, on whatever runtime. @param open the one server of all tests, with seeds */
export function edgeSuite(open: () => EdgeServer): void {
  test('an agent attests with a join token, once, and renews', async () => {
    const { place, tokens } = open()
    const token = tokens.pop()!
    const agent = await attestByToken(place, token)
    await expect(attestByToken(place, token)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('join token does not exist or has already been used'),
    })
    const renewed = await renew(place, agent)
    const [before, after] = [agent, renewed].map(({ identity }) => parseCertificate(identity.chain[0]!))
    expect(after!.uris).toEqual(before!.uris)
    expect(after!.serial).not.toEqual(before!.serial)
    // The one is good until the other is used.
    expect(await entriesOf(place, agent)).toEqual([])
    expect(await entriesOf(place, renewed)).toEqual([])
    await expect(entriesOf(place, agent)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
  })

  test('an agent attests with a certificate in two requests, and again', async () => {
    const { place } = open()
    const agent = await attestByCertificate(place, 'node-1')
    expect(agent.id).toMatch(/^spiffe:\/\/example\.org\/spire\/agent\/x509pop\/[0-9a-f]{40}$/)
    expect(await entriesOf(place, agent)).toEqual([])
    expect((await attestByCertificate(place, 'node-2')).id).not.toBe(agent.id)
  })

  test('what an admin registers an agent gets, and its SVIDs lead to the published bundle', async () => {
    const { place, admin, tokens } = open()
    const agent = await attestByToken(place, tokens.pop()!)
    const entryId = await createEntry(place, admin, agent.id, '/web')
    expect(await entriesOf(place, agent)).toEqual([entryId])

    const workload = await generateSigner('ec-p256')
    const csr = await createCsr({ subject: SVID_SUBJECT, uris: ['spiffe://example.org/web'] }, workload)
    const channel = channelTo(place, agent.identity)
    const { results } = await channel.unary(SERVER.batchNewX509Svid, { params: [{ entryId, csr }] })
    const leaf = parseCertificate(results[0]!.svid!.certChain[0]!)
    expect(leaf.uris).toEqual(['spiffe://example.org/web'])
    const bundle = parseBundleDocument(TRUST_DOMAIN, await (await get(place, '/')).text())
    expect(bundle.x509Authorities.map(({ der }) => base64(der))).toEqual(place.roots.map(({ der }) => base64(der)))

    const { svid } = await channel.unary(SERVER.newJwtSvid, { entryId, audience: ['db'] })
    const keys = createLocalJWKSet((await (await get(place, '/keys')).json()) as JSONWebKeySet)
    const { payload, protectedHeader } = await jwtVerify(svid!.token, keys, { audience: 'db' })
    expect(payload).toMatchObject({ sub: 'spiffe://example.org/web', iss: 'https://id.example.org' })
    expect(protectedHeader.alg).toBe('ES256')
  })

  test('nobody else may register or sign', async () => {
    const { place, tokens } = open()
    const agent = await attestByToken(place, tokens.pop()!)
    await expect(createEntry(place, agent.identity, agent.id, '/mine')).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    })
    const stranger = { chain: agent.identity.chain, signer: await generateSigner('ec-p256') }
    await expect(entriesOf(place, { ...agent, identity: stranger })).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
    })
    const anonymous = channelTo(place)
    await expect(anonymous.unary(SERVER.newJwtSvid, { entryId: 'x', audience: ['db'] })).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    })
  })

  test('a WIT-SVID and its key are a credential of the workload', async () => {
    const { place, admin, tokens } = open()
    const agent = await attestByToken(place, tokens.pop()!)
    const [registrar, web] = await Promise.all([
      createEntry(place, admin, agent.id, '/registrar', { admin: true }),
      createEntry(place, admin, agent.id, '/web'),
    ])
    const credential = await witOf(place, agent, registrar)
    await createEntry(place, credential, agent.id, '/by-wit')
    const stolen = { ...credential, signer: await generateSigner('ec-p256') }
    await expect(createEntry(place, stolen, agent.id, '/stolen')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('the signature does not verify'),
    })
    const plain = await witOf(place, agent, web)
    await expect(createEntry(place, plain, agent.id, '/mine')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
  })

  test('documents for everybody: JWKS, discovery, health', async () => {
    const { place } = open()
    const discovery = await (await get(place, '/.well-known/openid-configuration')).json()
    expect(discovery).toMatchObject({ issuer: 'https://id.example.org', jwks_uri: 'https://id.example.org/keys' })
    expect((await get(place, '/ready')).status).toBe(200)
    expect((await get(place, '/nothing')).status).toBe(404)
    const jwks = await get(place, '/keys')
    expect(jwks.headers.get('access-control-allow-origin')).toBe('*')
    const etag = jwks.headers.get('etag')!
    expect((await get(place, '/keys', { 'if-none-match': etag })).status).toBe(304)
  })

  test('nothing secret was logged', () => {
    const { tokens, logged } = open()
    if (!logged) return
    const text = logged()
    expect(text).toContain('Agent attestation request completed')
    for (const secret of [KEK, ...tokens]) expect(text).not.toContain(secret)
  })
}

async function renew(place: Place, agent: AttestedAgent): Promise<AttestedAgent> {
  const signer = await generateSigner('ec-p256')
  const csr = await createCsr({ subject: SVID_SUBJECT }, signer)
  const { svid } = await channelTo(place, agent.identity).unary(SERVER.renewAgent, { params: { csr } })
  return { ...agent, identity: { chain: svid!.certChain, signer } }
}

async function entriesOf(place: Place, { identity }: AttestedAgent): Promise<readonly string[]> {
  const reply = await channelTo(place, identity).unary(SERVER.getAuthorizedEntries, { outputMask: undefined })
  return reply.entries.map(({ id }) => id)
}

function get(place: Place, path: string, headers: Record<string, string> = {}): Promise<Response> {
  return (place.fetch ?? fetch)(new Request(`${place.url}${path}`, { headers }))
}
