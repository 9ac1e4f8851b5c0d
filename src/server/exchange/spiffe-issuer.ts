import { type Clock, epochSeconds } from '../../core/clock.ts'
import { StatusError } from '../../core/error.ts'
import type { TokenIssuer } from '../../core/exchange.ts'
import { parseJwt, validateJwtSvid } from '../../core/jwt-svid.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import { trustDomainId, trustDomainOf } from '../../core/spiffe-id.ts'
import type { BundleStore } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'

const LEEWAY_SECONDS = 30

/** Takes the JWT-SVIDs of another trust domain, by its bundle as it is known here. */
export function spiffeIssuer(
  trustDomain: TrustDomain,
  parts: { readonly bundles: Pick<BundleStore, 'get'>; readonly verify: VerifySignature; readonly clock: Clock },
): TokenIssuer {
  return {
    issuer: trustDomainId(trustDomain),
    async verify(token, { audiences, maxAgeSeconds, types = ['jwt'] }) {
      const parsed = parse(token)
      if (parsed.type !== undefined && !types.includes(parsed.type.toLowerCase()))
        throw refused('the token is of another type')
      const now = epochSeconds(parts.clock)
      const { exp, iat, nbf } = parsed.claims
      if (typeof exp !== 'number' || !Number.isFinite(exp)) throw refused('the token has no end')
      if (exp + LEEWAY_SECONDS <= now) throw refused('the token has expired')
      if (typeof iat !== 'number' || !Number.isFinite(iat)) throw refused('the token does not say when it was issued')
      if (iat - LEEWAY_SECONDS > now) throw refused('the token was issued in the future')
      if (typeof nbf === 'number' && nbf - LEEWAY_SECONDS > now) throw refused('the token is not valid yet')
      if (maxAgeSeconds !== undefined && iat + maxAgeSeconds + LEEWAY_SECONDS < now)
        throw refused('the token is too old')
      const bundle = await parts.bundles.get(trustDomain)
      if (!bundle) throw new StatusError('UNAVAILABLE', `the bundle of "${trustDomain}" is not known`)
      const trusted = bundle.jwtAuthorities.filter((authority) => !authority.tainted)
      let valid: Awaited<ReturnType<typeof validateJwtSvid>>
      try {
        valid = await validateJwtSvid({
          token,
          audience: audiences,
          authoritiesOf: (name) => (name === trustDomain ? trusted : undefined),
          at: now,
          verify: parts.verify,
        })
      } catch (cause) {
        // The reasons repeat parts of the token, and are for the log of nobody.
        throw refused('the token is no valid JWT-SVID of the trust domain for this audience', cause)
      }
      const { spiffeId, claims } = valid
      if (trustDomainOf(spiffeId) !== trustDomain) throw refused('the token is of another trust domain')
      const { publicKey } = trusted.find(({ keyId }) => keyId === parsed.keyId)!
      return {
        claims,
        subject: spiffeId,
        audiences: claims.aud as readonly string[],
        expiresAt: Math.floor(exp),
        publicKey,
      }
    },
  }
}

function parse(token: string) {
  try {
    return parseJwt(token)
  } catch (cause) {
    throw refused('the token is malformed', cause)
  }
}

function refused(message: string, cause?: unknown): StatusError {
  return new StatusError('UNAUTHENTICATED', message, cause === undefined ? {} : { cause })
}
