import { expect, test } from 'vitest'
import type { Bundle } from '../src/core/bundle.ts'
import { StatusError } from '../src/core/error.ts'
import { silentLog } from '../src/core/log.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomainName } from '../src/core/trust-domain.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import { AGENT_ID } from '../test/support/agent.ts'
import { PLAIN_ENTRY } from '../test/support/entry.ts'
import { inProcessChannel } from '../test/support/in-process-channel.ts'
import { TD, testServer } from '../test/support/server.ts'
import { makeCertificate } from '../test/support/x509.ts'
import { type SyncResult, synchronise } from './sync.ts'

const ONE = parseTrustDomainName('one.org')
const GET_BUNDLE = '/spire.api.server.bundle.v1.Bundle/GetBundle'
const GET_FEDERATED = '/spire.api.server.bundle.v1.Bundle/GetFederatedBundle'

const bundle = async (name: string): Promise<Bundle> => ({
  trustDomain: ONE,
  x509Authorities: [{ der: (await makeCertificate({ name, ca: true })).der, tainted: false }],
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHintSeconds: 0,
  sequenceNumber: 0,
})

/** A server with one entry that federates, and what happens there while a request is on its way. */
async function setUp() {
  const { service, store, clock } = await testServer()
  const now = clock.ms / 1000
  await store.nodes.recordAttestation({
    id: AGENT_ID,
    attestationType: 'join_token',
    serialNumber: '1',
    expiresAt: now + 3600,
    canReattest: false,
    selectors: [],
  })
  await store.bundles.set(await bundle('first'))
  const fields = { ...PLAIN_ENTRY, spiffeId: parseSpiffeId('spiffe://example.org/w'), parentId: AGENT_ID }
  await store.entries.create(
    [{ ...fields, id: 'e', selectors: [{ type: 'u', value: '1' }], federatesWith: [ONE] }],
    now,
  )
  const meanwhile: ((path: string) => Promise<void>)[] = []
  const channel = inProcessChannel(service, {
    peer: () => ({ via: 'x509', address: '192.0.2.2:1', spiffeId: AGENT_ID, serialNumber: '1', expiresAt: now + 3600 }),
    onTheWay: async (path) => {
      for (const work of meanwhile) await work(path)
    },
  })
  const sync = (known: SyncResult) =>
    synchronise(channel, known, { trustDomain: TD, useSyncAuthorizedEntries: true, log: silentLog })
  return { store, sync, meanwhile, channel }
}

const NOTHING: SyncResult = { entries: new Map(), bundles: new Map() }

test('an entry is not given a bundle that came after it was dissociated, while both were being read', async () => {
  const { store, sync, meanwhile } = await setUp()
  const first = await sync(NOTHING)
  expect(first.entries.get('e')!.federatesWith).toEqual([ONE])
  expect(first.bundles.has(ONE)).toBe(true)
  let done = false
  meanwhile.push(async (path) => {
    if (path !== GET_FEDERATED || done) return
    done = true
    await store.bundles.delete(ONE, 'dissociate')
    await store.bundles.set(await bundle('second'))
  })
  const second = await sync(first)
  expect(done).toBe(true)
  expect(second.entries.get('e')!.federatesWith).toEqual([])
  expect(second.bundles.get(ONE)).toBeUndefined()
})

test('while nothing changed, entries and bundles are the same objects', async () => {
  const { sync } = await setUp()
  const first = await sync(NOTHING)
  const second = await sync(first)
  expect(second.entries.get('e')).toBe(first.entries.get('e'))
  for (const [name, one] of first.bundles) expect(second.bundles.get(name)).toBe(one)
})

test('a bundle that changes each time it is read is not taken', async () => {
  const { store, sync, meanwhile } = await setUp()
  let count = 0
  meanwhile.push(async (path) => {
    if (path === GET_FEDERATED) await store.bundles.set(await bundle(`bundle ${count++}`))
  })
  await expect(sync(NOTHING)).rejects.toThrow(
    new StatusError('ABORTED', 'federated bundles change faster than they can be read'),
  )
  expect(count).toBe(5)
})

test('a page of revisions that comes in the place of entries ends the sync', async () => {
  const revisions = { entryRevisions: [{ id: 'e', revisionNumber: 0, createdAt: 1 }], entries: [], more: false }
  const { channel } = await setUp()
  const odd: GrpcChannel = {
    ...channel,
    bidi: () => ({
      send: async () => {},
      end() {},
      cancel() {},
      messages: (async function* () {
        yield revisions as never
        yield revisions as never
      })(),
    }),
  }
  await expect(
    synchronise(odd, NOTHING, { trustDomain: TD, useSyncAuthorizedEntries: true, log: silentLog }),
  ).rejects.toThrow('entries changed while they were read')
})

test.each([GET_BUNDLE, GET_FEDERATED])('the bundle of another trust domain is no answer to %s', async (path) => {
  const { channel } = await setUp()
  const odd: GrpcChannel = {
    ...channel,
    async unary(method, request, options) {
      const answer = await channel.unary(method, request, options)
      return method.path === path ? { ...answer, trustDomain: 'elsewhere.org' } : answer
    },
  }
  await expect(
    synchronise(odd, NOTHING, { trustDomain: TD, useSyncAuthorizedEntries: true, log: silentLog }),
  ).rejects.toThrow('the server sent the bundle of "elsewhere.org" instead of the one of')
})
