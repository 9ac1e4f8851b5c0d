import { type Certificate, parseCertificate, serialText } from '../core/certificate.ts'
import { type Clock, epochSeconds } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import { type VerifiedX509Svid, verifyX509Svid } from '../core/path-validation.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { type SpiffeId, trustDomainOf } from '../core/spiffe-id.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import type { OwnBundle } from './own-bundle.ts'

/** Who holds a chain that was verified: what a transport has to know of a peer. */
export interface VerifiedHolder {
  readonly spiffeId: SpiffeId
  /** Decimal serial number of the leaf. */
  readonly serialNumber: string
  /** notAfter of the leaf, Unix seconds. */
  readonly expiresAt: number
}

/** Whom the server believes. */
export interface Trust {
  /** Parsed roots of a trust domain; none if its bundle is not known. */
  roots(trustDomain: TrustDomain): Promise<readonly Certificate[]>
  /** Verifies a chain (DER, leaf first) to the bundle of the trust domain that its leaf names. @throws StatusError, DerError */
  verifySvid(chain: readonly Uint8Array[]): Promise<VerifiedX509Svid>
  /** The same for somebody who calls: a member of this trust domain, or an admin of another. @throws StatusError UNAUTHENTICATED */
  verifyPeer(chain: readonly Uint8Array[]): Promise<VerifiedHolder>
}

export interface TrustDeps {
  readonly store: Pick<Store, 'bundles'>
  readonly bundle: OwnBundle
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly verify: VerifySignature
  readonly clock: Clock
}

/** Roots of the own trust domain are parsed once per version of its bundle, others are read when asked for. */
export function trustOf(deps: TrustDeps): Trust {
  const { store, bundle: own, clock, verify } = deps
  const parsed = new WeakMap<object, readonly Certificate[]>()

  async function roots(trustDomain: TrustDomain): Promise<readonly Certificate[]> {
    const bundle = trustDomain === own.trustDomain ? await own.get() : await store.bundles.get(trustDomain)
    if (!bundle) return []
    let known = parsed.get(bundle)
    if (!known) {
      known = bundle.x509Authorities.map(({ der }) => parseCertificate(der))
      parsed.set(bundle, known)
    }
    return known
  }

  async function verifySvid(chain: readonly Uint8Array[]): Promise<VerifiedX509Svid> {
    // The leaf says which bundle is needed; what it says counts for nothing until it was verified.
    const claimed = trustDomainOf(claimedId(chain))
    const trusted = await roots(claimed)
    return verifyX509Svid({
      chain,
      rootsOf: (trustDomain) => (trustDomain === claimed && trusted.length > 0 ? trusted : undefined),
      at: epochSeconds(clock),
      verify,
    })
  }

  return {
    roots,
    verifySvid,
    async verifyPeer(chain) {
      const { spiffeId, leaf } = await verifySvid(chain)
      if (trustDomainOf(spiffeId) !== own.trustDomain && !deps.adminIds.has(spiffeId)) {
        throw new StatusError('UNAUTHENTICATED', `unexpected trust domain in ID ${JSON.stringify(spiffeId)}`)
      }
      return { spiffeId, serialNumber: serialText(leaf), expiresAt: leaf.notAfter }
    },
  }
}

function claimedId(chain: readonly Uint8Array[]): SpiffeId {
  const [uri] = chain.length > 0 ? parseCertificate(chain[0]!).uris : []
  return (uri ?? '') as SpiffeId
}
