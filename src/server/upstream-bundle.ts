import type { Log } from '../core/log.ts'
import type { UpstreamBundle } from '../core/plugin.ts'
import type { BundleStore } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { rootKeyId, withTaintedRoots } from './taint.ts'

export interface UpstreamBundleDeps {
  readonly bundles: BundleStore
  readonly trustDomain: TrustDomain
  readonly log: Log
  /** Makes the CA independent of these roots, before anybody learns that they are tainted. Hex key ids. */
  readonly replaceCa: (keyIds: ReadonlySet<string>) => Promise<void>
  readonly onTainted: (keyIds: readonly string[]) => void
}

/**
 * Brings the own bundle in step with the upstream's: new roots and keys are added, roots that were tainted and are gone upstream
 * are removed, newly tainted ones make the CA below them be replaced first.
 * @see server.md 5.5
 */
export async function takeUpstreamBundle(deps: UpstreamBundleDeps, update: UpstreamBundle): Promise<void> {
  const { bundles, trustDomain, log } = deps
  const theirs = new Map(update.x509Authorities.map((root) => [rootKeyId(root), root]))
  const roots = (await bundles.get(trustDomain))?.x509Authorities ?? []
  const newlyTainted = roots.filter((root) => !root.tainted && theirs.get(rootKeyId(root))?.tainted).map(rootKeyId)
  if (newlyTainted.length > 0) {
    await deps.replaceCa(new Set(newlyTainted))
    await bundles.change(trustDomain, (bundle) => withTaintedRoots(bundle, new Set(newlyTainted)))
    log.info('X.509 authority tainted', { subject_key_id: newlyTainted.join(',') })
    deps.onTainted(newlyTainted)
  }
  const revoked = new Set(roots.filter((root) => root.tainted && !theirs.has(rootKeyId(root))).map(rootKeyId))
  if (revoked.size > 0) {
    await bundles.change(trustDomain, (bundle) => ({
      ...bundle,
      x509Authorities: bundle.x509Authorities.filter((root) => !revoked.has(rootKeyId(root))),
      sequenceNumber: bundle.sequenceNumber + 1,
    }))
    log.info('X.509 authority revoked', { subject_key_id: [...revoked].join(',') })
  }
  await bundles.append({ trustDomain, ...update })
}
