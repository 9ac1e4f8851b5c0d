import { expect, test } from 'vitest'
import * as health from '../../proto/grpc/health/v1.ts'
import * as api from '../../proto/spire/api/server/bundle/v1.ts'
import * as federation from '../../proto/spire/api/server/trustdomain/v1.ts'
import { Bundle, FederationRelationship } from '../../proto/spire/api/types.ts'
import { ANONYMOUS, call, identified, incoming, rejection, TD, testServer } from '../../test/support/server.ts'
import { makeCertificate } from '../../test/support/x509.ts'
import type { Log, LogFields } from '../core/log.ts'
import { generateSigner } from '../plugins/signer.ts'

const BUNDLE = '/spire.api.server.bundle.v1.Bundle/'
const FEDERATION = '/spire.api.server.trustdomain.v1.TrustDomain/'
const EMPTY = Bundle.decode(new Uint8Array(0))
const NO_MASK = { outputMask: undefined }
const root = (await makeCertificate({ name: 'root', ca: true })).der
const publicKey = (await generateSigner('ec-p256')).publicKey

test('anybody gets the own bundle, anew after each change, and encoded once in between', async () => {
  const server = await testServer()
  const method = server.service.methods.get(`${BUNDLE}GetBundle`)!
  const get = () => method.unary(new Uint8Array(0), incoming(ANONYMOUS))
  const before = await get()
  expect(await get()).toBe(before)
  const key = { publicKey, keyId: 'k', expiresAt: 5, tainted: false }
  const request = {
    x509Authorities: [{ asn1: root, tainted: false }],
    jwtAuthorities: [key],
    witAuthorities: [],
    ...NO_MASK,
  }
  await call(server, `${BUNDLE}AppendBundle`, [api.AppendBundleRequest, request], Bundle)
  const after = Bundle.decode(await get())
  expect(after.sequenceNumber).toBe(Bundle.decode(before).sequenceNumber + 1)
  expect(after.jwtAuthorities).toEqual([key])
  expect(after.x509Authorities).toHaveLength(2)
})

test.each([
  [{}, 'INVALID_ARGUMENT: no authorities to append'],
  [
    { x509Authorities: [{ asn1: Uint8Array.of(1), tainted: false }] },
    'INVALID_ARGUMENT: failed to convert X.509 authority: x509: malformed certificate',
  ],
  [
    { jwtAuthorities: [{ publicKey, keyId: '', expiresAt: 0, tainted: false }] },
    'INVALID_ARGUMENT: failed to convert JWT authority: missing key ID',
  ],
])('AppendBundle refuses %#', async (fields, expected) => {
  const request = { x509Authorities: [], jwtAuthorities: [], witAuthorities: [], ...NO_MASK, ...fields }
  const server = await testServer()
  expect(await rejection(call(server, `${BUNDLE}AppendBundle`, [api.AppendBundleRequest, request], Bundle))).toBe(
    expected,
  )
})

test('federated bundles are created, found, and never the own one', async () => {
  const server = await testServer()
  const create = (...bundle: Bundle[]) =>
    call(
      server,
      `${BUNDLE}BatchCreateFederatedBundle`,
      [api.BatchCreateFederatedBundleRequest, { bundle, ...NO_MASK }],
      api.BatchCreateFederatedBundleResponse,
    )
  const other = { ...EMPTY, trustDomain: 'other.test', x509Authorities: [{ asn1: root, tainted: true }] }
  const { results } = await create(
    other,
    other,
    { ...EMPTY, trustDomain: TD },
    { ...EMPTY, trustDomain: 'A' },
    { ...other, trustDomain: 'b.test', refreshHint: -1 },
  )
  expect(results.map(({ status }) => `${status?.code} ${status?.message}`)).toEqual([
    '0 OK',
    '6 bundle already exists',
    "3 creating a federated bundle for the server's own trust domain is not allowed",
    '3 trust domain argument is not valid: trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores',
    '3 failed to convert bundle: refresh hint is negative',
  ])
  expect(results[0]!.bundle?.x509Authorities).toEqual([{ asn1: root, tainted: false }])
  const get = (trustDomain: string) =>
    call(server, `${BUNDLE}GetFederatedBundle`, [api.GetFederatedBundleRequest, { trustDomain, ...NO_MASK }], Bundle)
  expect((await get('spiffe://other.test')).trustDomain).toBe('other.test')
  expect(await rejection(get('none.test'))).toBe('NOT_FOUND: bundle not found')
  expect(await rejection(get(TD))).toBe(
    "INVALID_ARGUMENT: getting a federated bundle for the server's own trust domain is not allowed",
  )
  const removed = await call(
    server,
    `${BUNDLE}BatchDeleteFederatedBundle`,
    [api.BatchDeleteFederatedBundleRequest, { trustDomains: ['other.test', 'other.test', TD], mode: 0 }],
    api.BatchDeleteFederatedBundleResponse,
  )
  expect(removed.results.map(({ status }) => status?.message)).toEqual([
    'OK',
    'bundle not found',
    'removing the bundle for the server trust domain is not allowed',
  ])
})

