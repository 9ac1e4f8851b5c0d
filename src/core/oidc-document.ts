import type { Bundle } from './bundle.ts'
import { jwkOf } from './jwk.ts'
import { KEY_TYPES } from './key-type.ts'
import { keyTypeOf, parsePublicKey } from './public-key.ts'

/** The JWKS that OIDC relying parties read: all JWT keys, tainted ones too, each with its algorithm. RFC 7517 5. */
export function oidcJwks(bundle: Bundle): string {
  const keys = bundle.jwtAuthorities.map(({ publicKey, keyId }) => {
    const { kty, kid, crv, x, y, n, e } = jwkOf(publicKey, keyId)
    const type = keyTypeOf(parsePublicKey(publicKey))
    return { kty, kid, crv, alg: type && KEY_TYPES[type].jws, x, y, n, e }
  })
  return JSON.stringify({ keys }, undefined, 2)
}

/**
 * The discovery document of an issuer whose keys lie at `jwksUri`.
 * @see OpenID Connect Discovery 1.0, 3 and 4.2
 */
export function oidcDiscovery(issuer: string, jwksUri: string): string {
  return JSON.stringify(
    {
      issuer,
      jwks_uri: jwksUri,
      authorization_endpoint: '',
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256', 'ES256', 'ES384'],
    },
    undefined,
    2,
  )
}
