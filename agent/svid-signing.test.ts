import { expect, test } from 'vitest'
import type { Bundle } from '../src/core/bundle.ts'
import { parseCsr } from '../src/core/csr.ts'
import { StatusError } from '../src/core/error.ts'
import { jwtSigner, signClaims } from '../src/core/jwt-svid.ts'
import { silentLog } from '../src/core/log.ts'
import { parseSpiffeId, pathOf, trustDomainOf } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import { generateSigner, type MemorySigner, nodeVerifier } from '../src/plugins/signer.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import { AT, type Made, makeCertificate, type OddCertificate } from '../test/support/x509.ts'
import type { AgentEntry } from './entry.ts'
import { OutdatedError } from './outdated.ts'
import { SvidSigning, signJwt } from './svid-signing.ts'

const TD = parseTrustDomainName('example.org')
const ADMIN = parseSpiffeId('spiffe://example.org/admin')
const ENTRY: AgentEntry = {
  id: 'e',
  spiffeId: ADMIN,
  selectors: ['u:1'],
  federatesWith: [],
  dnsNames: [],
  admin: false,
  downstream: false,
  revisionNumber: 0,
  storeSvid: false,
  hint: '',
  createdAt: 0,
  disableX509SvidPrefetch: false,
  jwtSvidIncludeJti: false,
}

const EMPTY: Bundle = {
  trustDomain: TD,
  x509Authorities: [],
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHintSeconds: 0,
  sequenceNumber: 0,
}

/** A server that answers what it is told to. */
function answering(answer: (request: never) => Promise<unknown> | unknown): GrpcChannel {
  return {
    unary: async (_, request) => (await answer(request as never)) as never,
    serverStream: () => {
      throw new Error('not asked for')
    },
    bidi: () => {
      throw new Error('not asked for')
    },
    close() {},
  }
}

async function setUp({
  dnsNames = [],
  code = 0,
}: {
  readonly dnsNames?: readonly string[]
  readonly code?: number
} = {}) {
  const root = await makeCertificate({ name: 'root', ca: true, uris: ['spiffe://example.org'] })
  const bundle = { ...EMPTY, x509Authorities: [{ der: root.der, tainted: false }] }
  let current: Bundle | undefined = bundle
  const keys: MemorySigner[] = []
  const said: string[] = []
  const entry = { ...ENTRY, dnsNames }
  const signing = new SvidSigning(
    async (type) => {
      const key = await generateSigner(type)
      keys.push(key)
      return key
    },
    'ec-p256',
    { bundle: () => current, clock: { nowMs: () => AT * 1000 }, verify: nodeVerifier() },
    { ...silentLog, warn: (_message, fields) => void said.push(String(fields!.error)) },
  )
  /** Signs what the agent sends, but for what is said differently. */
  const sign = (says: Partial<OddCertificate> = {}, issuer: Made = root, id: string = ADMIN) =>
    signing.sign(
      answering(async () => ({
        results: [
          {
            status: { code, message: 'as it is' },
            svid: {
              certChain: [(await makeCertificate({ name: '', uris: [ADMIN], key: keys[0]!, ...says }, issuer)).der],
              id: { trustDomain: trustDomainOf(parseSpiffeId(id)), path: pathOf(parseSpiffeId(id)) },
              expiresAt: 0,
              hint: '',
            },
          },
        ],
      })),
      [entry],
    )
  const withoutBundle = () => {
    current = undefined
  }
  return { root, sign, signing, keys, entry, said, withoutBundle }
}

test('an SVID that was signed as asked is kept with its key and the entry that it was asked for', async () => {
  const { sign, keys } = await setUp()
  const { svids, outdated } = await sign()
  expect(outdated).toBe(false)
  expect(svids.get('e')).toMatchObject({ spiffeId: ADMIN, signedFor: ENTRY })
  expect(svids.get('e')!.privateKey).toEqual(keys[0]!.exportPrivateKey())
})

test('a clock that is off by hours takes no identity away', async () => {
  const { sign } = await setUp()
  expect((await sign({ notBefore: AT + 1800, notAfter: AT + 3600 })).svids.size).toBe(1)
  expect((await (await setUp()).sign({ notBefore: AT - 3600, notAfter: AT - 1800 })).svids.size).toBe(1)
})

const GUEST = 'spiffe://example.org/guest'
const stranger = await makeCertificate({ name: 'root', ca: true })

test.each<[string, boolean, Partial<OddCertificate>, Made?, string?]>([
  ['for another ID', true, { uris: [GUEST] }],
  ['for another ID, as the answer says', true, { uris: [GUEST] }, undefined, GUEST],
  ['with a second ID', false, { uris: [ADMIN, GUEST] }],
  ['without an ID', false, { uris: [] }],
  ['under another name than the answer says', true, {}, undefined, GUEST],
  ['for another key', false, { key: await generateSigner('ec-p256') }],
  ['as a CA', false, { ca: true }],
  ['under a root that is not in the bundle', true, {}, stranger],
])('an SVID that was signed %s counts as unsigned', async (_title, wanted, says, issuer, id) => {
  const { sign, root } = await setUp()
  const { svids, outdated } = await sign(says, issuer ?? root, id)
  expect(svids.size).toBe(0)
  expect(outdated).toBe(wanted)
})

