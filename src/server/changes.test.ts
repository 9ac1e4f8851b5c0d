import { expect, test } from 'vitest'
import { PollRequest, PollResponse, WatchResponse } from '../../proto/turret/changes/v1.ts'
import { PLAIN_ENTRY } from '../../test/support/entry.ts'
import { identified, incoming, rejection, TD, type TestServer, testServer } from '../../test/support/server.ts'
import { AT } from '../../test/support/x509.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import type { NewEntry } from '../core/store.ts'
import type { Call } from '../rpc/method.ts'
import { POLICY } from './authorize.ts'

const AGENT = '/spire/agent/one'
let server: TestServer

/** Ends when told, as a timer would. */
const waits: { readonly ms: number; readonly end: () => void }[] = []
const wait = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    waits.push({ ms, end: resolve })
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
const waiting = async () => {
  while (waits.length === 0) await new Promise((resolve) => setImmediate(resolve))
  return waits.shift()!
}

async function start(pushed: boolean): Promise<void> {
  waits.length = 0
  server = await testServer(pushed ? { tailWait: wait } : {})
  await server.store.nodes.recordAttestation({
    id: spiffeId(TD, AGENT),
    attestationType: 'join_token',
    serialNumber: '1',
    expiresAt: AT + 3600,
    canReattest: false,
    selectors: [],
  })
}

const entry = (parent: string, path: string): NewEntry => ({
  id: path.slice(1),
  spiffeId: spiffeId(TD, path),
  parentId: spiffeId(TD, parent),
  selectors: [{ type: 'unix', value: 'uid:0' }],
  ...PLAIN_ENTRY,
})

async function poll(cursor: string, waitMs = 0): Promise<PollResponse> {
  const method = server.service.methods.get('/turret.changes.v1.Changes/Poll')!
  const bytes = PollRequest.encode({ cursor, waitMs }).finish()
  return PollResponse.decode(await method.unary(bytes, incoming(identified(AGENT))))
}

test('the policy lets those poll who may watch', () => {
  expect(POLICY.get('/turret.changes.v1.Changes/Poll')).toEqual(POLICY.get('/turret.changes.v1.Changes/Watch'))
})

const create = (parent: string, path: string) => server.store.entries.create([entry(parent, path)], AT)
const addBundle = () =>
  server.store.bundles.append({
    trustDomain: TD,
    jwtAuthorities: [{ keyId: crypto.randomUUID(), publicKey: Uint8Array.of(1), expiresAt: 0, tainted: false }],
  })

for (const pushed of [true, false]) {
  const how = pushed ? 'a server that is told of writes' : 'a server that has to look'

  test(`${how} says everything at first, then what happened after the cursor`, async () => {
    await start(pushed)
    const first = await poll('')
    expect(first).toMatchObject({ bundle: true, entries: true, pollAgainMs: pushed ? 0 : 1000 })
    const idle = await poll(first.cursor)
    expect(idle).toEqual({ ...first, bundle: false, entries: false })
    await create(AGENT, '/web')
    const withEntry = await poll(idle.cursor)
    expect(withEntry).toMatchObject({ bundle: false, entries: true })
    await addBundle()
    const withBundle = await poll(withEntry.cursor)
    expect(withBundle).toMatchObject({ bundle: true, entries: false })
    // The same cursor gives the same news: an answer that was lost loses nothing.
    expect(await poll(withEntry.cursor)).toEqual(withBundle)
    expect(await poll(first.cursor)).toMatchObject({ bundle: true, entries: true, cursor: withBundle.cursor })
  })

  test(`${how} is silent about entries of other agents`, async () => {
    await start(pushed)
    const { cursor } = await poll('')
    await create('/spire/agent/two', '/elsewhere')
    const answer = await poll(cursor)
    expect(answer).toMatchObject({ bundle: false, entries: false })
    expect(answer.cursor).not.toBe(cursor)
  })

  test.each(['0.x', '-1.0', 'x', '999999.0x0x0', `1.${'a'.repeat(33)}`, '9'.repeat(400)])(
    `${how} says everything to the cursor %s`,
    async (cursor) => {
      await start(pushed)
      expect(await poll(cursor)).toMatchObject({ bundle: true, entries: true })
    },
  )

  test(`${how} says everything to a cursor older than the log`, async () => {
    await start(pushed)
    const { cursor } = await poll('')
    for (let index = 0; index < 3; index++) await addBundle()
    const old = cursor.replace(/^\d+/, '0')
    if (pushed) server = await restarted()
    else await server.store.changes.prune(AT + 10)
    await addBundle()
    expect(await poll(old)).toMatchObject({ bundle: true, entries: true })
  })
}

