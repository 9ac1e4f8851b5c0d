import { beforeEach, expect, test } from 'vitest'
import * as api from '../../proto/spire/api/server/agent/v1.ts'
import { Agent, JoinToken, SelectorMatch_MatchBehavior } from '../../proto/spire/api/types.ts'
import {
  ANONYMOUS,
  call,
  identified,
  incoming,
  LOCAL,
  rejection,
  TD,
  type TestServer,
  testServer,
} from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { parseCertificate, serialText } from '../core/certificate.ts'
import { createCsr } from '../core/csr.ts'
import { proveJoinToken } from '../core/join-token-proof.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import { parseTrustDomain } from '../core/trust-domain.ts'
import { SVID_SUBJECT } from '../core/x509-svid.ts'
import { generateSigner } from '../plugins/signer.ts'

const AGENT = '/spire.api.server.agent.v1.Agent/'
const csr = await createCsr({ subject: SVID_SUBJECT }, await generateSigner('ec-p256'))
const ALL = { size: 0, token: '' }

let server: TestServer
beforeEach(async () => {
  server = await testServer()
})

async function attest(token: string, request = csr, carried = false): Promise<api.AttestAgentResponse> {
  const params = { data: { type: 'join_token', payload: new TextEncoder().encode(token) }, params: { csr: request } }
  async function* requests() {
    yield api.AttestAgentRequest.encode({ params }).finish()
  }
  for await (const bytes of server.service.methods
    .get(`${AGENT}AttestAgent`)!
    .stream(requests(), { ...incoming(ANONYMOUS), carried })) {
    return api.AttestAgentResponse.decode(bytes)
  }
  throw new Error('no response')
}

function createToken(request: Partial<api.CreateJoinTokenRequest> = {}) {
  return call(
    server,
    `${AGENT}CreateJoinToken`,
    [api.CreateJoinTokenRequest, { ttl: 60, token: '', agentId: undefined, ...request }],
    JoinToken,
  )
}

test('a join token attests one agent once', async () => {
  const { value } = await createToken()
  const { result } = await attest(value)
  expect(result?.svid?.id).toEqual({ trustDomain: TD, path: `/spire/agent/join_token/${value}` })
  expect(result?.reattestable).toBe(false)
  expect(parseCertificate(result!.svid!.certChain[0]!).uris).toEqual([`spiffe://${TD}/spire/agent/join_token/${value}`])
  expect(await rejection(attest(value))).toBe(
    'INVALID_ARGUMENT: failed to attest: join token does not exist or has already been used',
  )
})

test('over HTTP proof of a join token attests one agent once, and the token does not', async () => {
  const { value } = await createToken()
  await createToken({ token: `${value.slice(0, 8)} begins the same` })
  const proofFor = async (request: Uint8Array, trustDomain = TD) =>
    new TextDecoder().decode(await proveJoinToken(value, { trustDomain, csr: request }, AT))
  const gone = 'INVALID_ARGUMENT: failed to attest: join token does not exist or has already been used'
  expect(await rejection(attest(value, csr, true))).toBe(
    'INVALID_ARGUMENT: failed to attest: over HTTP proof of a join token is taken, not the token',
  )
  // Whoever reads the proof, or has the token of another trust domain, has nothing.
  const proof = await proofFor(csr)
  const stolen = await createCsr({ subject: SVID_SUBJECT }, await generateSigner('ec-p256'))
  expect(await rejection(attest(proof, stolen, true))).toBe(gone)
  expect(await rejection(attest(await proofFor(csr, parseTrustDomain('other.org')), csr, true))).toBe(gone)
  server.clock.ms += 91_000
  expect(await rejection(attest(proof, csr, true))).toMatch(/^INVALID_ARGUMENT: failed to attest: the proof .* too old/)
  server.clock.ms -= 91_000
  const { result } = await attest(proof, csr, true)
  expect(result?.svid?.id).toEqual({ trustDomain: TD, path: `/spire/agent/join_token/${value}` })
  expect(await rejection(attest(proof, csr, true))).toBe(gone)
})

