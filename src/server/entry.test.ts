import { expect, test } from 'vitest'
import * as api from '../../proto/spire/api/server/entry/v1.ts'
import * as svidApi from '../../proto/spire/api/server/svid/v1.ts'
import { Entry, EntryMask } from '../../proto/spire/api/types.ts'
import { call, identified, incoming, rejection, TD, testServer } from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { parseCertificate } from '../core/certificate.ts'
import { createCsr } from '../core/csr.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import { SVID_SUBJECT } from '../core/x509-svid.ts'
import { generateSigner } from '../plugins/signer.ts'

const ENTRY = '/spire.api.server.entry.v1.Entry/'
const SVID = '/spire.api.server.svid.v1.SVID/'
const AGENT_PATH = '/spire/agent/x509pop/a'
const EMPTY = Entry.decode(new Uint8Array(0))
const NO_MASK = { outputMask: undefined }
const wireId = (path: string) => ({ trustDomain: TD as string, path })

function entry(path: string, fields: Partial<Entry> = {}): Entry {
  return {
    ...EMPTY,
    parentId: wireId(AGENT_PATH),
    spiffeId: wireId(path),
    selectors: [{ type: 'unix', value: `uid:${path}` }],
    ...fields,
  }
}

async function withAgent() {
  const server = await testServer()
  await server.store.nodes.recordAttestation({
    id: spiffeId(TD, AGENT_PATH),
    attestationType: 'x509pop',
    serialNumber: '1',
    expiresAt: AT + 3600,
    canReattest: true,
    selectors: [],
  })
  const create = (...entries: Entry[]) =>
    call(
      server,
      `${ENTRY}BatchCreateEntry`,
      [api.BatchCreateEntryRequest, { entries, ...NO_MASK }],
      api.BatchCreateEntryResponse,
    )
  return { server, create }
}

test('BatchCreateEntry answers each item in its place', async () => {
  const { create } = await withAgent()
  const { results } = await create(
    entry('/a', { hint: 'h' }),
    entry('/b', { selectors: [] }),
    entry('/c'),
    entry('/d', { spiffeId: undefined }),
    entry('/e', { dnsNames: ['*'] }),
    entry('/f', { hint: 'x'.repeat(1025) }),
    entry('/g', { x509SvidTtl: -1 }),
    entry('/h', { expiresAt: -5 }),
    entry('/i', { expiresAt: Number.MAX_SAFE_INTEGER }),
    entry('/j', { jwtSvidTtl: -1 }),
    entry('/k', { dnsNames: ['example.org\n'] }),
    entry('/a'),
  )
  expect(results.map(({ status }) => `${status?.code} ${status?.message}`)).toEqual([
    '0 OK',
    '3 failed to convert entry: selector list is empty',
    '0 OK',
    '3 failed to convert entry: invalid spiffe ID: request must specify SPIFFE ID',
    '3 failed to convert entry: invalid DNS name: wildcard must be first label',
    '3 failed to convert entry: hint is too long, max length is 1024 characters',
    '3 failed to create entry: datastore-validation: invalid registration entry: X509SvidTtl is not set',
    '3 failed to create entry: datastore-validation: invalid registration entry: expiry is out of range',
    '3 failed to create entry: datastore-validation: invalid registration entry: expiry is out of range',
    '3 failed to create entry: datastore-validation: invalid registration entry: JwtSvidTtl is not set',
    '3 failed to convert entry: invalid DNS name: idna error\nidna: disallowed rune U+000A',
    '6 similar entry already exists',
  ])
  expect(results[11]!.entry).toMatchObject({ id: results[0]!.entry!.id, hint: 'h', revisionNumber: 0 })
})

