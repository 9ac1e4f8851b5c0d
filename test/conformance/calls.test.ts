import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as agents from '../../proto/spire/api/server/agent/v1.ts'
import * as bundles from '../../proto/spire/api/server/bundle/v1.ts'
import * as entries from '../../proto/spire/api/server/entry/v1.ts'
import * as svids from '../../proto/spire/api/server/svid/v1.ts'
import * as trustDomains from '../../proto/spire/api/server/trustdomain/v1.ts'
import { Bundle, Entry, EntryMask, FederationRelationship } from '../../proto/spire/api/types.ts'
import { parseCertificate } from '../../src/core/certificate.ts'
import { createCsr } from '../../src/core/csr.ts'
import { decodeName, encodeName } from '../../src/core/x509-name.ts'
import { generateSigner } from '../../src/plugins/signer.ts'
import type { MessageType } from '../../src/rpc/method.ts'
import { connect, type GrpcChannel } from '../../src/transport/grpc-client.ts'
import { PROGRAMS, SPIRE_IS_MISSING, sideBySide } from '../support/side-by-side.ts'
import { makeCertificate } from '../support/x509.ts'

/** Calls and what is answered: by our server, and by a SPIRE server where there is one. */
if (SPIRE_IS_MISSING) console.warn('SPIRE_BIN is not set: answers to calls are NOT compared with SPIRE')

const both = sideBySide({})
beforeAll(async () => void (await both.start()), 30_000)
afterAll(() => both.stop())

const NOTHING = new Uint8Array(0)
const EMPTY_ENTRY = Entry.decode(NOTHING)
const EMPTY_MASK = EntryMask.decode(NOTHING)

