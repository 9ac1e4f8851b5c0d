import type { Bundle as WireBundle } from '../../../proto/spire/plugin/types.ts'
import type { Bundle } from '../../core/bundle.ts'

/** A bundle as plugins read it. */
export function pluginBundle(bundle: Bundle): WireBundle {
  return {
    trustDomain: bundle.trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der, tainted }) => ({ asn1: der, tainted })),
    jwtAuthorities: [...bundle.jwtAuthorities],
    witAuthorities: [...bundle.witAuthorities],
    refreshHint: bundle.refreshHintSeconds,
    sequenceNumber: bundle.sequenceNumber,
  }
}
