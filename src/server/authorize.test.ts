import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as Reason } from '../../proto/spire/api/types.ts'
import { PLAIN_ENTRY } from '../../test/support/entry.ts'
import { ANONYMOUS, identified, incoming, LOCAL, rejection, TD, testServer } from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { StatusError } from '../core/error.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import type { Peer } from '../rpc/caller.ts'
import { authorize, isForAll, POLICY, type Who } from './authorize.ts'
import { ADMIN_METHODS, TCP_METHODS } from './methods.ts'

const AGENT_PATH = '/spire/agent/x509pop/a'
const agentId = spiffeId(TD, AGENT_PATH)

const server = await testServer({ adminIds: [spiffeId(TD, '/configured-admin')] })
await server.store.entries.create(
  [
    { path: '/admin', admin: true, downstream: false },
    { path: '/downstream', admin: false, downstream: true },
    { path: '/plain', admin: false, downstream: false },
  ].map(({ path, admin, downstream }) => ({
    id: '',
    spiffeId: spiffeId(TD, path),
    parentId: agentId,
    selectors: [{ type: 'unix', value: 'uid:1' }],
    ...PLAIN_ENTRY,
    admin,
    downstream,
  })),
  AT,
)
await attested(AGENT_PATH, '1')

async function attested(path: string, serialNumber: string): Promise<void> {
  await server.store.nodes.recordAttestation({
    id: spiffeId(TD, path),
    attestationType: 'x509pop',
    serialNumber,
    expiresAt: AT + 3600,
    canReattest: true,
    selectors: [],
  })
}

const CALLERS: readonly (readonly [name: string, peer: Peer, is: readonly Who[]])[] = [
  ['nobody', ANONYMOUS, []],
  ['a local caller', LOCAL, ['local']],
  ['an agent', identified(AGENT_PATH), ['agent']],
  ['an admin by entry', identified('/admin'), ['admin']],
  ['an admin by configuration', identified('/configured-admin'), ['admin']],
  ['a downstream server', identified('/downstream'), ['downstream']],
  ['a workload', identified('/plain'), []],
  ['an agent behind a front', { ...identified(AGENT_PATH), front: 'edge' } as Peer, ['agent']],
  ['a WIT-SVID of an agent', wit(AGENT_PATH), []],
  ['a WIT-SVID of an admin by entry', wit('/admin'), ['admin']],
  ['a WIT-SVID of an admin by configuration', wit('/configured-admin'), ['admin']],
  ['a WIT-SVID of a downstream server', wit('/downstream'), ['downstream']],
  ['a WIT-SVID of a workload', wit('/plain'), []],
  [
    'an operator by key',
    { via: 'operator', address: '192.0.2.1', name: 'thumbprint', proof: 'operator_key' },
    ['admin', 'local'],
  ],
  [
    'an operator by token',
    { via: 'operator', address: '192.0.2.1', name: 'issuer me', proof: 'oidc' },
    ['admin', 'local'],
  ],
]

function wit(path: string): Peer {
  return { via: 'wit', address: '192.0.2.1', spiffeId: spiffeId(TD, path) }
}

async function verdict(path: string, peer: Peer) {
  const { silentLog } = await import('../core/log.ts')
  return authorize(server.deps, path, incoming(peer), { log: silentLog })
}

test.each(CALLERS)('%s may call what the policy says and nothing else', async (_, peer, is) => {
  for (const { path } of ADMIN_METHODS) {
    const who = POLICY.get(path)!
    const outcome = await rejection(verdict(path, peer))
    const allowed = who.has('any') || is.some((kind) => who.has(kind))
    expect(`${path} ${outcome}`).toBe(
      `${path} ${allowed ? 'OK' : `PERMISSION_DENIED: authorization denied for method ${path}`}`,
    )
  }
})