test('an answer that refuses, or is missing, leaves the entry unsigned', async () => {
  const { signing } = await setUp()
  const refusal = { results: [{ status: { code: 13, message: 'failed to sign' }, svid: undefined }] }
  for (const answer of [refusal, { results: [] }, { results: [{ status: { code: 0, message: '' } }] }]) {
    expect(
      await signing.sign(
        answering(() => answer),
        [ENTRY],
      ),
    ).toEqual({ svids: new Map(), unsure: new Map(), outdated: false })
  }
})

test.each([
  ['none', { code: 0, message: '' }, 'the server sent no certificate'],
  ['a refusal', { code: 13, message: 'no' }, 'no'],
])('for an SVID the server sends %s: the log says so', async (_, status, text) => {
  const { signing, said } = await setUp()
  await signing.sign(
    answering(() => ({ results: [{ status, svid: { certChain: [] } }] })),
    [ENTRY],
  )
  expect(said).toEqual([text])
})

test('an SVID that comes with a refusal is not taken', async () => {
  const { sign, said } = await setUp({ code: 13 })
  expect((await sign()).svids.size).toBe(0)
  expect(said).toEqual(['as it is'])
})

test('without a bundle no SVID is taken', async () => {
  const { sign, withoutBundle } = await setUp()
  withoutBundle()
  expect(await sign()).toEqual({ svids: new Map(), unsure: new Map(), outdated: true })
})

test('a batch is halved when the server fails and doubled when it answers, between one and 500', async () => {
  const { signing } = await setUp()
  const failing = answering(() => Promise.reject(new StatusError('UNAVAILABLE', 'gone')))
  const fail = () => expect(signing.sign(failing, [])).rejects.toThrow('gone')
  const succeed = () =>
    signing.sign(
      answering(() => ({ results: [] })),
      [],
    )
  expect(signing.limit).toBe(500)
  await succeed()
  expect(signing.limit).toBe(500)
  for (const limit of [250, 125, 62, 31, 15, 7, 3, 1, 1]) {
    await fail()
    expect(signing.limit).toBe(limit)
  }
  for (const limit of [2, 4, 8, 16, 32, 64, 128, 256, 500]) {
    await succeed()
    expect(signing.limit).toBe(limit)
  }
})

test('an entry that the server does not know counts as unsigned, and a sync is due', async () => {
  const { signing } = await setUp()
  const answer = { results: [{ status: { code: 5, message: 'entry not found or not authorized' }, svid: undefined }] }
  expect(
    await signing.sign(
      answering(() => answer),
      [ENTRY],
    ),
  ).toEqual({ svids: new Map(), unsure: new Map(), outdated: true })
})

test.each<[string, boolean, readonly string[], readonly string[]]>([
  ['the DNS names of its entry, in another order', true, ['a.org', 'b.org'], ['b.org', 'a.org']],
  ['no DNS names for an entry that has some', false, ['a.org'], []],
  ['DNS names for an entry that has none', false, [], ['a.org']],
  ['a DNS name more', false, ['a.org'], ['a.org', 'b.org']],
])('an SVID with %s', async (_title, sure, dnsNames, signed) => {
  const { sign, entry } = await setUp({ dnsNames })
  const { svids, unsure, outdated } = await sign({ dnsNames: signed })
  expect([...(sure ? svids : unsure).values()]).toMatchObject([{ signedFor: entry }])
  expect((sure ? unsure : svids).size).toBe(0)
  expect(outdated).toBe(!sure)
})

test('what is sent is a CSR for the ID of the entry', async () => {
  const { signing, keys } = await setUp()
  let csr: Uint8Array | undefined
  await signing.sign(
    answering(({ params }: { params: { entryId: string; csr: Uint8Array }[] }) => {
      csr = params[0]!.csr
      return { results: [] }
    }),
    [ENTRY],
  )
  expect(parseCsr(csr!)).toMatchObject({ uris: [ADMIN], spki: keys[0]!.publicKey })
})

const GUEST_ID = { trustDomain: 'example.org', path: '/guest' }

