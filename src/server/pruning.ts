import type { Bundle, JwtAuthority } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { BundleStore, EntryStore, NodeStore } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'

const EXPIRED_FOR = 24 * 3600

/**
 * Removes what ended more than a day ago from the own bundle. Call it every 6 hours. The keys of a kind stay if all of them ended:
 * that kind was switched off, which is no reason to let the others grow.
 * @throws StatusError INTERNAL if no root would be left: then something is wrong, and nothing is removed
 * @see server.md 5.3
 */
export async function pruneBundle(
  bundles: BundleStore,
  trustDomain: TrustDomain,
  now: EpochSeconds,
  log: Log,
): Promise<void> {
  const before = await bundles.get(trustDomain)
  if (!before) return
  const after = await bundles.change(trustDomain, (bundle) => pruned(bundle, now - EXPIRED_FOR))
  if (after.sequenceNumber !== before.sequenceNumber) log.debug('Expired authorities pruned from the bundle')
}

function pruned(bundle: Bundle, limit: EpochSeconds): Bundle | undefined {
  const x509Authorities = bundle.x509Authorities.filter((root) => parseCertificate(root.der).notAfter >= limit)
  if (x509Authorities.length === 0 && bundle.x509Authorities.length > 0) {
    throw new StatusError('INTERNAL', 'would prune all certificates')
  }
  const jwtAuthorities = livingKeys(bundle.jwtAuthorities, limit)
  const witAuthorities = livingKeys(bundle.witAuthorities, limit)
  const unchanged =
    x509Authorities.length === bundle.x509Authorities.length &&
    jwtAuthorities.length === bundle.jwtAuthorities.length &&
    witAuthorities.length === bundle.witAuthorities.length
  return unchanged
    ? undefined
    : { ...bundle, x509Authorities, jwtAuthorities, witAuthorities, sequenceNumber: bundle.sequenceNumber + 1 }
}

function livingKeys(keys: readonly JwtAuthority[], limit: EpochSeconds): readonly JwtAuthority[] {
  const living = keys.filter(({ expiresAt }) => expiresAt === 0 || expiresAt >= limit)
  return living.length === 0 ? keys : living
}

/** Deletes entries that ended. Call it every 5 minutes. @see server.md 6.3 */
export async function pruneEntries(entries: EntryStore, now: EpochSeconds, log: Log): Promise<void> {
  for (const entry of await entries.pruneExpired(now)) {
    log.info('Pruned an expired registration', {
      spiffe_id: entry.spiffeId,
      parent_id: entry.parentId,
      entry_id: entry.id,
    })
  }
}

export interface NodePruning {
  readonly expiredForSeconds: number
  readonly batchSize: number
  readonly includeNonReattestable: boolean
}

/** Deletes nodes that ended long ago, a batch at a time. Call it about every hour. @see server.md 6.3 */
export async function pruneNodes(nodes: NodeStore, options: NodePruning, now: EpochSeconds, log: Log): Promise<void> {
  for (;;) {
    const count = await nodes.prune(now - options.expiredForSeconds, options.includeNonReattestable, options.batchSize)
    if (count > 0) log.info('Pruned attested nodes', { count })
    if (count < options.batchSize) return
  }
}