/** Written out once more: who changes the policy says so twice. All other methods are for administrators and local callers. */
const ALLOWED: Readonly<Record<string, readonly Who[]>> = {
  'Agent/AttestAgent': ['any'],
  'Agent/PostStatus': ['agent'],
  'Agent/RenewAgent': ['agent'],
  'Bundle/GetBundle': ['any'],
  'Bundle/GetFederatedBundle': ['local', 'admin', 'agent'],
  'Bundle/PublishJWTAuthority': ['downstream'],
  'Bundle/PublishWITAuthority': ['downstream'],
  'Changes/Poll': ['agent', 'downstream'],
  'Changes/Watch': ['agent', 'downstream'],
  'Debug/GetInfo': ['local'],
  'Entry/GetAuthorizedEntries': ['agent'],
  'Entry/SyncAuthorizedEntries': ['agent'],
  'Exchange/ExchangeJWT': ['any'],
  'Exchange/ExchangeWIT': ['any'],
  'Exchange/ExchangeX509': ['any'],
  'Health/Check': ['local'],
  'Health/List': ['local'],
  'Health/Watch': ['local'],
  'Logger/GetLogger': ['local'],
  'Logger/ResetLogLevel': ['local'],
  'Logger/SetLogLevel': ['local'],
  'SVID/BatchNewWITSVID': ['agent'],
  'SVID/BatchNewX509SVID': ['agent'],
  'SVID/NewDownstreamX509CA': ['downstream'],
  'SVID/NewJWTSVID': ['agent'],
}

test('the policy is the one that was agreed upon', () => {
  const rows = [...POLICY].map(([path, who]) => [path.slice(path.lastIndexOf('.') + 1), [...who].sort()] as const)
  const methods = ADMIN_METHODS.map(({ path }) => path.slice(path.lastIndexOf('.') + 1))
  expect(Object.fromEntries(rows)).toEqual(
    Object.fromEntries(methods.map((method) => [method, [...(ALLOWED[method] ?? ['admin', 'local'])].sort()])),
  )
})

test('who an SVID makes its holder follows from the entries of its ID, and from nothing else', async () => {
  const flags = fc.record({ admin: fc.boolean(), downstream: fc.boolean(), own: fc.boolean() })
  const asked = fc.constantFrom(...ADMIN_METHODS.map(({ path }) => path))
  let next = 0
  await fc.assert(
    fc.asyncProperty(fc.array(flags, { maxLength: 3 }), fc.boolean(), asked, async (entries, isWit, path) => {
      next += 1
      const mine = `/caller-${next}`
      await server.store.entries.create(
        entries.map(({ own, ...rest }, index) => ({
          ...PLAIN_ENTRY,
          id: '',
          spiffeId: spiffeId(TD, own ? mine : `${mine}/other`),
          parentId: agentId,
          selectors: [{ type: 'unix', value: `uid:${index}` }],
          ...rest,
        })),
        AT,
      )
      const own = entries.filter((entry) => entry.own)
      const who = POLICY.get(path)!
      const allowed =
        who.has('any') ||
        (who.has('admin') && own.some(({ admin }) => admin)) ||
        (who.has('downstream') && own.some(({ downstream }) => downstream))
      const outcome = await rejection(verdict(path, isWit ? wit(mine) : identified(mine)))
      expect(outcome === 'OK').toBe(allowed)
      if (!allowed) expect(outcome).toBe(`PERMISSION_DENIED: authorization denied for method ${path}`)
      for (const { id } of (await server.store.entries.list({}, { size: 0, token: '' })).items.filter((one) =>
        one.spiffeId.includes(mine),
      )) {
        await server.store.entries.delete(id)
      }
    }),
    { numRuns: 150 },
  )
}, 60_000)

test('every method has one row in the policy, and every row of the policy a method', () => {
  const paths = ADMIN_METHODS.map((method) => method.path)
  expect(new Set(paths).size).toBe(paths.length)
  expect([...POLICY.keys()].sort()).toEqual([...paths].sort())
})

