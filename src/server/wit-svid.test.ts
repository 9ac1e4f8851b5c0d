import { generateKeyPairSync } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { expect, test } from 'vitest'
import * as bundleApi from '../../proto/spire/api/server/bundle/v1.ts'
import * as api from '../../proto/spire/api/server/svid/v1.ts'
import { PLAIN_ENTRY } from '../../test/support/entry.ts'
import { call, identified, LOCAL, rejection, TD, type TestServer, testServer } from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { jwkOf } from '../core/jwk.ts'
import { type SpiffeId, spiffeId } from '../core/spiffe-id.ts'
import { generateSigner } from '../plugins/signer.ts'

const SVID = '/spire.api.server.svid.v1.SVID/'
const publicKey = (await generateSigner('ec-p256')).publicKey
const ed25519 = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'der' })
const AGENT = spiffeId(TD, '/spire/agent/test/one')

const mint = (server: TestServer, changes: Partial<api.MintWITSVIDRequest> = {}) =>
  call(
    server,
    `${SVID}MintWITSVID`,
    [
      api.MintWITSVIDRequest,
      { id: { trustDomain: TD, path: '/w' }, publicKey, ttl: 0, signingAlgorithm: 'ES256', ...changes },
    ],
    api.MintWITSVIDResponse,
  )

test('MintWITSVID answers with a token bound to the key, for an hour', async () => {
  const { svid } = await mint(await testServer({ witSvids: true }))
  expect(svid).toMatchObject({ id: { trustDomain: TD, path: '/w' }, expiresAt: AT + 3600, issuedAt: AT, hint: '' })
  expect(decodeProtectedHeader(svid!.token)).toEqual({ alg: 'ES256', kid: 'wit-1', typ: 'wit+jwt' })
  expect(decodeJwt(svid!.token)).toEqual({
    cnf: { jwk: { ...jwkOf(publicKey), alg: 'ES256' } },
    exp: AT + 3600,
    iat: AT,
    sub: `spiffe://${TD}/w`,
  })
  expect((await mint(await testServer({ witSvids: true }), { ttl: 60 })).svid!.expiresAt).toBe(AT + 60)
})

test('without the feature flag MintWITSVID says that it is disabled', async () => {
  expect(await rejection(mint(await testServer()))).toBe('UNIMPLEMENTED: WIT functionality is disabled')
})

test.each([
  [{ id: undefined }, 'INVALID_ARGUMENT: invalid SPIFFE ID: request must specify SPIFFE ID'],
  [{ id: { trustDomain: 'other.org', path: '/w' } }, 'INVALID_ARGUMENT: invalid SPIFFE ID: '],
  [{ publicKey: new Uint8Array(0) }, 'INVALID_ARGUMENT: invalid public key: '],
  [{ publicKey: Uint8Array.of(0x30, 0x80) }, 'INVALID_ARGUMENT: invalid public key: '],
  [
    { signingAlgorithm: 'ES384' },
    'INVALID_ARGUMENT: invalid signing algorithm or key type: unsupported signing algorithm for ec-p256 key: ES384',
  ],
  [
    { signingAlgorithm: '' },
    'INVALID_ARGUMENT: invalid signing algorithm or key type: unsupported signing algorithm for ec-p256 key: ',
  ],
  [
    { publicKey: new Uint8Array(ed25519), signingAlgorithm: 'EdDSA' },
    "INVALID_ARGUMENT: invalid signing algorithm or key type: unsupported key type 'ed25519.PublicKey'",
  ],
])('MintWITSVID refuses %#', async (changes, expected) => {
  expect(await rejection(mint(await testServer({ witSvids: true }), changes))).toContain(expected)
})