test('a server may be told to take join tokens over HTTP', async () => {
  const { value } = await createToken()
  Object.assign(server.deps, { plainJoinTokens: true })
  expect((await attest(value, csr, true)).result?.svid?.id?.path).toContain(value)
})

test('of two agents that present one token at once, one is attested', async () => {
  const { value } = await createToken()
  const outcomes = await Promise.all([rejection(attest(value)), rejection(attest(value))])
  expect(outcomes.filter((outcome) => outcome === 'OK')).toHaveLength(1)
})

test('an expired token is refused and gone', async () => {
  const { value } = await createToken({ token: 'late', ttl: 1 })
  server.clock.ms += 5000
  expect(await rejection(attest(value))).toBe('INVALID_ARGUMENT: join token expired')
  expect(await rejection(attest(value))).toMatch(/does not exist or has already been used$/)
})

test('a CSR that is malformed or not signed by its key does not cost a token', async () => {
  const { value } = await createToken()
  expect(await rejection(attest(value, Uint8Array.of(1)))).toMatch(/^INVALID_ARGUMENT: failed to parse CSR: /)
  const unsigned = csr.slice()
  unsigned[unsigned.length - 1]! ^= 1
  expect(await rejection(attest(value, unsigned))).toMatch(/^INVALID_ARGUMENT: invalid CSR signature: /)
  expect(await rejection(attest(value))).toBe('OK')
})

test('a banned agent is refused until it is deleted', async () => {
  const id = spiffeId(TD, '/spire/agent/join_token/t')
  await createToken({ token: 't' })
  await attest('t')
  const wireId = { trustDomain: TD, path: '/spire/agent/join_token/t' }
  await call(server, `${AGENT}BanAgent`, [api.BanAgentRequest, { id: wireId }], api.PostStatusResponse)
  const banned = await call(
    server,
    `${AGENT}GetAgent`,
    [api.GetAgentRequest, { id: wireId, outputMask: undefined }],
    Agent,
  )
  expect(banned).toMatchObject({ banned: true, x509svidSerialNumber: '', attestationType: 'join_token' })
  await createToken({ token: 't' })
  expect(await rejection(attest('t'))).toBe('PERMISSION_DENIED: failed to attest: agent is banned')
  await call(server, `${AGENT}DeleteAgent`, [api.DeleteAgentRequest, { id: wireId }], api.PostStatusResponse)
  expect(await server.store.nodes.get(id)).toBeUndefined()
  await createToken({ token: 't' })
  expect(await rejection(attest('t'))).toBe('OK')
})

test('a token for an ID makes an alias entry, which goes with the agent', async () => {
  await createToken({ token: 'alias', agentId: { trustDomain: TD, path: '/node' } })
  const parentId = `spiffe://${TD}/spire/agent/join_token/alias`
  const { items } = await server.store.entries.list({}, ALL)
  expect(items).toMatchObject([
    { spiffeId: `spiffe://${TD}/node`, parentId, selectors: [{ type: 'spiffe_id', value: parentId }] },
  ])
  await attest('alias')
  const id = { trustDomain: TD, path: '/spire/agent/join_token/alias' }
  await call(server, `${AGENT}DeleteAgent`, [api.DeleteAgentRequest, { id }], api.PostStatusResponse)
  expect((await server.store.entries.list({}, ALL)).items).toEqual([])
})

test('a renewed SVID waits beside the present one', async () => {
  await createToken({ token: 'r' })
  const { result } = await attest('r')
  const serial = serialText(parseCertificate(result!.svid!.certChain[0]!))
  const renewed = await call(
    server,
    `${AGENT}RenewAgent`,
    [api.RenewAgentRequest, { params: { csr } }],
    api.RenewAgentResponse,
    identified('/spire/agent/join_token/r', serial),
  )
  const stored = await server.store.nodes.get(spiffeId(TD, '/spire/agent/join_token/r'))
  expect(stored).toMatchObject({
    serialNumber: serial,
    newSerialNumber: serialText(parseCertificate(renewed.svid!.certChain[0]!)),
  })
})

