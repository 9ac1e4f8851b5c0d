import type { TokenIssuer } from '../../core/exchange.ts'
import { type OidcIssuerOptions, oidcIssuer } from './issuer.ts'

/** Makes the verifiers of platforms' tokens for the exchange: all fetch their keys by the rules of `oidcIssuer`. */
export function tokenIssuers(
  parts: Pick<OidcIssuerOptions, 'verify' | 'clock' | 'log' | 'fetch'>,
): (options: Pick<OidcIssuerOptions, 'issuer' | 'jwksUri' | 'jwks'>) => TokenIssuer {
  return (options) => oidcIssuer({ ...options, ...parts })
}
