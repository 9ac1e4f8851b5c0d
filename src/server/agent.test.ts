import { beforeEach, expect, test } from 'vitest'
import * as api from '../../proto/spire/api/server/agent/v1.ts'
import { Agent, JoinToken } from '../../proto/spire/api/types.ts'
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