test.each([
  [
    'CreateJoinToken',
    api.CreateJoinTokenRequest,
    { ttl: 0, token: '', agentId: undefined },
    'INVALID_ARGUMENT: ttl is required, you must provide one',
  ],
  [
    'CreateJoinToken',
    api.CreateJoinTokenRequest,
    { ttl: 1, token: '', agentId: { trustDomain: TD, path: '/spire/x' } },
    `INVALID_ARGUMENT: invalid agent ID: "spiffe://${TD}/spire/x" is not a workload in trust domain "${TD}"; path is in the reserved namespace`,
  ],
  [
    'GetAgent',
    api.GetAgentRequest,
    { id: undefined, outputMask: undefined },
    'INVALID_ARGUMENT: invalid agent ID: request must specify SPIFFE ID',
  ],
  [
    'GetAgent',
    api.GetAgentRequest,
    { id: { trustDomain: TD, path: '/spire/agent/a/b' }, outputMask: undefined },
    'NOT_FOUND: agent not found',
  ],
  [
    'BanAgent',
    api.BanAgentRequest,
    { id: { trustDomain: TD, path: '/spire/agent/a/b' } },
    'NOT_FOUND: agent not found',
  ],
  [
    'DeleteAgent',
    api.DeleteAgentRequest,
    { id: { trustDomain: 'other', path: '/a' } },
    `INVALID_ARGUMENT: invalid agent ID: "spiffe://other/a" is not a member of trust domain "${TD}"`,
  ],
] as const)('%s answers %#: %s', async (method, type, request, expected) => {
  // biome-ignore lint/suspicious/noExplicitAny: rows of several request types.
  expect(await rejection(call(server, AGENT + method, [type as any, request], Agent, LOCAL))).toBe(expected)
})

test('an agent that can attest again must do so: its SVID is not renewed', async () => {
  const id = spiffeId(TD, '/spire/agent/x509pop/a')
  const node = {
    id,
    attestationType: 'x509pop',
    serialNumber: '1',
    expiresAt: AT + 3600,
    canReattest: true,
    selectors: [],
  }
  await server.store.nodes.recordAttestation(node)
  const renew = (request = csr) =>
    call(
      server,
      `${AGENT}RenewAgent`,
      [api.RenewAgentRequest, { params: { csr: request } }],
      api.RenewAgentResponse,
      identified('/spire/agent/x509pop/a'),
    )
  expect(await rejection(renew())).toBe('PERMISSION_DENIED: agent must reattest instead of renew')
  expect(await server.store.nodes.get(id)).toMatchObject({ serialNumber: '1', newSerialNumber: '' })
  await server.store.nodes.recordAttestation({ ...node, canReattest: false })
  expect(await rejection(renew(new Uint8Array(0)))).toBe('INVALID_ARGUMENT: missing CSR')
  const forged = csr.slice()
  forged[forged.length - 1]! ^= 1
  expect(await rejection(renew(forged))).toMatch(/^INVALID_ARGUMENT: invalid CSR signature: /)
  expect(await server.store.nodes.get(id)).toMatchObject({ newSerialNumber: '' })
  expect(await rejection(renew())).toBe('OK')
})

