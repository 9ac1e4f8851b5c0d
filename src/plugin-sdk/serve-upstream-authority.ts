import type { JWTKey, X509Certificate } from '../../proto/spire/plugin/types.ts'
import type { JwtAuthority, X509Authority } from '../core/bundle.ts'
import { StatusError } from '../core/error.ts'
import type { UpstreamAuthority } from '../core/plugin.ts'
import type { Implementation } from './kinds.ts'

/** An upstream authority as a plugin. */
export function servedUpstreamAuthority(upstream: UpstreamAuthority): Implementation<'server/UpstreamAuthority'> {
  return {
    async *mintX509CaAndSubscribe({ csr, preferredTtl }, { signal }) {
      const { caChain, upstreamRoots } = await upstream.mintX509Ca(csr, preferredTtl)
      yield { x509CaChain: caChain.map(certificate), upstreamX509Roots: upstreamRoots.map(root) }
      for await (const { x509Authorities } of upstream.follow?.(signal) ?? [])
        yield { x509CaChain: [], upstreamX509Roots: x509Authorities.map(root) }
    },
    async *publishJwtKeyAndSubscribe({ jwtKey }, { signal }) {
      if (!jwtKey) throw new StatusError('INVALID_ARGUMENT', 'missing JWT key')
      const keys = await upstream.publishJwtKey?.(jwtKey)
      if (!keys) throw new StatusError('UNIMPLEMENTED', 'publishing upstream is unsupported')
      yield { upstreamJwtKeys: keys.map(key) }
      for await (const { jwtAuthorities } of upstream.follow?.(signal) ?? [])
        yield { upstreamJwtKeys: jwtAuthorities.map(key) }
    },
    async *subscribeToLocalBundle(_, { signal }) {
      if (!upstream.follow) throw new StatusError('UNIMPLEMENTED', 'fetching upstream trust bundle is unsupported')
      for await (const { x509Authorities, jwtAuthorities } of upstream.follow(signal))
        yield { upstreamX509Roots: x509Authorities.map(root), upstreamJwtKeys: jwtAuthorities.map(key) }
    },
    close: () => upstream.close?.(),
  }
}

const certificate = (asn1: Uint8Array): X509Certificate => ({ asn1, tainted: false })
const root = ({ der, tainted }: X509Authority): X509Certificate => ({ asn1: der, tainted })
const key = ({ keyId, publicKey, expiresAt, tainted }: JwtAuthority): JWTKey => ({
  keyId,
  publicKey,
  expiresAt,
  tainted,
})