test('debug, logger and health are not on the TCP listener', () => {
  expect(TCP_METHODS.filter((method) => /Debug|Logger|Health/.test(method.path))).toEqual([])
})

test('a method without a row is refused to everybody', async () => {
  expect(await rejection(Promise.resolve().then(() => verdict('/x/Y', LOCAL)))).toMatch(/^PERMISSION_DENIED/)
})

async function reason(peer: Peer): Promise<number | undefined> {
  try {
    await verdict('/spire.api.server.agent.v1.Agent/RenewAgent', peer)
    return undefined
  } catch (error) {
    const [detail] = (error as StatusError).details
    expect(detail?.typeUrl).toBe('type.googleapis.com/spire.api.types.PermissionDeniedDetails')
    return PermissionDeniedDetails.decode(detail!.value).reason
  }
}

test('a refused agent learns why', async () => {
  await attested('/spire/agent/x509pop/banned', '1')
  await server.store.nodes.ban(spiffeId(TD, '/spire/agent/x509pop/banned'))
  const expired = { ...identified(AGENT_PATH), expiresAt: AT - 1 } as Peer
  expect(await reason(expired)).toBe(Reason.AGENT_EXPIRED)
  expect(await reason(identified('/spire/agent/x509pop/unknown'))).toBe(Reason.AGENT_NOT_ATTESTED)
  expect(await reason(identified('/spire/agent/x509pop/banned'))).toBe(Reason.AGENT_BANNED)
  expect(await reason(identified(AGENT_PATH, '2'))).toBe(Reason.AGENT_NOT_ACTIVE)
})

test('the first use of a renewed SVID makes it the current one and ends the old one', async () => {
  const path = '/spire/agent/x509pop/renewed'
  await attested(path, '1')
  await server.store.nodes.recordRenewal(spiffeId(TD, path), '2', AT + 7200)
  expect(await reason(identified(path, '1'))).toBeUndefined()
  expect(await Promise.all([reason(identified(path, '2')), reason(identified(path, '2'))])).toEqual([
    undefined,
    undefined,
  ])
  expect(await reason(identified(path, '1'))).toBe(Reason.AGENT_NOT_ACTIVE)
})

test('no bytes make a method fail in another way than with a status', async () => {
  const paths = [...server.service.methods.values()].filter((method) => method.kind === 'unary')
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...paths), fc.uint8Array({ maxLength: 64 }), async (method, bytes) => {
      try {
        await method.unary(bytes, incoming(LOCAL))
      } catch (error) {
        expect(error).toBeInstanceOf(StatusError)
        expect((error as StatusError).message).not.toBe('internal error')
      }
    }),
    { numRuns: 300 },
  )
})

test('an SVID that ended while its connection was open gives no rights any more', async () => {
  const CREATE = '/spire.api.server.entry.v1.Entry/BatchCreateEntry'
  const PUBLISH = '/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority'
  await server.store.entries.create(
    [
      { ...PLAIN_ENTRY, id: '', admin: true },
      { ...PLAIN_ENTRY, id: '', downstream: true },
    ].map((entry, index) => ({
      ...entry,
      spiffeId: spiffeId(TD, '/ending'),
      parentId: agentId,
      selectors: [{ type: 'unix', value: `uid:${index}` }],
    })),
    AT,
  )
  const caller = { ...identified('/ending'), expiresAt: AT + 10 } as Peer
  const before = server.clock.ms
  try {
    server.clock.ms = (AT + 10) * 1000
    for (const path of [CREATE, PUBLISH]) expect(await rejection(verdict(path, caller))).toBe('OK')
    server.clock.ms += 1
    for (const path of [CREATE, PUBLISH]) expect(await rejection(verdict(path, caller))).toMatch(/^PERMISSION_DENIED/)
  } finally {
    server.clock.ms = before
  }
})