test('BatchUpdateEntry writes what the mask names and counts revisions; BatchDeleteEntry echoes ids', async () => {
  const { server, create } = await withAgent()
  const { results } = await create(entry('/a', { hint: 'before', dnsNames: ['a.test'] }))
  const id = results[0]!.entry!.id
  const inputMask = { ...EntryMask.decode(new Uint8Array(0)), hint: true }
  const updated = await call(
    server,
    `${ENTRY}BatchUpdateEntry`,
    [
      api.BatchUpdateEntryRequest,
      {
        entries: [
          { ...EMPTY, id, hint: 'after' },
          { ...EMPTY, id: 'none' },
        ],
        inputMask,
        ...NO_MASK,
      },
    ],
    api.BatchUpdateEntryResponse,
  )
  expect(updated.results[0]!.entry).toMatchObject({ hint: 'after', dnsNames: ['a.test'], revisionNumber: 1 })
  expect(updated.results[1]!.status).toEqual({ code: 5, message: 'failed to update entry' })
  const deleted = await call(
    server,
    `${ENTRY}BatchDeleteEntry`,
    [api.BatchDeleteEntryRequest, { ids: [id, id, ''] }],
    api.BatchDeleteEntryResponse,
  )
  expect(deleted.results).toEqual([
    { status: { code: 0, message: 'OK' }, id },
    { status: { code: 5, message: 'entry not found' }, id },
    { status: { code: 3, message: 'missing entry ID' }, id: '' },
  ])
})

test('listing needs one extra request to see the end, and a mask leaves the id', async () => {
  const { server, create } = await withAgent()
  await create(entry('/a'), entry('/b'), entry('/c'))
  const seen: Entry[] = []
  let pageToken = ''
  let requests = 0
  do {
    const page = await call(
      server,
      `${ENTRY}ListEntries`,
      [
        api.ListEntriesRequest,
        { filter: undefined, outputMask: EntryMask.decode(new Uint8Array(0)), pageSize: 2, pageToken },
      ],
      api.ListEntriesResponse,
    )
    seen.push(...page.entries)
    pageToken = page.nextPageToken
    requests++
  } while (pageToken !== '')
  expect(requests).toBe(3)
  expect(seen).toEqual(seen.map(({ id }) => ({ ...EMPTY, id })))
  expect(seen).toHaveLength(3)
})

test.each([
  [
    { byParentId: { trustDomain: 'other', path: '/x' } },
    `INVALID_ARGUMENT: malformed parent ID filter: "spiffe://other/x" is not a member of trust domain "${TD}"`,
  ],
  [
    { bySelectors: { selectors: [], match: 0 as const } },
    'INVALID_ARGUMENT: malformed selectors filter: empty selector set',
  ],
  [
    { bySelectors: { selectors: [{ type: 'a:b', value: 'c' }], match: 0 as const } },
    "INVALID_ARGUMENT: malformed selectors filter: selector type contains ':'",
  ],
  [
    { byFederatesWith: { trustDomains: [], match: 0 as const } },
    'INVALID_ARGUMENT: malformed federates with filter: empty trust domain set',
  ],
])('ListEntries refuses the filter %o', async (filter, expected) => {
  const { server } = await withAgent()
  const none = api.ListEntriesRequest_Filter.decode(new Uint8Array(0))
  const request = { filter: { ...none, ...filter }, ...NO_MASK, pageSize: 0, pageToken: '' }
  expect(
    await rejection(call(server, `${ENTRY}ListEntries`, [api.ListEntriesRequest, request], api.ListEntriesResponse)),
  ).toBe(expected)
})

async function sync(
  server: Awaited<ReturnType<typeof withAgent>>['server'],
  ...requests: api.SyncAuthorizedEntriesRequest[]
) {
  async function* bytes() {
    for (const request of requests) yield api.SyncAuthorizedEntriesRequest.encode(request).finish()
  }
  const responses: api.SyncAuthorizedEntriesResponse[] = []
  const method = server.service.methods.get(`${ENTRY}SyncAuthorizedEntries`)!
  for await (const response of method.stream(bytes(), incoming(identified(AGENT_PATH)))) {
    responses.push(api.SyncAuthorizedEntriesResponse.decode(response))
  }
  return responses
}

