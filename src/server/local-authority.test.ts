import { expect, test } from 'vitest'
import * as api from '../../proto/spire/api/server/localauthority/v1.ts'
import {
  call,
  type HandClock,
  identified,
  rejection,
  TD,
  type TestServer,
  testServer,
} from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { parseCertificate } from '../core/certificate.ts'
import { hex } from '../core/der.ts'
import { silentLog } from '../core/log.ts'
import type { UpstreamAuthority } from '../core/plugin.ts'
import { memoryKeyManager } from '../plugins/keymanager/memory.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { bindService } from '../rpc/invoke.ts'
import { Ca } from './ca.ts'
import { CaManager } from './ca-manager.ts'
import { ADMIN_METHODS } from './methods.ts'
import { serverPipeline } from './pipeline.ts'
import { ServerSvidRotation } from './server-svid.ts'

const LOCAL_AUTHORITY = '/spire.api.server.localauthority.v1.LocalAuthority/'
const DAY = 86_400
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

/** A server whose authorities are looked after, with its own SVID. */
async function server(options: { readonly upstream?: UpstreamAuthority; readonly disableJwtSvids?: boolean } = {}) {
  const base = await testServer()
  const { clock, store, deps } = base
  const ca = newCa(clock)
  let svid: ServerSvidRotation | undefined
  const manager = await CaManager.load(
    {
      trustDomain: TD,
      caTtlSeconds: DAY,
      caKeyType: 'ec-p256',
      jwtKeyType: 'ec-p256',
      caSubject: { organization: ['SPIFFE'] },
      disableJwtSvids: options.disableJwtSvids ?? false,
    },
    {
      store,
      keyManager: memoryKeyManager(),
      ...(options.upstream ? { upstream: options.upstream } : {}),
      ca,
      verify: nodeVerifier(),
      clock,
      random,
      log: silentLog,
      onTainted: (ids) => svid?.taint(ids),
    },
  )
  await manager.rotate()
  svid = new ServerSvidRotation({
    ca,
    newKey: generateSigner,
    keyType: 'ec-p256',
    id: `spiffe://${TD}/spire/server` as never,
    clock,
    log: silentLog,
    onRotated: () => {},
  })
  await svid.rotateIfDue()
  const pipeline = serverPipeline({ clock, wait: async () => {}, newUuid: deps.newUuid, log: silentLog })
  const own = { ...deps, ca, authorities: manager, jwtSvidsEnabled: !options.disableJwtSvids }
  const whole: TestServer = { ...base, deps: own, service: bindService(ADMIN_METHODS, own, pipeline) }
  const bundle = async () => (await store.bundles.get(TD))!
  return { whole, manager, ca, svid, bundle }
}

function newCa(clock: HandClock): Ca {
  return new Ca({
    trustDomain: TD,
    x509SvidTtlSeconds: 3600,
    jwtSvidTtlSeconds: 300,
    agentTtlSeconds: 3600,
    caTtlSeconds: DAY,
    clock,
    random,
  })
}

type Kind = 'X509' | 'JWT'
type Action = 'Activate' | 'Taint' | 'Revoke'

const state = (server: TestServer, kind: Kind) =>
  call(
    server,
    `${LOCAL_AUTHORITY}Get${kind}AuthorityState`,
    [api.GetX509AuthorityStateRequest, {}],
    api.GetX509AuthorityStateResponse,
  )
const prepare = (server: TestServer, kind: Kind) =>
  call(
    server,
    `${LOCAL_AUTHORITY}Prepare${kind}Authority`,
    [api.PrepareX509AuthorityRequest, {}],
    api.PrepareX509AuthorityResponse,
  )
// All three have one authority id in and one state out, under the same numbers.
const act = async (server: TestServer, action: Action, kind: Kind, authorityId: string) =>
  (
    await call(
      server,
      `${LOCAL_AUTHORITY}${action}${kind}Authority`,
      [api.ActivateX509AuthorityRequest, { authorityId }],
      api.ActivateX509AuthorityResponse,
    )
  ).activatedAuthority