test('agents are listed and counted by what is asked for', async () => {
  const node = (name: string, fields: object) =>
    server.store.nodes.recordAttestation({
      id: spiffeId(TD, `/spire/agent/x/${name}`),
      attestationType: 'x',
      serialNumber: '1',
      expiresAt: AT + 10,
      canReattest: true,
      selectors: [{ type: 'x', value: name }],
      ...fields,
    })
  await node('a', {})
  await node('b', { canReattest: false, expiresAt: AT - 10 })
  await node('c', { attestationType: 'y' })
  await server.store.nodes.ban(spiffeId(TD, '/spire/agent/x/c'))
  const NONE = api.ListAgentsRequest_Filter.decode(new Uint8Array(0))
  const list = async (filter: Partial<api.ListAgentsRequest_Filter> | undefined, outputMask?: object) => {
    const request = api.ListAgentsRequest.decode(new Uint8Array(0))
    const { agents } = await call(
      server,
      `${AGENT}ListAgents`,
      [
        api.ListAgentsRequest,
        { ...request, filter: filter && { ...NONE, ...filter }, outputMask: outputMask as never },
      ],
      api.ListAgentsResponse,
    )
    return agents
  }
  const names = async (filter?: Partial<api.ListAgentsRequest_Filter>) => {
    const found = (await list(filter)).map(({ id }) => id!.path.slice(-1)).join('')
    const { count } = await call(
      server,
      `${AGENT}CountAgents`,
      [api.CountAgentsRequest, { filter: filter && { ...NONE, ...filter } }],
      api.CountAgentsResponse,
    )
    expect(count).toBe(found.length)
    return found
  }
  const time = (seconds: number) => new Date(seconds * 1000).toISOString().replace(/T(.*)\.000Z/, ' $1 +0000 +00')
  const match = (...values: string[]) => ({
    selectors: values.map((value) => ({ type: 'x', value })),
    match: SelectorMatch_MatchBehavior.MATCH_EXACT,
  })
  expect(await names()).toBe('abc')
  expect(await names({})).toBe('abc')
  expect(await names({ byAttestationType: 'y' })).toBe('c')
  expect(await names({ byBanned: true })).toBe('c')
  expect(await names({ byBanned: false })).toBe('ab')
  expect(await names({ byCanReattest: false })).toBe('b')
  expect(await names({ byCanReattest: true })).toMatch(/^a/)
  expect(await names({ byExpiresBefore: time(AT) })).toBe('b')
  expect(await names({ byExpiresBefore: time(AT).replace('+0000 +00', '-0100 -01') })).toBe('abc')
  for (const text of ['tomorrow', '2026-99-01 00:00:00 +0000 +00', `x${time(AT)}`, `${time(AT)}x`])
    expect(await names({ byExpiresBefore: text })).toBe('abc')
  expect(await names({ bySelectorMatch: match('b') })).toBe('b')
  expect(await rejection(list({ bySelectorMatch: match() }))).toMatch(/cannot list by empty selectors set$/)
  expect(
    await rejection(
      list({
        bySelectorMatch: { selectors: [{ type: '', value: 'b' }], match: SelectorMatch_MatchBehavior.MATCH_EXACT },
      }),
    ),
  ).toMatch(/^INVALID_ARGUMENT: failed to parse selectors: /)
  const bare = { ...Agent.decode(new Uint8Array(0)) }
  expect((await list({ byCanReattest: false }))[0]!.selectors).toEqual([{ type: 'x', value: 'b' }])
  expect((await list({ byCanReattest: false }, { ...bare, selectors: false }))[0]!.selectors).toEqual([])
})

test('an agent tells its own version, of 255 bytes at most', async () => {
  await createToken({ token: 'v' })
  const { result } = await attest('v')
  const serial = serialText(parseCertificate(result!.svid!.certChain[0]!))
  const post = (agentVersion: string) =>
    call(
      server,
      `${AGENT}PostStatus`,
      [api.PostStatusRequest, { ...api.PostStatusRequest.decode(new Uint8Array(0)), agentVersion }],
      api.PostStatusResponse,
      identified('/spire/agent/join_token/v', serial),
    )
  const version = async () => (await server.store.nodes.get(spiffeId(TD, '/spire/agent/join_token/v')))!.agentVersion
  const longest = 'v'.repeat(255)
  expect(await rejection(post(longest))).toBe('OK')
  expect(await rejection(post('ä'.repeat(128)))).toBe(
    'INVALID_ARGUMENT: agent version is too long (max 255 characters)',
  )
  expect(await rejection(post(''))).toBe('OK')
  expect(await version()).toBe(longest)
})

test('an alias gives its ID and no more', async () => {
  await createToken({ token: 'plain', agentId: { trustDomain: TD, path: '/node' } })
  const { items } = await server.store.entries.list({}, ALL)
  expect(items).toMatchObject([
    {
      admin: false,
      downstream: false,
      storeSvid: false,
      disableX509SvidPrefetch: false,
      jwtSvidIncludeJti: false,
      federatesWith: [],
      dnsNames: [],
    },
  ])
})

test('a token is good up to and with the second in which it ends', async () => {
  const { value } = await createToken({ ttl: 5 })
  server.clock.ms += 5000
  expect(await rejection(attest(value))).toBe('OK')
})