async function withAgent(options: { readonly witSvids?: boolean }) {
  const server = await testServer(options)
  await server.store.nodes.recordAttestation({
    id: AGENT as SpiffeId,
    attestationType: 'test',
    serialNumber: '1',
    expiresAt: AT + 3600,
    canReattest: true,
    selectors: [],
  })
  const [result] = await server.store.entries.create(
    [
      {
        id: 'e1',
        spiffeId: spiffeId(TD, '/w'),
        parentId: AGENT,
        selectors: [{ type: 'unix', value: 'uid:1' }],
        ...PLAIN_ENTRY,
        x509SvidTtlSeconds: 600,
      },
    ],
    AT,
  )
  expect(result).toMatchObject({ outcome: 'created' })
  return (...params: api.NewWITSVIDParams[]) =>
    call(
      server,
      `${SVID}BatchNewWITSVID`,
      [api.BatchNewWITSVIDRequest, { params }],
      api.BatchNewWITSVIDResponse,
      identified('/spire/agent/test/one'),
    )
}

test('BatchNewWITSVID answers each item by itself; what went well has no status', async () => {
  const batch = await withAgent({ witSvids: true })
  const item = { entryId: 'e1', publicKey, signingAlgorithm: 'ES256' }
  const { results } = await batch(
    item,
    { ...item, entryId: '' },
    { ...item, publicKey: new Uint8Array(0) },
    { ...item, entryId: 'none' },
    { ...item, publicKey: Uint8Array.of(1) },
    { ...item, signingAlgorithm: 'RS256' },
  )
  expect(results.map(({ status }) => status && `${status.code} ${status.message}`)).toEqual([
    undefined,
    '3 missing entry ID',
    '3 missing public key',
    '5 entry not found or not authorized',
    expect.stringMatching(/^3 malformed public key: /),
    '3 invalid signing algorithm or key type: unsupported signing algorithm for ec-p256 key: RS256',
  ])
  expect(results[0]!.svid).toMatchObject({ expiresAt: AT + 600, issuedAt: AT, id: { trustDomain: TD, path: '/w' } })
  expect(decodeJwt(results[0]!.svid!.token).sub).toBe(`spiffe://${TD}/w`)
  expect(results.slice(1).every(({ svid }) => svid === undefined)).toBe(true)
})

test('without the feature flag each item says that there is no key', async () => {
  const batch = await withAgent({})
  const { results } = await batch({ entryId: 'e1', publicKey, signingAlgorithm: 'ES256' })
  expect(results.map(({ status }) => `${status?.code} ${status?.message}`)).toEqual([
    '13 failed to sign WIT-SVID: WIT key is not available for signing',
  ])
})

test('PublishWITAuthority takes the keys of servers below, and answers with all there are', async () => {
  const server = await testServer({ witSvids: true })
  await server.store.entries.create(
    [
      {
        id: 'd',
        spiffeId: spiffeId(TD, '/below'),
        parentId: AGENT,
        selectors: [{ type: 'unix', value: 'uid:1' }],
        ...PLAIN_ENTRY,
        downstream: true,
      },
    ],
    AT,
  )
  const publish = (
    target: TestServer,
    witAuthority: bundleApi.PublishWITAuthorityRequest['witAuthority'],
    peer = identified('/below'),
  ) =>
    call(
      target,
      '/spire.api.server.bundle.v1.Bundle/PublishWITAuthority',
      [bundleApi.PublishWITAuthorityRequest, { witAuthority }],
      bundleApi.PublishWITAuthorityResponse,
      peer,
    )
  const key = { publicKey, keyId: 'below-1', expiresAt: AT + 60, tainted: false }
  expect((await publish(server, key)).witAuthorities).toEqual([key])
  expect((await publish(server, { ...key, keyId: 'below-2' })).witAuthorities.map(({ keyId }) => keyId)).toEqual([
    'below-1',
    'below-2',
  ])
  expect(await rejection(publish(server, undefined))).toBe('INVALID_ARGUMENT: missing WIT authority')
  expect(await rejection(publish(server, { ...key, keyId: '' }))).toBe(
    'INVALID_ARGUMENT: invalid WIT authority: missing key ID',
  )
  expect(await rejection(publish(server, key, LOCAL))).toMatch(/^PERMISSION_DENIED/)
})