test('a store that fails lets nobody in', async () => {
  const broken = () => Promise.reject(new Error('the disk is gone'))
  const { silentLog } = await import('../core/log.ts')
  const ask = (path: string, peer: Peer, changes: object) =>
    rejection((async () => authorize({ ...server.deps, ...changes }, path, incoming(peer), { log: silentLog }))())
  const entries = { ...server.deps.entries, bySpiffeId: broken }
  expect(await ask('/spire.api.server.entry.v1.Entry/ListEntries', identified('/admin'), { entries })).toBe(
    'INTERNAL: failed to fetch caller entries: the disk is gone',
  )
  const nodes = { ...server.store.nodes, get: broken }
  const renew = '/spire.api.server.agent.v1.Agent/RenewAgent'
  const store = { ...server.store, nodes }
  expect(await ask(renew, identified(AGENT_PATH, '99'), { store })).toBe(
    'INTERNAL: unable to look up agent information: the disk is gone',
  )
  await attested('/spire/agent/x509pop/pending', '1')
  await server.store.nodes.recordRenewal(spiffeId(TD, '/spire/agent/x509pop/pending'), '2', AT + 7200)
  const failing = { ...server.store, nodes: { ...server.store.nodes, activateRenewal: broken } }
  expect(await ask(renew, identified('/spire/agent/x509pop/pending', '2'), { store: failing })).toBe(
    'INTERNAL: unable to activate the new agent SVID: the disk is gone',
  )
})

test('an SVID is good up to and with the second in which it ends', async () => {
  const peer = { ...identified(AGENT_PATH), expiresAt: AT } as Peer
  const renew = '/spire.api.server.agent.v1.Agent/RenewAgent'
  expect(await rejection((async () => verdict(renew, peer))())).toBe('OK')
  const past = { ...identified(AGENT_PATH), expiresAt: AT - 1 } as Peer
  expect(await rejection((async () => verdict(renew, past))())).toMatch(/^PERMISSION_DENIED/)
})

test('an index that lags refuses nobody, and lets in nobody whom it has forgotten', async () => {
  const { silentLog } = await import('../core/log.ts')
  const id = spiffeId(TD, '/spire/agent/x509pop/lag')
  await attested('/spire/agent/x509pop/lag', '5')
  const ask = (serial: string, indexed: object | undefined) =>
    rejection(
      (async () =>
        authorize(
          { ...server.deps, nodes: { get: () => indexed as never } },
          '/spire.api.server.agent.v1.Agent/RenewAgent',
          incoming(identified('/spire/agent/x509pop/lag', serial)),
          { log: silentLog },
        ))(),
    )
  const node = (await server.store.nodes.get(id))!
  expect(await ask('5', undefined)).toBe('OK')
  expect(await ask('5', { ...node, serialNumber: '4' })).toBe('OK')
  expect(await ask('', { ...node, serialNumber: '' })).toMatch(/^PERMISSION_DENIED/)
  await server.store.nodes.ban(id)
  for (const serial of ['', '5']) expect(await ask(serial, undefined)).toMatch(/^PERMISSION_DENIED/)
})

test('who a caller is for the method is what the transport knows of it', async () => {
  const any = '/spire.api.server.bundle.v1.Bundle/GetBundle'
  const process = { pid: 1, uid: 2, gid: 3 }
  const callerOf = async (peer: Peer) => (await verdict(any, peer)).caller
  expect(await callerOf(ANONYMOUS)).toEqual({ kind: 'anonymous' })
  expect(await callerOf(identified('/admin'))).toEqual({ kind: 'anonymous' })
  expect(await callerOf(LOCAL)).toEqual({ kind: 'local' })
  expect(await callerOf({ via: 'local', process })).toEqual({ kind: 'local', process })
})

test('anybody may call what anybody may call, and nothing that does not exist', () => {
  for (const [path, who] of POLICY) expect(isForAll(path)).toBe(who.has('any'))
  expect(isForAll('/spire.api.server.none.v1.None/None')).toBe(false)
})