test('relationships are written, read back and deleted', async () => {
  const server = await testServer()
  const none = FederationRelationship.decode(new Uint8Array(0))
  const good = { ...none, trustDomain: 'b.test', bundleEndpointUrl: 'https://b.test/bundle', httpsWeb: {} }
  const created = await call(
    server,
    `${FEDERATION}BatchCreateFederationRelationship`,
    [
      federation.BatchCreateFederationRelationshipRequest,
      {
        federationRelationships: [
          good,
          { ...good, bundleEndpointUrl: 'http://b.test' },
          { ...good, bundleEndpointUrl: 'https://u@b.test' },
          { ...good, httpsWeb: undefined },
          { ...good, trustDomain: TD },
        ],
        ...NO_MASK,
      },
    ],
    federation.BatchCreateFederationRelationshipResponse,
  )
  const refused = 'failed to convert federation relationship: '
  expect(created.results.map(({ status }) => status?.message)).toEqual([
    'OK',
    `${refused}bundle endpoint URL must use the https scheme`,
    `${refused}bundle endpoint URL must not contain user info`,
    `${refused}unsupported bundle endpoint profile type: <nil>`,
    'unable to create federation relationship for server trust domain',
  ])
  const get = (trustDomain: string) =>
    call(
      server,
      `${FEDERATION}GetFederationRelationship`,
      [federation.GetFederationRelationshipRequest, { trustDomain, ...NO_MASK }],
      FederationRelationship,
    )
  expect(await get('b.test')).toMatchObject(good)
  const { results } = await call(
    server,
    `${FEDERATION}BatchDeleteFederationRelationship`,
    [federation.BatchDeleteFederationRelationshipRequest, { trustDomains: ['b.test', 'b.test', ''] }],
    federation.BatchDeleteFederationRelationshipResponse,
  )
  expect(results.map(({ status }) => status?.message)).toEqual([
    'OK',
    'federation relationship not found',
    'missing trust domain',
  ])
  expect(await rejection(get('b.test'))).toBe('NOT_FOUND: federation relationship does not exist')
})

function recordingLog() {
  const lines: (LogFields & { readonly message: string })[] = []
  const make = (base: LogFields): Log => {
    const write = (message: string, fields?: LogFields) => void lines.push({ message, ...base, ...fields })
    return {
      debug: write,
      info: write,
      warn: write,
      error: write,
      child: (more) => make({ ...base, ...more }),
      debugEnabled: true,
    }
  }
  return { lines, log: make({}) }
}

test('an audited call leaves one line that says who did what and how it ended', async () => {
  const { lines, log } = recordingLog()
  const server = await testServer({ log, auditEnabled: true })
  await call(server, `${BUNDLE}CountBundles`, [api.CountBundlesRequest, {}], api.CountBundlesResponse)
  const request = { trustDomain: 'none.test', ...NO_MASK }
  await rejection(call(server, `${BUNDLE}GetFederatedBundle`, [api.GetFederatedBundleRequest, request], Bundle))
  const [first, second] = lines.filter(({ message }) => message === 'API accessed')
  expect(first).toMatchObject({
    type: 'audit',
    status: 'success',
    service: 'bundle.v1.Bundle',
    method: 'CountBundles',
    authorized_as: 'local',
    authorized_via: 'transport',
    subsystem_name: 'api',
    request_id: expect.any(String),
  })
  expect(second).toMatchObject({
    status: 'error',
    status_code: 'NotFound',
    status_message: 'bundle not found',
    trust_domain_id: 'none.test',
  })
})

test('without audit nothing is written for a call that went well', async () => {
  const { lines, log } = recordingLog()
  const server = await testServer({ log })
  await call(server, `${BUNDLE}CountBundles`, [api.CountBundlesRequest, {}], api.CountBundlesResponse)
  expect(lines).toEqual([])
})

test('a bug leaves no more than its code on the wire, and its stack in the log', async () => {
  const { lines, log } = recordingLog()
  const server = await testServer({ log })
  Object.assign(server.deps, {
    newUuid: () => {
      throw new TypeError('secret detail')
    },
  })
  const { CreateJoinTokenRequest } = await import('../../proto/spire/api/server/agent/v1.ts')
  const request = { ttl: 1, token: '', agentId: undefined }
  expect(
    await rejection(
      call(server, '/spire.api.server.agent.v1.Agent/CreateJoinToken', [CreateJoinTokenRequest, request], Bundle),
    ),
  ).toBe('INTERNAL: internal error')
  expect(lines).toMatchObject([{ error: 'secret detail', stack: expect.stringContaining('TypeError') }])
})

test('malformed bytes get the status that grpc-go gives', async () => {
  const server = await testServer()
  const method = server.service.methods.get(`${BUNDLE}GetBundle`)!
  expect(await rejection(method.unary(Uint8Array.of(0x0a, 0xff), incoming(ANONYMOUS)))).toMatch(
    /^INTERNAL: grpc: error unmarshalling request: proto:/,
  )
})

test('health is SERVING once there is a bundle', async () => {
  const server = await testServer()
  const check = (service: string) =>
    call(server, '/grpc.health.v1.Health/Check', [health.HealthCheckRequest, { service }], health.HealthCheckResponse)
  expect((await check('')).status).toBe(health.HealthCheckResponse_ServingStatus.SERVING)
  expect(await rejection(check('x'))).toBe('INVALID_ARGUMENT: per-service health is not supported')
})

test('a key of a server below is published for downstream callers only', async () => {
  const server = await testServer()
  const jwtAuthority = { publicKey, keyId: 'nested', expiresAt: 0, tainted: false }
  const publish = (peer = identified('/x')) =>
    call(
      server,
      `${BUNDLE}PublishJWTAuthority`,
      [api.PublishJWTAuthorityRequest, { jwtAuthority }],
      api.PublishJWTAuthorityResponse,
      peer,
    )
  expect(await rejection(publish())).toMatch(/^PERMISSION_DENIED/)
})