/** Another process on the same database. */
async function restarted(): Promise<TestServer> {
  const { ChangeTail } = await import('./change-tail.ts')
  const { bindService } = await import('../rpc/invoke.ts')
  const { ADMIN_METHODS } = await import('./methods.ts')
  const { serverPipeline } = await import('./pipeline.ts')
  const { silentLog } = await import('../core/log.ts')
  const deps = { ...server.deps, changeTail: await ChangeTail.open(server.store.changes, wait) }
  const pipeline = serverPipeline({ clock: server.clock, wait: async () => {}, newUuid: () => 'x', log: silentLog })
  return { ...server, deps, service: bindService(ADMIN_METHODS, deps, pipeline) }
}

test('an idle poll of a server that has to look costs one read of the head', async () => {
  await start(false)
  const { cursor } = await poll('')
  const asked: string[] = []
  const { changes } = server.store
  const spied = {
    head: () => {
      asked.push('head')
      return changes.head()
    },
    since: () => {
      asked.push('since')
      throw new Error('not asked for')
    },
  }
  const deps = { ...server.deps, store: { ...server.store, changes: { ...changes, ...spied } } }
  const { pollChanges } = await import('./changes.ts')
  await pollChanges(deps, { cursor, waitMs: 20_000 }, agentCall())
  expect(asked).toEqual(['head'])
})

test('a waiting poll of a server that is told of writes costs no read and ends with the change', async () => {
  await start(true)
  const { cursor } = await poll('')
  const changes = {
    ...server.store.changes,
    head: () => Promise.reject(new Error('a read')),
    since: () => Promise.reject(new Error('a read')),
  }
  const deps = { ...server.deps, store: { ...server.store, changes } }
  const { pollChanges } = await import('./changes.ts')
  const answer = pollChanges(deps, { cursor, waitMs: 20_000 }, agentCall())
  expect((await waiting()).ms).toBe(20_000)
  await create('/spire/agent/two', '/elsewhere')
  // Not for us: it goes on waiting.
  await waiting()
  await addBundle()
  expect(await answer).toMatchObject({ bundle: true, entries: false })
})

test('a wait ends with nothing at its time, however long the client would wait', async () => {
  await start(true)
  const { cursor } = await poll('')
  const answer = poll(cursor, 10_000_000)
  const { ms, end } = await waiting()
  expect(ms).toBe(55_000)
  server.clock.ms += ms
  end()
  expect(await answer).toMatchObject({ bundle: false, entries: false, cursor })
})

test('one caller may not wait more than 32 times at once', async () => {
  await start(true)
  const { cursor } = await poll('')
  const held = Array.from({ length: 32 }, () => poll(cursor, 1000))
  while (waits.length < 32) await new Promise((resolve) => setImmediate(resolve))
  expect(await rejection(poll(cursor, 1000))).toMatch(/^RESOURCE_EXHAUSTED: /)
  await addBundle()
  await Promise.all(held)
  expect(await poll(cursor, 1000)).toMatchObject({ bundle: true })
})

test('a watch tells bundles and the entries that concern the agent', async () => {
  await start(true)
  const stop = new AbortController()
  async function* request() {
    yield new Uint8Array(0)
  }
  const call = { ...incoming(identified(AGENT)), signal: stop.signal }
  const replies = server.service.methods
    .get('/turret.changes.v1.Changes/Watch')!
    .stream(request(), call)
    [Symbol.asyncIterator]()
  const next = async () => WatchResponse.decode((await replies.next()).value)
  expect(await next()).toEqual({ bundle: true, entries: true })
  await create('/spire/agent/two', '/elsewhere')
  await create(AGENT, '/web')
  expect(await next()).toEqual({ bundle: false, entries: true })
  const pending = replies.next()
  await waiting()
  stop.abort()
  expect((await pending).done).toBe(true)
})

test('a server that has to look offers no watch', async () => {
  await start(false)
  async function* request() {
    yield new Uint8Array(0)
  }
  const method = server.service.methods.get('/turret.changes.v1.Changes/Watch')!
  const first = method
    .stream(request(), incoming(identified(AGENT)))
    [Symbol.asyncIterator]()
    .next()
  expect(await rejection(first)).toMatch(/^UNIMPLEMENTED: /)
})

function agentCall(): Call {
  return {
    caller: { kind: 'agent', spiffeId: spiffeId(TD, AGENT) },
    signal: new AbortController().signal,
  } as Partial<Call> as Call
}
