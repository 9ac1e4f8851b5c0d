import type { ConnectToServer } from '../../agent/server-connection.ts'
import { parseCertificate } from '../core/certificate.ts'
import { epochSeconds, systemClock } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import { leafSpiffeId, verifyX509Svid } from '../core/path-validation.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { serverId } from '../core/spiffe-id.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { importSigner } from '../plugins/signer.ts'
import { connect } from '../transport/grpc-client.ts'
import { connectHttp } from '../transport/http-client.ts'
import { x509Credential } from '../transport/http-signature.ts'

/** Where a server is. */
export interface ServerPlace {
  readonly trustDomain: TrustDomain
  readonly serverAddress: string
  readonly serverPort: number
  /** The server's HTTP plane; undefined: gRPC to serverAddress. */
  readonly serverUrl: string | undefined
  /** How the server is configured to be called over HTTP; undefined: the origin of the URL. */
  readonly serverAudience: string | undefined
  readonly requirePqKem: boolean
}

/** Connections to a server, which must be `spiffe://<td>/spire/server` of the trust domain. */
export function serverConnections(place: ServerPlace, verify: VerifySignature): ConnectToServer {
  const { trustDomain, serverAddress, serverPort, serverUrl, serverAudience, requirePqKem } = place
  const expected = serverId(trustDomain)
  const host = serverAddress.includes(':') ? `[${serverAddress}]` : serverAddress
  const verifyServer = async (chain: readonly Uint8Array[], trusted: readonly Uint8Array[] | undefined) => {
    if (trusted === undefined) {
      const id = leafSpiffeId(parseCertificate(chain[0] ?? new Uint8Array(0)))
      if (id !== expected)
        throw new StatusError('UNAUTHENTICATED', `expected server SPIFFE ID "${expected}"; got ["${id}"]`)
      return
    }
    const parsed = trusted.map(parseCertificate)
    const { spiffeId } = await verifyX509Svid({
      chain,
      rootsOf: (name) => (name === trustDomain ? parsed : undefined),
      at: epochSeconds(systemClock),
      verify,
    })
    if (spiffeId !== expected) throw new StatusError('UNAUTHENTICATED', `unexpected ID "${spiffeId}"`)
  }
  return async ({ identity, roots }) => {
    if (serverUrl !== undefined) {
      const credential =
        identity && x509Credential({ chain: identity.chain, signer: importSigner(identity.privateKey) })
      return connectHttp({
        serverUrl,
        ...(serverAudience === undefined ? {} : { audience: serverAudience }),
        credential: () => credential,
        verifyServer: (chain) => verifyServer(chain, roots()),
        verify,
        clock: systemClock,
      })
    }
    return connect({
      target: `dns:///${host}:${serverPort}`,
      tls: {
        requirePqKem,
        identity: () => identity && { certificates: identity.chain, privateKey: identity.privateKey },
        verifyServer: (chain) => verifyServer(chain, roots()),
      },
    })
  }
}
