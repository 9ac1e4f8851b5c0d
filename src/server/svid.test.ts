import { decodeJwt } from 'jose'
import { beforeEach, expect, test } from 'vitest'
import * as api from '../../proto/spire/api/server/svid/v1.ts'
import { PLAIN_ENTRY } from '../../test/support/entry.ts'
import { call, identified, LOCAL, rejection, TD, type TestServer, testServer } from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { parseCertificate } from '../core/certificate.ts'
import { type CsrFields, createCsr } from '../core/csr.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import { SVID_SUBJECT } from '../core/x509-svid.ts'
import { generateSigner } from '../plugins/signer.ts'

const SVID = '/spire.api.server.svid.v1.SVID/'
const AGENT = '/spire/agent/test/one'
const key = await generateSigner('ec-p256')
const other = await generateSigner('ec-p256')
const csrOf = (fields: Partial<CsrFields>) => createCsr({ subject: SVID_SUBJECT, ...fields }, key)
/** Names the key of one and is signed by another. */
const stolen = await createCsr(
  { subject: SVID_SUBJECT, uris: [`spiffe://${TD}/w`] },
  { ...key, sign: (data: Uint8Array) => other.sign(data) },
)

let server: TestServer
beforeEach(async () => {
  server = await testServer()
})

const mintX509 = (csr: Uint8Array) =>
  call(server, `${SVID}MintX509SVID`, [api.MintX509SVIDRequest, { csr, ttl: 0 }], api.MintX509SVIDResponse)
const mintJwt = (id: api.MintJWTSVIDRequest['id'], audience = ['a']) =>
  call(server, `${SVID}MintJWTSVID`, [api.MintJWTSVIDRequest, { id, audience, ttl: 0 }], api.MintJWTSVIDResponse)

const OUTSIDE = [
  ['another trust domain', 'other.org', '/w', `"spiffe://other.org/w" is not a member of trust domain "${TD}"`],
  ['a trust domain that begins alike', `${TD}.other`, '/w', 'is not a member of trust domain'],
  ['the trust domain itself', TD, '', 'path is empty'],
  ['the server', TD, '/spire/server', 'path is in the reserved namespace'],
  ['an agent', TD, '/spire/agent/join_token/t', 'path is in the reserved namespace'],
] as const

test.each(OUTSIDE)('nothing is minted for %s', async (_, trustDomain, path, message) => {
  const x509 = await rejection(mintX509(await csrOf({ uris: [`spiffe://${trustDomain}${path}`] })))
  expect(x509).toMatch(/^INVALID_ARGUMENT: CSR URI SAN is invalid: /)
  expect(x509).toContain(message)
  const jwt = await rejection(mintJwt({ trustDomain, path }))
  expect(jwt).toMatch(/^INVALID_ARGUMENT: invalid SPIFFE ID: /)
  expect(jwt).toContain(message)
})

test.each([
  ['no URI', { uris: [] }, 'CSR URI SAN is required'],
  ['two URIs', { uris: [`spiffe://${TD}/w`, `spiffe://${TD}/v`] }, 'only one URI SAN is expected'],
  ['one URI twice', { uris: [`spiffe://${TD}/w`, `spiffe://${TD}/w`] }, 'only one URI SAN is expected'],
  ['a URI that is no SPIFFE ID', { uris: [`https://${TD}/w`] }, 'CSR URI SAN is invalid: scheme is missing or invalid'],
  [
    'a DNS name that is none',
    { uris: [`spiffe://${TD}/w`], dnsNames: ['ok.test', 'a b'] },
    'CSR DNS name is invalid: idna error\nidna: disallowed rune U+0020',
  ],
  [
    'a wildcard over another name',
    { uris: [`spiffe://${TD}/w`], dnsNames: ['a.b.test', 'x.test', '*.b.test'] },
    'CSR DNS name contains a wildcard that covers another non-wildcard name: name "a.b.test" overlaps with an existing wildcard name in the list: wildcard overlap',
  ],
])('MintX509SVID refuses a CSR with %s', async (_, fields, message) => {
  expect(await rejection(mintX509(await csrOf(fields)))).toBe(`INVALID_ARGUMENT: ${message}`)
})

test('MintX509SVID refuses no CSR, a malformed one, and one signed by another key', async () => {
  expect(await rejection(mintX509(new Uint8Array(0)))).toBe('INVALID_ARGUMENT: missing CSR')
  expect(await rejection(mintX509(Uint8Array.of(1)))).toMatch(/^INVALID_ARGUMENT: malformed CSR: /)
  expect(await rejection(mintX509(stolen))).toBe(
    'INVALID_ARGUMENT: failed to verify CSR signature: x509: ECDSA verification failure',
  )
})

test('what is minted says what was asked for, and nothing more', async () => {
  const { svid } = await mintX509(await csrOf({ uris: [`spiffe://${TD}/w`], dnsNames: ['*.b.test', 'b.test'] }))
  expect(svid).toMatchObject({ id: { trustDomain: TD, path: '/w' }, expiresAt: AT + 3600 })
  const leaf = parseCertificate(svid!.certChain[0]!)
  expect(leaf).toMatchObject({ uris: [`spiffe://${TD}/w`], dnsNames: ['*.b.test', 'b.test'], isCa: false })
  expect(leaf.spki).toEqual(key.publicKey)
  const jwt = (await mintJwt({ trustDomain: TD, path: '/w' }, ['a', 'b'])).svid!
  expect(decodeJwt(jwt.token)).toEqual({ sub: `spiffe://${TD}/w`, aud: ['a', 'b'], iat: AT, exp: AT + 300 })
})

test.each([[[]], [['']]])('no token is minted for the audiences %j', async (audience) => {
  expect(await rejection(mintJwt({ trustDomain: TD, path: '/w' }, audience))).toMatch(/audience/)
})