test.each(['X509', 'JWT'] as const)('a %s authority is prepared, activated, tainted and revoked', async (kind) => {
  const { whole, bundle, manager, svid } = await server()
  const ids = async () => {
    const { x509Authorities, jwtAuthorities } = await bundle()
    return kind === 'JWT'
      ? jwtAuthorities.map(({ keyId, tainted }) => [keyId, tainted])
      : x509Authorities.slice(1).map(({ der, tainted }) => [hex(parseCertificate(der).subjectKeyId!), tainted])
  }
  const first = (await state(whole, kind)).active!
  expect(first).toEqual({ authorityId: first.authorityId, expiresAt: AT + DAY, upstreamAuthoritySubjectKeyId: '' })
  const { preparedAuthority } = await prepare(whole, kind)
  const second = preparedAuthority!.authorityId
  expect(await state(whole, kind)).toEqual({ active: first, prepared: preparedAuthority, old: undefined })
  expect(await ids()).toEqual([
    [first.authorityId, false],
    [second, false],
  ])
  expect(await act(whole, 'Activate', kind, second)).toEqual(preparedAuthority)
  expect(await state(whole, kind)).toEqual({ active: preparedAuthority, prepared: undefined, old: first })
  const slots = kind === 'JWT' ? manager.jwtSlots : manager.x509Slots
  expect(slots.current.authorityId).toBe(second)

  const revoked = await rejection(act(whole, 'Revoke', kind, first.authorityId))
  expect(revoked).toBe(
    kind === 'JWT'
      ? 'INTERNAL: failed to revoke JWT authority: it is not possible to revoke an untainted key'
      : 'INTERNAL: failed to revoke X.509 authority: it is not possible to revoke an untainted root CA',
  )
  const before = (await bundle()).sequenceNumber
  const tainted = await act(whole, 'Taint', kind, first.authorityId)
  expect(tainted).toEqual(kind === 'JWT' ? { ...first, expiresAt: 0 } : first)
  expect(await ids()).toEqual([
    [first.authorityId, true],
    [second, false],
  ])
  expect(await rejection(act(whole, 'Taint', kind, first.authorityId))).toBe(
    kind === 'JWT'
      ? 'INTERNAL: failed to taint JWT authority: key is already tainted'
      : 'INTERNAL: failed to taint X.509 authority: root CA is already tainted',
  )
  expect((await bundle()).sequenceNumber).toBe(before + 1)
  if (kind === 'X509') {
    expect(svid.current!.rootKeyId).toBe(first.authorityId)
    await svid.rotateIfDue()
    expect(svid.current!.rootKeyId).toBe(second)
  }
  expect(await act(whole, 'Revoke', kind, first.authorityId)).toEqual({
    authorityId: first.authorityId,
    expiresAt: 0,
    upstreamAuthoritySubjectKeyId: '',
  })
  expect(await ids()).toEqual([[second, false]])
  // The slot still tells of it.
  expect((await state(whole, kind)).old).toEqual(first)
})

test.each(['X509', 'JWT'] as const)('%s: what must not be done is refused with the texts of SPIRE', async (kind) => {
  const { whole, bundle } = await server()
  const refusal = (action: Action, id: string) => rejection(act(whole, action, kind, id))
  const active = (await state(whole, kind)).active!.authorityId
  const before = await bundle()
  for (const action of ['Activate', 'Taint'] as const) {
    expect(await refusal(action, '')).toBe('INVALID_ARGUMENT: no authority ID provided')
    expect(await refusal(action, 'other')).toBe('INVALID_ARGUMENT: unexpected authority ID')
  }
  expect(await refusal('Activate', active)).toBe('INVALID_ARGUMENT: unexpected authority ID')
  expect(await refusal('Taint', active)).toBe('INVALID_ARGUMENT: unable to taint current local authority')
  expect(await refusal('Revoke', '')).toBe('INVALID_ARGUMENT: invalid authority ID: no authority ID provided')
  expect(await refusal('Revoke', active)).toBe(
    'INVALID_ARGUMENT: invalid authority ID: unable to use current authority',
  )
  expect(await refusal('Revoke', 'other')).toBe(
    `INVALID_ARGUMENT: invalid authority ID: ${kind === 'JWT' ? 'no JWT authority found with provided authority ID' : 'only Old local authority can be revoked'}`,
  )
  expect(await bundle()).toEqual(before)
  const prepared = (await prepare(whole, kind)).preparedAuthority!.authorityId
  expect(await refusal('Taint', prepared)).toBe(
    'INVALID_ARGUMENT: only Old local authorities can be tainted: unsupported local authority status: PREPARED',
  )
  expect(await refusal('Revoke', prepared)).toBe(
    `INVALID_ARGUMENT: invalid authority ID: ${kind === 'JWT' ? 'unable to use a prepared key' : 'only Old local authority can be revoked'}`,
  )
  await act(whole, 'Activate', kind, prepared)
  expect(await refusal('Activate', active)).toBe(
    'INTERNAL: only Prepared authorities can be activated: unsupported local authority status: OLD',
  )
})

