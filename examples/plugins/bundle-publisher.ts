#!/usr/bin/env node
// A BundlePublisher that puts the bundle as a SPIFFE bundle document (JWK set) to a URL.

import { createPublicKey, X509Certificate } from 'node:crypto'
import { requiredText, StatusError, servePlugin } from 'turret/plugin'

await servePlugin({
  kind: 'server/BundlePublisher',

  read: ({ data }) => new URL(requiredText(data, 'url')),

  make: (url, { signal }) => ({
    async publishBundle({ bundle }) {
      if (!bundle) throw new StatusError('INVALID_ARGUMENT', 'missing bundle in request')
      const x509 = bundle.x509Authorities.map(({ asn1 }) => ({
        ...new X509Certificate(asn1).publicKey.export({ format: 'jwk' }),
        use: 'x509-svid',
        x5c: [Buffer.from(asn1).toString('base64')],
      }))
      const jwt = bundle.jwtAuthorities.map(({ keyId, publicKey }) => ({
        ...createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }).export({ format: 'jwk' }),
        use: 'jwt-svid',
        kid: keyId,
      }))
      const body = JSON.stringify({ keys: [...x509, ...jwt], spiffe_sequence: bundle.sequenceNumber })
      const { ok, status } = await fetch(url, { method: 'PUT', body, signal })
      if (!ok) throw new StatusError('UNAVAILABLE', `${url} answered ${status}`)
      return {}
    },
  }),
})
