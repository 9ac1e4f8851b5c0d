import type { Bundle, JwtAuthority } from '../core/bundle.ts'
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
 * Brings the own bundle in step with the upstream's: new roots and keys are added, taints are taken over, what was tainted and is gone
 * upstream is removed. A CA below a tainted root is replaced first, and that by what is tainted, not by what is new: another server on the
 * same database may have taken the same update over before.
 * @see server.md 5.5
 */
export async function takeUpstreamBundle(deps: UpstreamBundleDeps, update: UpstreamBundle): Promise<void> {
  const { bundles, trustDomain } = deps
  if (update.x509Authorities.length > 0) await takeRoots(deps, update.x509Authorities)
  await bundles.append({ trustDomain, ...update })
  await bundles.change(trustDomain, (bundle) => withKeysOf(bundle, update))
}

async function takeRoots(deps: UpstreamBundleDeps, authorities: Bundle['x509Authorities']): Promise<void> {
  const { bundles, trustDomain, log } = deps
  const theirs = new Map(authorities.map((root) => [rootKeyId(root), root]))
  const roots = (await bundles.get(trustDomain))?.x509Authorities ?? []
  const tainted = roots.filter((root) => root.tainted || theirs.get(rootKeyId(root))?.tainted).map(rootKeyId)
  if (tainted.length > 0) await deps.replaceCa(new Set(tainted))
  const newlyTainted = roots.filter((root) => !root.tainted && theirs.get(rootKeyId(root))?.tainted).map(rootKeyId)
  if (newlyTainted.length > 0) {
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
}

/** The bundle with the taints of the upstream's keys, without those that were tainted and are gone there; undefined if it is so already. */
function withKeysOf(bundle: Bundle, update: UpstreamBundle): Bundle | undefined {
  // An upstream that takes none of our keys of a kind says nothing of them.
  const jwtAuthorities =
    update.jwtAuthorities.length > 0 ? keysLike(bundle.jwtAuthorities, update.jwtAuthorities) : bundle.jwtAuthorities
  const witAuthorities = update.witAuthorities?.length
    ? keysLike(bundle.witAuthorities, update.witAuthorities)
    : bundle.witAuthorities
  if (jwtAuthorities === bundle.jwtAuthorities && witAuthorities === bundle.witAuthorities) return undefined
  return { ...bundle, jwtAuthorities, witAuthorities, sequenceNumber: bundle.sequenceNumber + 1 }
}

/** The same array if nothing changes. A key that is not tainted stays: it may be one of ours that is not published upstream yet. */
function keysLike(own: readonly JwtAuthority[], theirs: readonly JwtAuthority[]): readonly JwtAuthority[] {
  const known = new Map(theirs.map((key) => [key.keyId, key]))
  const changed = own.some((key) => (key.tainted ? !known.has(key.keyId) : known.get(key.keyId)?.tainted))
  if (!changed) return own
  return own
    .filter((key) => !key.tainted || known.has(key.keyId))
    .map((key) => (known.get(key.keyId)?.tainted ? { ...key, tainted: true } : key))
}