test('with JWT-SVIDs disabled all JWT calls say so', async () => {
  const { whole } = await server({ disableJwtSvids: true })
  const disabled = 'UNIMPLEMENTED: JWT functionality is disabled'
  expect(await rejection(state(whole, 'JWT'))).toBe(disabled)
  expect(await rejection(prepare(whole, 'JWT'))).toBe(disabled)
  for (const action of ['Activate', 'Taint', 'Revoke'] as const)
    expect(await rejection(act(whole, action, 'JWT', 'x'))).toBe(disabled)
})

test('a server without authorities is still starting', async () => {
  const base = await testServer()
  expect(await rejection(state(base, 'X509'))).toBe('UNAVAILABLE: server is initializing')
})

const upstreamCall = (server: TestServer, action: 'Taint' | 'Revoke', subjectKeyId: string) =>
  call(
    server,
    `${LOCAL_AUTHORITY}${action}X509UpstreamAuthority`,
    [api.TaintX509UpstreamAuthorityRequest, { subjectKeyId }],
    api.TaintX509UpstreamAuthorityResponse,
  )

test('an upstream root is tainted and revoked below, once nothing in use leads to it', async () => {
  const above = await server()
  const { parseCsr } = await import('../core/csr.ts')
  const upstream: UpstreamAuthority = {
    name: 'spire',
    async mintX509Ca(csr, ttl) {
      const { chain } = await above.ca.signDownstreamCa(parseCsr(csr).spki, ttl)
      return { caChain: chain, upstreamRoots: (await above.bundle()).x509Authorities }
    },
  }
  const { whole, svid, bundle } = await server({ upstream })
  const first = (await state(whole, 'X509')).active!
  const root = (await state(above.whole, 'X509')).active!.authorityId
  expect(first.upstreamAuthoritySubjectKeyId).toBe(root)
  const refusal = (action: 'Taint' | 'Revoke', id: string) => rejection(upstreamCall(whole, action, id))
  expect(await refusal('Taint', '')).toBe(
    'INVALID_ARGUMENT: provided subject key id is not valid: no subject key ID provided',
  )
  expect(await refusal('Taint', root)).toContain('unable to use upstream authority singing current authority')
  expect(await refusal('Revoke', 'aa')).toBe(
    "INVALID_ARGUMENT: invalid subject key ID: upstream authority didn't sign the old local authority",
  )
  expect(await rejection(act(whole, 'Taint', 'X509', first.authorityId))).toBe(
    "FAILED_PRECONDITION: local authority can't be tainted if there is an upstream authority",
  )
  expect(await rejection(act(whole, 'Revoke', 'X509', first.authorityId))).toBe(
    "FAILED_PRECONDITION: local authority can't be revoked if there is an upstream authority",
  )
  const next = (await prepare(above.whole, 'X509')).preparedAuthority!.authorityId
  await act(above.whole, 'Activate', 'X509', next)
  const prepared = (await prepare(whole, 'X509')).preparedAuthority!
  expect(prepared.upstreamAuthoritySubjectKeyId).toBe(next)
  expect(await refusal('Taint', next)).toContain('only upstream authorities signing an old authority can be used')
  await act(whole, 'Activate', 'X509', prepared.authorityId)
  // Letters of either case name the same key.
  expect(await upstreamCall(whole, 'Taint', root.toUpperCase())).toEqual({ upstreamAuthoritySubjectKeyId: root })
  expect((await bundle()).x509Authorities.filter(({ tainted }) => tainted)).toHaveLength(1)
  await svid.rotateIfDue()
  expect(svid.current!.rootKeyId).toBe(next)
  const before = (await bundle()).x509Authorities.length
  await upstreamCall(whole, 'Revoke', root)
  expect((await bundle()).x509Authorities).toHaveLength(before - 1)
  expect(await rejection(upstreamCall(above.whole, 'Taint', root))).toBe(
    'FAILED_PRECONDITION: upstream authority is not configured',
  )
})

test('only administrators may change authorities', async () => {
  const { whole } = await server()
  const asAgent = call(
    whole,
    `${LOCAL_AUTHORITY}PrepareX509Authority`,
    [api.PrepareX509AuthorityRequest, {}],
    api.PrepareX509AuthorityResponse,
    identified('/spire/agent/test/one'),
  )
  expect(await rejection(asAgent)).toMatch(/^PERMISSION_DENIED/)
})
