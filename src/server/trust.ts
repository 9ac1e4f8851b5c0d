import type { Bundle } from '../core/bundle.ts'
import { type Certificate, parseCertificate, serialText } from '../core/certificate.ts'
import { type Clock, epochSeconds } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import { parseJwt } from '../core/jwt-svid.ts'
import { type VerifiedX509Svid, verifyX509Svid } from '../core/path-validation.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { type SpiffeId, trustDomainOf } from '../core/spiffe-id.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { type ValidWitSvid, validateWitSvid } from '../core/wit-svid.ts'
import { KnownChains } from './known-chains.ts'
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
  /**
   * Validates the WIT-SVID of somebody who calls: a member of this trust domain, or an admin of another. It proves nothing before its
   * key signed something. @throws StatusError INVALID_ARGUMENT
   */
  verifyWit(token: string): Promise<ValidWitSvid>
}

export interface TrustDeps {
  readonly store: Pick<Store, 'bundles'>
  readonly bundle: OwnBundle
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly verify: VerifySignature
  readonly clock: Clock
}

/**
 * Roots of the own trust domain are parsed once per version of its bundle, others are read when asked for. A chain that was found good
 * is not walked again before its bundle changes or one of its certificates ends.
 */
export function trustOf(deps: TrustDeps): Trust {
  const { store, bundle: own, clock, verify } = deps
  const parsed = new WeakMap<object, readonly Certificate[]>()
  const known = new KnownChains()

  async function bundleOf(trustDomain: TrustDomain): Promise<Bundle | undefined> {
    return trustDomain === own.trustDomain ? own.get() : store.bundles.get(trustDomain)
  }

  async function roots(trustDomain: TrustDomain): Promise<readonly Certificate[]> {
    const bundle = await bundleOf(trustDomain)
    if (!bundle) return []
    let certificates = parsed.get(bundle)
    if (!certificates) {
      certificates = bundle.x509Authorities.map(({ der }) => parseCertificate(der))
      parsed.set(bundle, certificates)
    }
    return certificates
  }

  async function verifySvid(chain: readonly Uint8Array[]): Promise<VerifiedX509Svid> {
    const at = epochSeconds(clock)
    const seen = known.get(chain, await roots(own.trustDomain), at)
    if (seen) return seen
    // The leaf says which bundle is needed; what it says counts for nothing until it was verified.
    const claimed = trustDomainOf(claimedId(chain))
    const trusted = await roots(claimed)
    const verified = await verifyX509Svid({
      chain,
      rootsOf: (trustDomain) => (trustDomain === claimed && trusted.length > 0 ? trusted : undefined),
      at,
      verify,
    })
    if (claimed === own.trustDomain) known.add(chain, trusted, verified)
    return verified
  }

  function admit(spiffeId: SpiffeId, code: 'UNAUTHENTICATED' | 'INVALID_ARGUMENT'): void {
    if (trustDomainOf(spiffeId) === own.trustDomain || deps.adminIds.has(spiffeId)) return
    throw new StatusError(code, `unexpected trust domain in ID ${JSON.stringify(spiffeId)}`)
  }

  return {
    roots,
    verifySvid,
    async verifyPeer(chain) {
      const { spiffeId, leaf } = await verifySvid(chain)
      admit(spiffeId, 'UNAUTHENTICATED')
      return { spiffeId, serialNumber: serialText(leaf), expiresAt: leaf.notAfter }
    },
    async verifyWit(token) {
      // Its subject says which bundle is needed; it, too, counts for nothing until the token was validated.
      const { sub } = parseJwt(token).claims
      const claimed = trustDomainOf((typeof sub === 'string' ? sub : '') as SpiffeId)
      const bundle = await bundleOf(claimed)
      const wit = await validateWitSvid({
        token,
        // Whoever has a tainted key could name any identity; nothing is renewed with a WIT-SVID, so that nobody needs it any more.
        authoritiesOf: (trustDomain) =>
          trustDomain === claimed ? bundle?.witAuthorities.filter(({ tainted }) => !tainted) : undefined,
        at: epochSeconds(clock),
        verify,
      })
      admit(wit.spiffeId, 'INVALID_ARGUMENT')
      return wit
    },
  }
}

function claimedId(chain: readonly Uint8Array[]): SpiffeId {
  const [uri] = chain.length > 0 ? parseCertificate(chain[0]!).uris : []
  return (uri ?? '') as SpiffeId
}