test('no token is minted where there are to be none', async () => {
  const { deps } = server
  ;(deps as { jwtSvidsEnabled: boolean }).jwtSvidsEnabled = false
  const disabled = 'UNIMPLEMENTED: JWT functionality is disabled'
  expect(await rejection(mintJwt({ trustDomain: TD, path: '/w' }))).toBe(disabled)
  await withEntries()
  expect(await rejection(newJwt('mine'))).toBe(disabled)
})

async function withEntries() {
  await server.store.nodes.recordAttestation({
    id: spiffeId(TD, AGENT),
    attestationType: 'test',
    serialNumber: '1',
    expiresAt: AT + 3600,
    canReattest: true,
    selectors: [],
  })
  const selectors = [{ type: 'unix', value: 'uid:1' }]
  await server.store.entries.create(
    [
      {
        id: 'mine',
        spiffeId: spiffeId(TD, '/mine'),
        parentId: spiffeId(TD, AGENT),
        selectors,
        ...PLAIN_ENTRY,
        dnsNames: ['mine.test'],
        x509SvidTtlSeconds: 60,
        jwtSvidTtlSeconds: 30,
      },
      {
        id: 'theirs',
        spiffeId: spiffeId(TD, '/theirs'),
        parentId: spiffeId(TD, '/spire/agent/test/two'),
        selectors,
        ...PLAIN_ENTRY,
      },
    ],
    AT,
  )
}

const newJwt = (entryId: string, audience = ['a']) =>
  call(
    server,
    `${SVID}NewJWTSVID`,
    [api.NewJWTSVIDRequest, { entryId, audience }],
    api.NewJWTSVIDResponse,
    identified(AGENT),
  )

test('an agent gets SVIDs for its own entries only, and only for keys that it holds', async () => {
  await withEntries()
  // What the CSR names is not looked at: the entry decides.
  const csr = await csrOf({ uris: [`spiffe://${TD}/theirs`], dnsNames: ['theirs.test'] })
  const params = [
    { entryId: 'mine', csr },
    { entryId: 'theirs', csr },
    { entryId: 'none', csr },
    { entryId: '', csr },
    { entryId: 'mine', csr: new Uint8Array(0) },
    { entryId: 'mine', csr: Uint8Array.of(1) },
    { entryId: 'mine', csr: stolen },
  ]
  const { results } = await call(
    server,
    `${SVID}BatchNewX509SVID`,
    [api.BatchNewX509SVIDRequest, { params }],
    api.BatchNewX509SVIDResponse,
    identified(AGENT),
  )
  expect(results.map(({ status }) => status!.message.replace(/^(malformed CSR): .*/, '$1'))).toEqual([
    'OK',
    'entry not found or not authorized',
    'entry not found or not authorized',
    'missing entry ID',
    'missing CSR',
    'malformed CSR',
    'invalid CSR signature: x509: ECDSA verification failure',
  ])
  expect(results.slice(1).every(({ svid }) => svid === undefined)).toBe(true)
  expect(parseCertificate(results[0]!.svid!.certChain[0]!)).toMatchObject({
    uris: [`spiffe://${TD}/mine`],
    dnsNames: ['mine.test'],
    notAfter: AT + 60,
  })
  expect(decodeJwt((await newJwt('mine')).svid!.token)).toMatchObject({ sub: `spiffe://${TD}/mine`, exp: AT + 30 })
  for (const id of ['theirs', 'none', ''])
    expect(await rejection(newJwt(id))).toBe('NOT_FOUND: entry not found or not authorized')
  expect(await rejection(newJwt('mine', []))).toBe('INVALID_ARGUMENT: at least one audience is required')
})

test('an empty batch is refused', async () => {
  await withEntries()
  for (const [method, request, response] of [
    ['BatchNewX509SVID', api.BatchNewX509SVIDRequest, api.BatchNewX509SVIDResponse],
    ['BatchNewWITSVID', api.BatchNewWITSVIDRequest, api.BatchNewWITSVIDResponse],
  ] as const) {
    // biome-ignore lint/suspicious/noExplicitAny: rows of two request types.
    const attempt = call(server, SVID + method, [request as any, { params: [] }], response as any, identified(AGENT))
    expect(await rejection(attempt)).toBe('INVALID_ARGUMENT: missing parameters')
  }
})

test('a CA for a server below is given for a key that it holds', async () => {
  await server.store.entries.create(
    [
      {
        id: 'd',
        spiffeId: spiffeId(TD, '/below'),
        parentId: spiffeId(TD, AGENT),
        selectors: [{ type: 'unix', value: 'uid:1' }],
        ...PLAIN_ENTRY,
        downstream: true,
      },
    ],
    AT,
  )
  const ask = (csr: Uint8Array, peer = identified('/below')) =>
    call(
      server,
      `${SVID}NewDownstreamX509CA`,
      [api.NewDownstreamX509CARequest, { csr, preferredTtl: 60 }],
      api.NewDownstreamX509CAResponse,
      peer,
    )
  const { caCertChain, x509Authorities } = await ask(await csrOf({ uris: [`spiffe://${TD}/anything`] }))
  expect(parseCertificate(caCertChain[0]!)).toMatchObject({ isCa: true, uris: [`spiffe://${TD}`], notAfter: AT + 60 })
  expect(x509Authorities).toHaveLength(1)
  expect(await rejection(ask(stolen))).toBe('INVALID_ARGUMENT: invalid CSR signature: x509: ECDSA verification failure')
  expect(await rejection(ask(Uint8Array.of(1)))).toMatch(/^INVALID_ARGUMENT: malformed CSR: /)
  expect(await rejection(ask(await csrOf({}), LOCAL))).toMatch(/^PERMISSION_DENIED/)
})