test('few entries are sent whole, and the server ends the stream', async () => {
  const { server, create } = await withAgent()
  await create(entry('/a'), entry('/b'))
  const responses = await sync(server, { outputMask: undefined, ids: [] }, { outputMask: undefined, ids: ['x'] })
  expect(responses).toHaveLength(1)
  expect(responses[0]).toMatchObject({ more: false, entries: [{ spiffeId: wireId('/a') }, { spiffeId: wireId('/b') }] })
})

test('many entries are sent as revisions, and whole only when asked for', async () => {
  const { server, create } = await withAgent()
  await create(...Array.from({ length: 501 }, (_, index) => entry(`/w${index}`)))
  const [first, second, asked] = await sync(
    server,
    { outputMask: undefined, ids: [] },
    {
      outputMask: undefined,
      ids: [(await server.store.entries.list({}, { size: 1, token: '' })).items[0]!.id, 'unknown'],
    },
  )
  expect([first!.entryRevisions.length, first!.more]).toEqual([500, true])
  expect([second!.entryRevisions.length, second!.more]).toEqual([1, false])
  expect([asked!.entries.length, asked!.more]).toEqual([1, false])
  expect(await rejection(sync(server, { outputMask: undefined, ids: ['a'] }))).toBe(
    'INVALID_ARGUMENT: specifying IDs on initial request is not supported',
  )
})

test('an agent gets X509-SVIDs and JWT-SVIDs for its entries and no others', async () => {
  const { server, create } = await withAgent()
  const { results } = await create(entry('/a', { dnsNames: ['a.test'], x509SvidTtl: 60, jwtSvidTtl: 30 }))
  const entryId = results[0]!.entry!.id
  const csr = await createCsr({ subject: SVID_SUBJECT }, await generateSigner('ec-p256'))
  const peer = identified(AGENT_PATH)
  const batch = await call(
    server,
    `${SVID}BatchNewX509SVID`,
    [
      svidApi.BatchNewX509SVIDRequest,
      {
        params: [
          { entryId, csr },
          { entryId: '', csr },
          { entryId, csr: new Uint8Array(0) },
          { entryId: 'other', csr },
          { entryId, csr: Uint8Array.of(1) },
        ],
      },
    ],
    svidApi.BatchNewX509SVIDResponse,
    peer,
  )
  expect(batch.results.map(({ status }) => `${status?.code} ${status?.message.split(': ')[0]}`)).toEqual([
    '0 OK',
    '3 missing entry ID',
    '3 missing CSR',
    '5 entry not found or not authorized',
    '3 malformed CSR',
  ])
  const leaf = parseCertificate(batch.results[0]!.svid!.certChain[0]!)
  expect(leaf).toMatchObject({ uris: [`spiffe://${TD}/a`], dnsNames: ['a.test'], notAfter: AT + 60 })
  const jwt = (id: string, audience: string[]) =>
    call(
      server,
      `${SVID}NewJWTSVID`,
      [svidApi.NewJWTSVIDRequest, { entryId: id, audience }],
      svidApi.NewJWTSVIDResponse,
      peer,
    )
  expect((await jwt(entryId, ['x'])).svid).toMatchObject({ id: wireId('/a'), expiresAt: AT + 30, issuedAt: AT })
  expect(await rejection(jwt('', ['x']))).toBe('NOT_FOUND: entry not found or not authorized')
  expect(await rejection(jwt(entryId, []))).toBe('INVALID_ARGUMENT: at least one audience is required')
  const tooMany = { params: Array.from({ length: 501 }, () => ({ entryId, csr })) }
  expect(
    await rejection(
      call(
        server,
        `${SVID}BatchNewX509SVID`,
        [svidApi.BatchNewX509SVIDRequest, tooMany],
        svidApi.BatchNewX509SVIDResponse,
        peer,
      ),
    ),
  ).toBe(
    'RESOURCE_EXHAUSTED: rejecting request due to certificate signing rate limiting: rate (501) exceeds burst size (500)',
  )
})
