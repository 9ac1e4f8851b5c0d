import type { Clock } from '../../core/clock.ts'
import type { ExchangeSourceOptions, TokenIssuer } from '../../core/exchange.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import type { BundleStore } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { checkSources, type VerifiableSource } from './source.ts'
import { spiffeIssuer } from './spiffe-issuer.ts'

/** Makes the verifier of an issuer's tokens; how its keys are fetched is the host's business. */
export type NewTokenIssuer = (options: {
  readonly issuer: string
  readonly jwksUri?: string
  readonly jwks?: { readonly keys: readonly unknown[] }
}) => TokenIssuer

/**
 * The configured sources with who verifies their tokens. Sources of one issuer share its keys.
 * @throws Error that names the source and says what is wrong
 */
export function verifiableSources(
  configured: { readonly sources: readonly ExchangeSourceOptions[]; readonly newIssuer: NewTokenIssuer } | undefined,
  parts: {
    readonly trustDomain: TrustDomain
    /** `iss` of the server's own tokens. */
    readonly ownIssuer?: string | undefined
    readonly bundles: Pick<BundleStore, 'get'>
    readonly verify: VerifySignature
    readonly clock: Clock
  },
): readonly VerifiableSource[] {
  if (!configured) return []
  const issuers = new Map<string, TokenIssuer>()
  return checkSources(parts.trustDomain, configured.sources, parts.ownIssuer).map((source) => {
    const { issuer, jwksUri, jwks, trustDomain } = source
    if (trustDomain !== undefined) return { ...source, verifier: spiffeIssuer(trustDomain, parts) }
    const key = JSON.stringify([issuer, jwksUri, jwks])
    let verifier = issuers.get(key)
    if (!verifier) {
      verifier = configured.newIssuer({
        issuer: issuer!,
        ...(jwksUri === undefined ? {} : { jwksUri }),
        ...(jwks === undefined ? {} : { jwks }),
      })
      issuers.set(key, verifier)
    }
    return { ...source, verifier }
  })
}