test.each<[string, object, object, string?, string?, boolean?]>([
  ['as asked', {}, {}, undefined],
  ['with one audience as text', { aud: 'a' }, {}, undefined],
  ['for another subject', { sub: GUEST }, {}, 'outdated'],
  ['for another subject, as the answer says', { sub: GUEST }, { id: GUEST_ID }, 'outdated'],
  ['for another subject, and the answer names none', { sub: GUEST }, { id: undefined }, 'outdated'],
  ['with an answer that names none', {}, { id: undefined }],
  ['without a subject', { sub: undefined }, {}, 'outdated'],
  ['under another name than the answer says', {}, { id: GUEST_ID }, 'outdated'],
  ['for other audiences', { aud: ['b'] }, {}, 'the server signed for other audiences'],
  ['for one audience more', { aud: ['a', 'b'] }, {}, 'the server signed for other audiences'],
  ['for no audience at all', { aud: [] }, {}, 'the server signed for other audiences'],
  ['for no audience', { aud: undefined }, {}, 'the server signed for other audiences'],
  ['until another time', { exp: AT + 301 }, {}, 'the token ends at another time than the server says'],
  ['without an end', {}, { expiresAt: 0 }, 'JWTSVID response missing expires at'],
  ['without a beginning', {}, { issuedAt: 0 }, 'JWTSVID response missing issued at'],
  ['that ends before it begins', {}, { issuedAt: AT + 301 }, 'JWTSVID response issued after it has expired'],
  ['with a key that the bundle does not have', {}, {}, 'outdated', 'l'],
  ['with another key than it names', {}, {}, 'outdated', 'k', true],
])('a JWT-SVID that was signed %s', async (_title, claims, says, error, keyId = 'k', forged = false) => {
  const signer = await generateSigner('ec-p256')
  const { publicKey } = forged ? await generateSigner('ec-p256') : signer
  const trust = {
    bundle: () => ({ ...EMPTY, jwtAuthorities: [{ keyId, publicKey, expiresAt: AT + 3600, tainted: false }] }),
    clock: { nowMs: () => AT * 1000 },
    verify: nodeVerifier(),
  }
  const key = jwtSigner(signer, 'k')
  const token = await signClaims({ sub: ADMIN, aud: ['a'], exp: AT + 300, iat: AT, ...claims }, key)
  const id = { trustDomain: 'example.org', path: '/admin' }
  const connection = answering(() => ({ svid: { token, id, issuedAt: AT, expiresAt: AT + 300, hint: '', ...says } }))
  const signed = signJwt(connection, ENTRY, ['a'], 1000, trust)
  if (error === undefined) expect(await signed).toEqual({ token, issuedAt: AT, expiresAt: AT + 300, keyId: 'k' })
  else if (error === 'outdated') await expect(signed).rejects.toBeInstanceOf(OutdatedError)
  else await expect(signed).rejects.toThrow(error)
})

test('a token for an entry that the server does not know is no answer, and a sync is due', async () => {
  const connection = answering(() => {
    throw new StatusError('NOT_FOUND', 'entry not found or not authorized')
  })
  const trust = { bundle: () => EMPTY, clock: { nowMs: () => AT * 1000 }, verify: nodeVerifier() }
  await expect(signJwt(connection, ENTRY, ['a'], 1000, trust)).rejects.toBeInstanceOf(OutdatedError)
})

const TRUST = { bundle: () => EMPTY, clock: { nowMs: () => AT * 1000 }, verify: nodeVerifier() }

test('an answer without a token is none, and only an unknown entry is a reason to sync', async () => {
  await expect(
    signJwt(
      answering(() => ({})),
      ENTRY,
      ['a'],
      1000,
      TRUST,
    ),
  ).rejects.toThrow('JWTSVID response missing SVID')
  for (const error of [new StatusError('UNAVAILABLE', 'gone'), Object.assign(new Error('no'), { code: 'NOT_FOUND' })]) {
    const connection = answering(() => Promise.reject(error))
    await expect(signJwt(connection, ENTRY, ['a'], 1000, TRUST)).rejects.toBe(error)
  }
})

test.each([
  ['fewer', ['a'], ['a', 'b']],
  ['as many others', ['a', 'c'], ['a', 'b']],
  ['more', ['a', 'b'], ['a']],
])('a token for %s audiences than were asked for is not taken', async (_, aud, asked) => {
  const signer = await generateSigner('ec-p256')
  const token = await signClaims({ sub: ADMIN, aud, exp: AT + 300, iat: AT }, jwtSigner(signer, 'k'))
  const requests: unknown[] = []
  const connection = answering((request) => {
    requests.push(request)
    return { svid: { token, id: undefined, issuedAt: AT, expiresAt: AT + 300, hint: '' } }
  })
  const bundle = () => ({
    ...EMPTY,
    jwtAuthorities: [{ keyId: 'k', publicKey: signer.publicKey, expiresAt: AT + 3600, tainted: false }],
  })
  await expect(signJwt(connection, ENTRY, asked, 1000, { ...TRUST, bundle })).rejects.toThrow(
    'the server signed for other audiences',
  )
  expect(requests).toEqual([{ entryId: 'e', audience: asked }])
  expect((await signJwt(connection, ENTRY, aud, 1000, { ...TRUST, bundle })).token).toBe(token)
})
