import type { ConnectToServer } from '../../agent/server-connection.ts'
import type { ServerPlace } from '../config/server-place.ts'
import { parseCertificate } from '../core/certificate.ts'
import { epochSeconds, systemClock } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import { leafSpiffeId } from '../core/path-validation.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { serverId } from '../core/spiffe-id.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { importSigner } from '../plugins/signer.ts'
import { connect, type GrpcChannel } from '../transport/grpc-client.ts'
import { connectHttp, type HttpChannelOptions } from '../transport/http-client.ts'
import { x509Credential } from '../transport/http-signature.ts'
import type { ClientTls } from '../transport/tls-client.ts'
import { requireServer } from './require-server.ts'

/** Who calls a server, and what it must prove. */
type Parts = Pick<HttpChannelOptions, 'credential' | 'verifyServer' | 'verify' | 'clock'> &
  Required<Pick<ClientTls, 'identity'>>

/** Opens a channel to a server: over HTTP where it has a URL, over gRPC else. */
export async function channelTo(place: ServerPlace, parts: Parts): Promise<GrpcChannel> {
  const { serverUrl, serverAudience, serverAddress, serverPort, requirePqKem } = place
  const { identity, credential, verifyServer, verify, clock } = parts
  if (serverUrl !== undefined) {
    const audience = serverAudience === undefined ? {} : { audience: serverAudience }
    return connectHttp({ serverUrl, ...audience, credential, verifyServer, verify, clock })
  }
  const host = serverAddress.includes(':') ? `[${serverAddress}]` : serverAddress
  return connect({ target: `dns:///${host}:${serverPort}`, tls: { requirePqKem, identity, verifyServer } })
}

/** Connections to a server, which must be `spiffe://<td>/spire/server` of the trust domain. */
export function serverConnections(place: ServerPlace, verify: VerifySignature): ConnectToServer {
  const { trustDomain, serverUrl } = place
  const verifyServer = async (chain: readonly Uint8Array[], trusted: readonly Uint8Array[] | undefined) => {
    if (trusted === undefined) {
      const expected = serverId(trustDomain)
      const leaf = parseCertificate(chain[0] ?? new Uint8Array(0))
      const { uris } = leaf
      if (uris.length !== 1 || uris[0] !== expected) {
        const got = uris.map((uri) => JSON.stringify(uri)).join(' ')
        throw new StatusError('UNAUTHENTICATED', `expected server SPIFFE ID "${expected}"; got [${got}]`)
      }
      leafSpiffeId(leaf)
      return
    }
    const parsed = trusted.map(parseCertificate)
    const rootsOf = (name: TrustDomain) => (name === trustDomain ? parsed : undefined)
    await requireServer(trustDomain, { chain, rootsOf, at: epochSeconds(systemClock), verify })
  }
  return async ({ identity, roots }) => {
    const credential =
      identity && serverUrl !== undefined
        ? x509Credential({ chain: identity.chain, signer: importSigner(identity.privateKey) })
        : undefined
    return channelTo(place, {
      identity: () => identity && { certificates: identity.chain, privateKey: identity.privateKey },
      credential: () => credential,
      verifyServer: (chain) => verifyServer(chain, roots()),
      verify,
      clock: systemClock,
    })
  }
}
