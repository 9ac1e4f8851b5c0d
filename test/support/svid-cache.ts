import type { AgentEntry } from '../../agent/entry.ts'
import { SvidCache, type WorkloadSvid, type WorkloadUpdate } from '../../agent/svid-cache.ts'
import { keyOf } from '../../agent/wire.ts'
import type { Bundle } from '../../src/core/bundle.ts'
import { parseCertificate } from '../../src/core/certificate.ts'
import { silentLog } from '../../src/core/log.ts'
import { parseSpiffeId } from '../../src/core/spiffe-id.ts'
import { parseTrustDomainName, type TrustDomain } from '../../src/core/trust-domain.ts'
import { makeCertificate } from './x509.ts'

export const TD = parseTrustDomainName('example.org')
export const OTHER = parseTrustDomainName('other.org')
export const START = 1_800_000_000
export const ROOT = (await makeCertificate({ name: 'root', ca: true })).der
export const NEXT_ROOT = (await makeCertificate({ name: 'root', ca: true })).der
export const keyOfRoot = (der: Uint8Array) => keyOf(parseCertificate(der))

export function entry(id: string, selectors: readonly string[], changes: Partial<AgentEntry> = {}): AgentEntry {
  return {
    id,
    spiffeId: parseSpiffeId(`spiffe://example.org/${id}`),
    selectors: [...selectors].sort(),
    federatesWith: [],
    dnsNames: [],
    admin: false,
    downstream: false,
    revisionNumber: 0,
    storeSvid: false,
    hint: '',
    createdAt: START,
    disableX509SvidPrefetch: false,
    jwtSvidIncludeJti: false,
    ...changes,
  }
}

export function bundle(trustDomain: TrustDomain, sequenceNumber = 0): Bundle {
  return {
    trustDomain,
    x509Authorities: trustDomain === TD ? [{ der: ROOT, tainted: false }] : [],
    jwtAuthorities: [],
    witAuthorities: [],
    refreshHintSeconds: 0,
    sequenceNumber,
  }
}

export function setUp(maxSize = 1000) {
  const time = { now: START }
  const cache = new SvidCache({
    trustDomain: TD,
    maxSize,
    clock: { nowMs: () => time.now * 1000 },
    log: silentLog,
    rotation: { random: () => 0.5 },
  })
  const own = bundle(TD)
  const apply = (entries: readonly AgentEntry[], bundles: readonly Bundle[] = [own]) =>
    cache.apply(new Map(entries.map((one) => [one.id, one])), new Map(bundles.map((one) => [one.trustDomain, one])))
  const svid = (one: AgentEntry, changes: Partial<WorkloadSvid> = {}): WorkloadSvid => ({
    chain: [],
    privateKey: new Uint8Array(0),
    notBefore: time.now - 10,
    notAfter: time.now + 3600,
    rootKey: keyOfRoot(ROOT),
    spiffeId: one.spiffeId,
    signedFor: one,
    ...changes,
  })
  const sign = (...entries: readonly AgentEntry[]) => cache.store(new Map(entries.map((one) => [one.id, svid(one)])))
  return { time, cache, apply, sign, svid, own }
}

/** Follows a set of selectors and keeps what came. */
export function follow(cache: SvidCache, selectors: readonly string[]) {
  const stop = new AbortController()
  const updates: WorkloadUpdate[] = []
  const done = (async () => {
    for await (const update of cache.subscribe(selectors, stop.signal)) updates.push(update)
  })()
  return {
    updates,
    ids: () => updates[updates.length - 1]?.identities.map(({ entry: one }) => one.id),
    async stop() {
      stop.abort()
      await done
    },
  }
}

export const settle = () => new Promise<void>((resolve) => setImmediate(resolve))
export const needed = (cache: SvidCache) => cache.needed(100).map(({ id }) => id)
