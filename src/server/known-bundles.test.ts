import { expect, test } from 'vitest'
import { TD, testServer } from '../../test/support/server.ts'
import { parseTrustDomain } from '../core/trust-domain.ts'
import { KnownBundles } from './known-bundles.ts'

const OTHER = parseTrustDomain('other.org')
const bundle = (sequenceNumber: number) => ({
  trustDomain: OTHER,
  x509Authorities: [],
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHintSeconds: 0,
  sequenceNumber,
})

/** Bundles as another process sees them, which is told of no write; counts what it reads. */
async function elsewhere() {
  const server = await testServer()
  const { store, clock } = server
  const reads = { head: 0, list: 0 }
  const fault: { error?: Error } = {}
  const seen = {
    changes: {
      ...store.changes,
      subscribe: () => () => {},
      head: async () => {
        reads.head++
        if (fault.error) throw fault.error
        return store.changes.head()
      },
    },
    bundles: {
      ...store.bundles,
      list: (page: never) => {
        reads.list++
        return store.bundles.list(page)
      },
    },
  }
  return { server, store, clock, reads, fault, known: new KnownBundles(seen as never, clock) }
}

test('a write of this process is seen at once', async () => {
  const { store, clock } = await testServer()
  const known = new KnownBundles(store, clock)
  expect(await known.get(OTHER)).toBeUndefined()
  await store.bundles.set(bundle(1))
  expect(await known.get(OTHER)).toMatchObject({ sequenceNumber: 1 })
  await store.bundles.set(bundle(2))
  expect(await known.get(OTHER)).toMatchObject({ sequenceNumber: 2 })
  await store.bundles.delete(OTHER, 'restrict')
  expect(await known.get(OTHER)).toBeUndefined()
})

test('a write elsewhere is seen after seconds, and readers cost nothing in between', async () => {
  const { store, clock, reads, known } = await elsewhere()
  await store.bundles.set(bundle(1))
  expect(await known.get(OTHER)).toMatchObject({ sequenceNumber: 1 })
  await store.bundles.set(bundle(2))
  for (let index = 0; index < 100; index++) await known.get(`unknown-${index}.org`)
  expect(await known.get(OTHER)).toMatchObject({ sequenceNumber: 1 })
  expect(reads).toEqual({ head: 1, list: 1 })
  clock.ms += 5_000
  await Promise.all([known.get(OTHER), known.get('x'), known.get('y')])
  expect(await known.get(OTHER)).toMatchObject({ sequenceNumber: 2 })
  expect(reads).toEqual({ head: 2, list: 2 })
})

test('bundles are not read again for what is no bundle', async () => {
  const { store, clock, reads, known } = await elsewhere()
  await known.get(TD)
  await store.nodes.recordAttestation({
    id: 'spiffe://example.org/spire/agent/one' as never,
    attestationType: 'join_token',
    serialNumber: '1',
    expiresAt: clock.ms / 1000 + 60,
    canReattest: false,
    selectors: [],
  })
  clock.ms += 5_000
  await known.get(TD)
  expect(reads).toEqual({ head: 2, list: 1 })
})

test('while the database is away, what was read before is given', async () => {
  const { clock, fault, known } = await elsewhere()
  fault.error = new Error('no database')
  await expect(known.get(TD)).rejects.toThrow('no database')
  delete fault.error
  expect(await known.get(TD)).toMatchObject({ trustDomain: TD })
  fault.error = new Error('no database')
  clock.ms += 5_000
  expect(await known.get(TD)).toMatchObject({ trustDomain: TD })
})
