import type { Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type * as Grpc from '@grpc/grpc-js'
import { type LastHandshake, tlsErrorText } from './dial-error.ts'
import { hostPort } from './tcp-listener.ts'
import { peerChain, secureContextOf, type TlsIdentity } from './tls.ts'

export interface ClientTls {
  /** Our certificate and key for each new connection; undefined: none is sent. */
  identity?(): TlsIdentity | undefined
  /**
   * Judges the server by its chain (DER, leaf first) before a byte of HTTP/2 is sent. Its error's text becomes part of the
   * RPC's: `x509: certificate signed by unknown authority` is what agents look for.
   */
  verifyServer(chain: readonly Uint8Array[]): Promise<void> | void
  /** TLS 1.3 with post-quantum key exchange only (`require_pq_kem`). */
  readonly requirePqKem?: boolean
}

const HANDSHAKE_TIMEOUT_MS = 20_000

/**
 * Credentials for grpc-js that leave the verification to us: Node's own check knows no SPIFFE IDs and stops at the wrong
 * names. `last` keeps how the last handshake went; grpc-js only passes its text on in a sentence of its own.
 */
export function secureCredentials(grpc: typeof Grpc, tls: ClientTls, last: LastHandshake): Grpc.ChannelCredentials {
  class OwnCredentials extends grpc.ChannelCredentials {
    override _isSecure(): boolean {
      return true
    }
    override _equals(other: Grpc.ChannelCredentials): boolean {
      return this === other
    }
    override _createSecureConnector(
      _target: unknown,
      _options: unknown,
      callCredentials?: Grpc.CallCredentials,
    ): ReturnType<Grpc.ChannelCredentials['_createSecureConnector']> {
      return {
        async connect(socket: Socket) {
          last.stage = 'tls'
          try {
            const secured = await handshake(socket, tls)
            last.error = undefined
            last.stage = 'preface'
            return { socket: secured, secure: true }
          } catch (error) {
            last.error = error as Error
            throw error
          }
        },
        // Asked before each connection is dialled.
        async waitForReady() {
          last.stage = undefined
        },
        getCallCredentials: () => callCredentials ?? grpc.CallCredentials.createEmpty(),
        destroy() {},
      }
    }
  }
  return new OwnCredentials()
}

async function handshake(socket: Socket, tls: ClientTls): Promise<TLSSocket> {
  const { localAddress = '', localPort = 0, remoteAddress = '', remotePort = 0 } = socket
  const ends = { local: hostPort(localAddress, localPort), remote: hostPort(remoteAddress, remotePort) }
  const secured = await new Promise<TLSSocket>((resolve, reject) => {
    const pending = connectTls({
      socket,
      secureContext: secureContextOf(tls.identity?.(), tls.requirePqKem ?? false),
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
      // No server name: SPIFFE servers are known by their ID.
      checkServerIdentity: () => undefined,
    })
    const timer = setTimeout(() => pending.destroy(new Error('context deadline exceeded')), HANDSHAKE_TIMEOUT_MS)
    pending.once('close', () => {
      clearTimeout(timer)
      reject(new Error('EOF'))
    })
    // Stays: an error after the handshake must find a listener until HTTP/2 has its own.
    pending.on('error', (error) => reject(new Error(tlsErrorText(error, ends), { cause: error })))
    pending.once('secureConnect', () => {
      clearTimeout(timer)
      resolve(pending)
    })
  })
  try {
    const chain = peerChain(secured)
    if (chain.length === 0) throw new Error('tls: server sent no certificate')
    await tls.verifyServer(chain)
    if (secured.alpnProtocol !== 'h2') throw new Error('credentials: cannot check peer: missing selected ALPN property')
    if (secured.destroyed) throw new Error('EOF')
    return secured
  } catch (error) {
    secured.destroy()
    throw error
  }
}