describe.each(PROGRAMS)('%s', (program) => {
  let channel: GrpcChannel
  beforeAll(async () => {
    channel = await connect({ target: `unix://${both.socket(program)}` })
  })
  afterAll(() => channel.close())

  /** The answer, or code and text of the error. */
  async function call<Req, Res>(
    path: string,
    request: MessageType<Req>,
    response: MessageType<Res>,
    given: Partial<Req>,
  ): Promise<Res> {
    return channel.unary(
      { path: `/spire.api.server.${path}`, request, response },
      { ...request.decode(NOTHING), ...given },
    )
  }
  const refusal = (calling: Promise<unknown>) =>
    calling.then(
      () => 'no error',
      ({ code, message }) => `${code}: ${message}`,
    )

  const create = (...given: readonly Partial<Entry>[]) =>
    call('entry.v1.Entry/BatchCreateEntry', entries.BatchCreateEntryRequest, entries.BatchCreateEntryResponse, {
      entries: given.map(entry),
    })
  const update = (inputMask: Partial<EntryMask> | undefined, ...given: readonly Partial<Entry>[]) =>
    call('entry.v1.Entry/BatchUpdateEntry', entries.BatchUpdateEntryRequest, entries.BatchUpdateEntryResponse, {
      entries: given.map(entry),
      inputMask: inputMask && { ...EMPTY_MASK, ...inputMask },
    })
  const get = (id: string) => call('entry.v1.Entry/GetEntry', entries.GetEntryRequest, Entry, { id })
  const list = (given: Partial<entries.ListEntriesRequest>) =>
    call('entry.v1.Entry/ListEntries', entries.ListEntriesRequest, entries.ListEntriesResponse, given)
  const entry = (given: Partial<Entry>): Entry => ({
    ...EMPTY_ENTRY,
    parentId: { trustDomain: 'example.org', path: '/parent' },
    spiffeId: { trustDomain: 'example.org', path: '/workload' },
    selectors: [{ type: 'a', value: '1' }],
    ...given,
  })
  const [A1, A2, B1] = [
    { type: 'a', value: '1' },
    { type: 'a', value: '2' },
    { type: 'b', value: '1' },
  ]

  test('selectors and DNS names are kept as they were given, and sorted in answers to writes', async () => {
    const given = { id: 'order', selectors: [B1!, A2!, A1!], dnsNames: ['z.test', 'a.test'] }
    const { results: created } = await create(given)
    expect(created[0]!.entry).toMatchObject({ selectors: [A1, A2, B1], dnsNames: ['a.test', 'z.test'] })
    expect(await get('order')).toMatchObject({ selectors: [B1, A2, A1], dnsNames: ['z.test', 'a.test'] })
    const next = { id: 'order', selectors: [B1!, A1!], dnsNames: ['y.test', 'b.test'] }
    const { results: updated } = await update({ selectors: true, dnsNames: true }, next)
    expect(updated[0]!.entry).toMatchObject({ selectors: [A1, B1], dnsNames: ['b.test', 'y.test'], revisionNumber: 1 })
    expect(await get('order')).toMatchObject({ selectors: [B1, A1], dnsNames: ['y.test', 'b.test'] })
    const { results: again } = await create({ selectors: [A1!, B1!] })
    expect(again[0]).toMatchObject({ status: { code: 6 }, entry: { id: 'order', selectors: [B1, A1] } })
  })

  test('several updates of an entry in one call have a revision each', async () => {
    await create({ id: 'revisions', spiffeId: { trustDomain: 'example.org', path: '/revisions' } })
    const { results } = await update({ hint: true }, ...['x', 'y', 'y'].map((hint) => ({ id: 'revisions', hint })))
    expect(results.map(({ entry }) => [entry!.hint, entry!.revisionNumber])).toEqual([
      ['x', 1],
      ['y', 2],
      ['y', 3],
    ])
    const { results: nothing } = await update({}, { id: 'revisions' })
    expect(nothing[0]!.entry!.revisionNumber).toBe(4)
  })

  test('an entry with store_svid gets no selectors of several types', async () => {
    const spiffeId = { trustDomain: 'example.org', path: '/stored' }
    await create({ id: 'stored', spiffeId, storeSvid: true })
    const { results } = await update({ selectors: true }, { id: 'stored', selectors: [A1!, B1!] })
    expect(results[0]!.status).toEqual({
      code: 3,
      message:
        'failed to update entry: datastore-validation: invalid registration entry: selector types must be the same when store SVID is enabled',
    })
    expect((await get('stored')).revisionNumber).toBe(0)
  })

  test.each([
    ['a_b.test', ''],
    ['_a._tcp.test', ''],
    ['A.Test', ''],
    ['xn--bcher-kva.test', ''],
    ['a--b.test', ''],
    ['*.a.test', ''],
    ['ab--c.test', 'idna error\nidna: invalid label "ab--c"'],
    ['a..test', 'idna error\nidna: invalid label "a..test"'],
    ['-A.test', 'idna error\nidna: invalid label "-A"'],
    ['XN--BCHER-KVA.test', 'idna error\nidna: invalid label "XN--BCHER-KVA"'],
    ['a.test.', 'domain ends with dot'],
    ['bücher.test', 'name must be ascii'],
    ['*', 'wildcard must be first label'],
    ['', 'empty or only whitespace'],
  ])('the DNS name %j', async (name, refused) => {
    const spiffeId = { trustDomain: 'example.org', path: '/dns' }
    const selectors = [{ type: 'dns', value: name || 'none' }]
    const { results } = await create({ spiffeId, selectors, dnsNames: [name] })
    expect(results[0]!.status).toEqual(
      refused === ''
        ? { code: 0, message: 'OK' }
        : { code: 3, message: `failed to convert entry: invalid DNS name: ${refused}` },
    )
  })

  test('a hint is as long as its bytes', async () => {
    const spiffeId = { trustDomain: 'example.org', path: '/hint' }
    const { results } = await create({ spiffeId, hint: 'é'.repeat(512) }, { spiffeId, hint: 'é'.repeat(513) })
    expect(results.map(({ status }) => status!.message)).toEqual([
      'OK',
      'failed to convert entry: hint is too long, max length is 1024 characters',
    ])
  })

  test('tokens of pages that are none', async () => {
    const page = { pageSize: 1, pageToken: 'zz' }
    expect(await refusal(list(page))).toBe(
      "INTERNAL: failed to list entries: datastore-sql: rpc error: code = InvalidArgument desc = could not parse token 'zz'",
    )
    const token = (what: string) => `INTERNAL: failed to list ${what}: could not parse token 'zz'`
    const agentsOf = call('agent.v1.Agent/ListAgents', agents.ListAgentsRequest, agents.ListAgentsResponse, page)
    expect(await refusal(agentsOf)).toBe(token('agents'))
    const bundlesOf = call(
      'bundle.v1.Bundle/ListFederatedBundles',
      bundles.ListFederatedBundlesRequest,
      bundles.ListFederatedBundlesResponse,
      page,
    )
    expect(await refusal(bundlesOf)).toBe(token('bundles'))
    const relationships = call(
      'trustdomain.v1.TrustDomain/ListFederationRelationships',
      trustDomains.ListFederationRelationshipsRequest,
      trustDomains.ListFederationRelationshipsResponse,
      page,
    )
    expect(await refusal(relationships)).toBe(token('federation relationships'))
  })

  test.each([
    [4, '\\x04'],
    [7, '\\a'],
    [65, 'A'],
    [127, '\\x7f'],
    [-1, '\ufffd'],
  ])('the match behaviour %d is none', async (match, quoted) => {
    const none = entries.ListEntriesRequest_Filter.decode(NOTHING)
    const bySelectors = { ...none, bySelectors: { selectors: [A1!], match: match as never } }
    const byFederatesWith = { ...none, byFederatesWith: { trustDomains: ['a.test'], match: match as never } }
    const text = (what: string, of: string) =>
      `INTERNAL: failed to list ${what}: datastore-sql: unhandled ${of}match behavior '${quoted}'`
    expect(await refusal(list({ filter: bySelectors }))).toBe(text('entries', 'selectors '))
    expect(await refusal(list({ filter: byFederatesWith }))).toBe(text('entries', 'federates with '))
    const filter = {
      ...agents.ListAgentsRequest_Filter.decode(NOTHING),
      bySelectorMatch: { selectors: [A1!], match: match as never },
    }
    const listed = call('agent.v1.Agent/ListAgents', agents.ListAgentsRequest, agents.ListAgentsResponse, { filter })
    expect(await refusal(listed)).toBe(text('agents', ''))
  })

  const createRelationship = (given: Partial<FederationRelationship>) =>
    call(
      'trustdomain.v1.TrustDomain/BatchCreateFederationRelationship',
      trustDomains.BatchCreateFederationRelationshipRequest,
      trustDomains.BatchCreateFederationRelationshipResponse,
      { federationRelationships: [{ ...FederationRelationship.decode(NOTHING), httpsWeb: {}, ...given }] },
    )
  const bundleOf = async (trustDomain: string): Promise<Bundle> => ({
    ...Bundle.decode(NOTHING),
    trustDomain,
    x509Authorities: [{ asn1: (await makeCertificate({ name: 'root' })).der, tainted: false }],
  })

  test('the answer to a new federation relationship has the bundle that came with it, and no other', async () => {
    await call(
      'bundle.v1.Bundle/BatchSetFederatedBundle',
      bundles.BatchSetFederatedBundleRequest,
      bundles.BatchSetFederatedBundleResponse,
      { bundle: [await bundleOf('known.test')] },
    )
    const known = await createRelationship({ trustDomain: 'known.test', bundleEndpointUrl: 'https://x.test' })
    expect(known.results[0]).toMatchObject({
      status: { code: 0 },
      federationRelationship: { trustDomain: 'known.test' },
    })
    expect(known.results[0]!.federationRelationship!.trustDomainBundle).toBeUndefined()
    const stored = await call(
      'trustdomain.v1.TrustDomain/GetFederationRelationship',
      trustDomains.GetFederationRelationshipRequest,
      FederationRelationship,
      { trustDomain: 'known.test' },
    )
    expect(stored.trustDomainBundle!.x509Authorities).toHaveLength(1)
    const trustDomainBundle = await bundleOf('given.test')
    const given = await createRelationship({
      trustDomain: 'given.test',
      bundleEndpointUrl: 'https://x.test',
      trustDomainBundle,
    })
    expect(given.results[0]!.federationRelationship!.trustDomainBundle!.x509Authorities).toHaveLength(1)
  })

  test('the URL of a bundle endpoint is kept as Go writes it, or refused as Go does', async () => {
    const { results } = await createRelationship({ trustDomain: 'url.test', bundleEndpointUrl: 'HTTPS://ü.test/a b#' })
    expect(results[0]!.federationRelationship!.bundleEndpointUrl).toBe('https://%C3%BC.test/a%20b')
    const refused = await createRelationship({ trustDomain: 'url2.test', bundleEndpointUrl: 'https://x.test/%zz' })
    expect(refused.results[0]!.status).toEqual({
      code: 3,
      message:
        'failed to convert federation relationship: failed to parse bundle endpoint URL: parse "https://x.test/%zz": invalid URL escape "%zz"',
    })
  })

  test('the subject of a CSR has its parts in the order of Go', async () => {
    const name = {
      commonName: 'c',
      serialNumber: 's',
      organization: ['o'],
      organizationalUnit: ['ou'],
      country: ['US'],
      locality: ['l'],
      province: ['p'],
      streetAddress: ['street'],
      postalCode: ['1'],
    }
    const signer = await generateSigner('ec-p256')
    const csr = await createCsr({ subject: encodeName(name), uris: ['spiffe://example.org/subject'] }, signer)
    const { svid } = await call('svid.v1.SVID/MintX509SVID', svids.MintX509SVIDRequest, svids.MintX509SVIDResponse, {
      csr,
    })
    const { subject } = parseCertificate(svid!.certChain[0]!)
    expect(decodeName(subject)).toEqual(name)
    expect(
      Buffer.from(subject)
        .toString('hex')
        .match(/06035504(..)/g)!
        .map((oid) => Number.parseInt(oid.slice(-2), 16)),
    ).toEqual([6, 8, 7, 9, 17, 10, 11, 3, 5])
  })
})
