import type { Duplex } from 'node:stream'
import { createServer, type TLSSocket } from 'node:tls'
import { type Clock, epochSeconds } from '../core/clock.ts'
import { equalBytes } from '../core/der.ts'
import { certificatesFromPem, encodePem } from '../core/pem.ts'
import { BACKDATE_SECONDS, issuerOf, randomSerial, SVID_SUBJECT, signCertificate } from '../core/x509-svid.ts'
import { generateSigner } from '../plugins/signer.ts'
import { peerChain, type TlsIdentity } from '../transport/tls.ts'
import type { ClientTls } from '../transport/tls-client.ts'

const LIFETIME_SECONDS = 30 * 365 * 86400
const HANDSHAKE_TIMEOUT_MS = 10_000

/** Mutual TLS of one host and one plugin: each knows the other's certificate, and no other is let in. */
export interface AutoMtls {
  /** DER, for the host. */
  readonly certificate: Uint8Array
  /** Makes what takes connections; they are handed on if they are the host's. */
  acceptor(onHost: (socket: TLSSocket) => void, onStranger: (reason: Error) => void): (stream: Duplex) => void
  /** For calls to the host. */
  readonly client: ClientTls
}

/**
 * What go-plugin calls AutoMTLS.
 * @param hostCertificate PEM, `PLUGIN_CLIENT_CERT`
 * @throws Error if that is no certificate
 */
export async function autoMtls(hostCertificate: string, clock: Clock): Promise<AutoMtls> {
  const [expected] = certificatesFromPem(hostCertificate)
  if (!expected) throw new Error('PLUGIN_CLIENT_CERT holds no certificate')
  const identity = await ownIdentity(clock)
  const requireHost = (chain: readonly Uint8Array[]): void => {
    if (!chain[0] || !equalBytes(chain[0], expected)) throw new Error("the certificate is not the host's")
  }
  return {
    certificate: identity.certificates[0]!,
    client: { identity: () => identity, verifyServer: requireHost },
    acceptor(onHost, onStranger) {
      const server = createServer(
        {
          cert: encodePem('CERTIFICATE', identity.certificates[0]!),
          key: encodePem('PRIVATE KEY', identity.privateKey),
          minVersion: 'TLSv1.2',
          ca: [],
          requestCert: true,
          rejectUnauthorized: false,
          ALPNProtocols: ['h2'],
          handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
        },
        (socket) => {
          socket.on('error', () => {})
          try {
            requireHost(peerChain(socket))
          } catch (error) {
            onStranger(error as Error)
            socket.destroy()
            return
          }
          onHost(socket)
        },
      )
      server.on('tlsClientError', (error, socket) => {
        onStranger(error)
        socket.destroy()
      })
      return (stream) => server.emit('connection', stream)
    },
  }
}

/** A certificate for `localhost` that signs itself: hosts know it by its bytes. */
async function ownIdentity(clock: Clock): Promise<TlsIdentity> {
  const signer = await generateSigner('ec-p256')
  const now = epochSeconds(clock)
  const certificate = await signCertificate(
    {
      kind: 'svid',
      serial: randomSerial((bytes) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)),
      subject: SVID_SUBJECT,
      spki: signer.publicKey,
      notBefore: now - BACKDATE_SECONDS,
      notAfter: now + LIFETIME_SECONDS,
      uri: 'https://localhost',
      dnsNames: ['localhost'],
    },
    issuerOf(signer, SVID_SUBJECT),
  )
  return { certificates: [certificate], privateKey: signer.exportPrivateKey() }
}
