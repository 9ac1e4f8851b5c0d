import { expect, test } from 'vitest'
import type { Bundle } from '../src/core/bundle.ts'
import { StatusError } from '../src/core/error.ts'
import { silentLog } from '../src/core/log.ts'
import type { StoredSvid } from '../src/core/plugin.ts'
import { type SpiffeId, spiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../src/core/trust-domain.ts'
import type { AgentEntry } from './entry.ts'
import { StoredSvids } from './stored-svids.ts'
import type { SvidCache, WorkloadSvid } from './svid-cache.ts'

const TD = parseTrustDomain('example.org')
const OTHER = parseTrustDomain('other.org')

function bundleOf(trustDomain: TrustDomain, byte: number): Bundle {
  return { trustDomain, x509Authorities: [{ der: Uint8Array.of(byte), tainted: false }] } as unknown as Bundle
}

function setup() {
  const heard: string[] = []
  const puts: StoredSvid[] = []
  const held = {
    entries: new Map<string, AgentEntry>(),
    svids: new Map<string, WorkloadSvid>(),
    bundles: new Map([
      [TD, bundleOf(TD, 1)],
      [OTHER, bundleOf(OTHER, 2)],
    ]),
    refuse: undefined as Error | undefined,
  }
  const cache = {
    entry: (id: string) => held.entries.get(id),
    entries: () => held.entries.values(),
    svid: (id: string) => held.svids.get(id),
    bundle: (trustDomain: TrustDomain) => held.bundles.get(trustDomain),
  } as unknown as SvidCache
  const stored = new StoredSvids({
    trustDomain: TD,
    cache,
    clock: { nowMs: () => 1_000_000 },
    log: silentLog,
    stores: new Map([
      [
        'safe',
        {
          name: 'safe',
          async put(svid) {
            heard.push(`put ${svid.metadata}`)
            if (held.refuse) throw held.refuse
            puts.push(svid)
          },
          async delete(metadata) {
            heard.push(`delete ${metadata}`)
            if (held.refuse) throw held.refuse
          },
        },
      ],
    ]),
  })
  const give = (selectors: readonly string[], notAfter = 2000): void => {
    const entry = { id: 'e', spiffeId: spiffeId(TD, '/s'), selectors, federatesWith: [OTHER] } as unknown as AgentEntry
    held.entries.set('e', entry)
    held.svids.set('e', { spiffeId: entry.spiffeId, chain: [], notAfter, signedFor: entry } as unknown as WorkloadSvid)
  }
  return { heard, puts, held, stored, give }
}

test('an SVID is stored once, and again with each new SVID and bundle', async () => {
  const { heard, puts, held, stored, give } = setup()
  give(['safe:a:b', 'safe:c'])
  await stored.process()
  await stored.process()
  expect(heard).toEqual(['put a:b,c'])
  expect(puts[0]!.bundle).toEqual([Uint8Array.of(1)])
  expect([...puts[0]!.federatedBundles]).toEqual([['spiffe://other.org' as SpiffeId, Uint8Array.of(2)]])
  held.bundles.set(OTHER, bundleOf(OTHER, 3))
  await stored.process()
  give(['safe:a:b', 'safe:c'])
  await stored.process()
  expect(heard).toEqual(['put a:b,c', 'put a:b,c', 'put a:b,c'])
})

test('what failed is tried again; what is over, of an earlier entry, or of no store is not stored', async () => {
  const { heard, held, stored, give } = setup()
  held.refuse = new Error('not now')
  give(['safe:a'])
  await stored.process()
  held.refuse = undefined
  await stored.process()
  expect(heard).toEqual(['put a', 'put a'])
  give(['safe:a'], 1000)
  await stored.process()
  give(['safe:a'])
  held.entries.set('e', { ...held.entries.get('e')! })
  await stored.process()
  expect(heard).toHaveLength(2)
  give(['none:a'])
  await stored.process()
  give(['safe:a', 'none:a'])
  await stored.process()
  expect(heard).toEqual(['put a', 'put a', 'delete a'])
})

test('an SVID is taken out where its entry was, until that worked or never can', async () => {
  const { heard, held, stored, give } = setup()
  give(['safe:a'])
  await stored.process()
  give(['safe:b'])
  await stored.process()
  expect(heard).toEqual(['put a', 'delete a', 'put b'])
  held.entries.clear()
  held.refuse = new Error('not now')
  await stored.process()
  held.refuse = new StatusError('INVALID_ARGUMENT', 'never')
  await stored.process()
  await stored.process()
  expect(heard.slice(3)).toEqual(['delete b', 'delete b'])
})
