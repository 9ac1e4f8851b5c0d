import { constants } from 'node:crypto'
import type { Socket } from 'node:net'
import { createSecureContext, createServer, type SecureContext, type TLSSocket } from 'node:tls'
import { type Clock, systemClock } from '../core/clock.ts'
import { countedLog } from '../core/counted-log.ts'
import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'
import type { Peer } from '../rpc/caller.ts'
import { CIPHERS, GROUPS, NO_PQ_GROUPS, PQ_GROUPS } from './runtime.ts'
import { type SharedBoundOptions, sharedBound } from './shared-bound.ts'
import { clientAddress, hostPort, listenTcp, networkOf } from './tcp-listener.ts'
import type { Listener } from './unix-socket.ts'

/** A certificate chain, leaf first, and the leaf's key. */
export interface TlsIdentity {
  readonly certificates: readonly Uint8Array[]
  /** PKCS#8, DER. */
  readonly privateKey: Uint8Array
}

export interface TlsListenerOptions {
  readonly host: string
  readonly port: number
  readonly identity: TlsIdentity
  readonly log: Log
  /** TLS 1.3 with post-quantum key exchange only (`require_pq_kem`). */
  readonly requirePqKem?: boolean
  /** A handshake that takes longer is dropped; default 10 s. */
  readonly handshakeTimeoutMs?: number
  /** Connections at once; default 20000. */
  readonly maxConnections?: number
  /** Connections of peers that are not known (yet): handshakes under way, and anonymous ones; default 2048 of one network, 4096 in all. */
  readonly strangers?: SharedBoundOptions
  /** Counts refused connections, so that they do not fill the log. */
  readonly clock?: Clock
  /** Judges a client's chain (DER, leaf first) before HTTP/2 starts; throws if it is not valid. */
  verifyPeer(chain: readonly Uint8Array[]): Promise<VerifiedPeer>
  /** Gets every connection whose peer is anonymous or verified. */
  onConnection(socket: TLSSocket, peer: Peer): void
}

export interface VerifiedPeer {
  readonly spiffeId: SpiffeId
  /** Decimal. */
  readonly serialNumber: string
  /** Unix seconds. */
  readonly expiresAt: number
}

export interface TlsListener extends Listener {
  readonly port: number
  /** New handshakes use this identity; open connections keep theirs. */
  setIdentity(identity: TlsIdentity): void
}

/** A chain longer than this is cut; path validation refuses it. */
const MAX_CHAIN = 16

/**
 * TLS as SPIRE's TCP listener speaks it: 1.2 or newer, ALPN h2 only, a client certificate asked for but never required, no CA
 * names, no session resumption (a resumed session would skip the check against the current bundle; Deno resumes all the same, but
 * with the chain of the first handshake, which is verified here each time).
 */
export async function listenTls(options: TlsListenerOptions): Promise<TlsListener> {
  const { log } = options
  const refusals = countedLog(log, { clock: options.clock ?? systemClock })
  const sums = setInterval(refusals.sumUp, 60_000).unref()
  const strangers = sharedBound<string>(options.strangers ?? { perHolder: 2048, inAll: 4096 })
  /** What ends the counting of a connection as one of a stranger, by its remote address and port. */
  const becomeKnown = new Map<string, () => void>()
  const refuse = (socket: Socket, reason: string): void => {
    const address = addressOf(socket)
    refusals
      .of({ caller_network: networkOf(clientAddress(socket)) })
      .warn('Connection refused', { address, error: reason })
    socket.destroy()
  }
  const server = createServer(
    {
      ...contextOptions(options.identity, options.requirePqKem ?? false),
      ALPNProtocols: ['h2'],
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: options.handshakeTimeoutMs ?? 10_000,
    },
    (socket) => {
      socket.on('error', () => {})
      const known = becomeKnown.get(addressOf(socket))
      if (known !== undefined) socket.once('close', known)
      identify(socket, options).then(
        (peer) => {
          if (socket.destroyed) return
          if (peer.via !== 'anonymous') known?.()
          options.onConnection(socket, peer)
        },
        (error) => refuse(socket, errorMessage(error)),
      )
    },
  )
  server.maxConnections = options.maxConnections ?? 20_000
  server.on('connection', (socket: Socket) => {
    const address = addressOf(socket)
    const network = networkOf(clientAddress(socket))
    if (!strangers.take(network)) {
      refuse(socket, 'too many connections of unknown peers are open')
      return
    }
    const known = (): void => {
      if (becomeKnown.get(address) !== known) return
      becomeKnown.delete(address)
      strangers.give(network)
    }
    becomeKnown.set(address, known)
    socket.once('close', known)
    socket.setNoDelay(true)
    // A dead client must not hold its streams for ever; Go's listeners probe at this rate.
    socket.setKeepAlive(true, 15_000)
  })
  server.on('tlsClientError', (error, socket) => {
    log.debug('TLS handshake failed', { error: errorMessage(error) })
    socket.destroy()
  })
  const { text: address, port } = await listenTcp(server, options.host, options.port)
  // accept() can fail when descriptors run out; the listener stays.
  server.on('error', (error) => log.error('Listener failed', { error: errorMessage(error) }))
  return {
    address,
    port,
    setIdentity: (identity) => server.setSecureContext(contextOptions(identity, options.requirePqKem ?? false)),
    close: () =>
      new Promise((resolve) => {
        clearInterval(sums)
        refusals.sumUp()
        server.close()
        setImmediate(resolve)
      }),
  }
}

/**
 * The chain a peer sent, DER, leaf first; empty without certificate. Node ends it with a certificate that issues itself, so
 * the walk needs a guard. Node 26.8 lost chains on servers (nodejs/node#65579); use 26.10 or 24.
 */
export function peerChain(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = []
  const seen = new Set<string>()
  let certificate = socket.getPeerCertificate(true)
  while (certificate?.raw !== undefined && chain.length < MAX_CHAIN && !seen.has(certificate.fingerprint256)) {
    seen.add(certificate.fingerprint256)
    chain.push(certificate.raw)
    certificate = certificate.issuerCertificate
  }
  return chain
}

/** A context with or without an identity, under the same rules on both sides of a connection. */
export function secureContextOf(identity: TlsIdentity | undefined, requirePqKem: boolean): SecureContext {
  return createSecureContext(contextOptions(identity, requirePqKem))
}

async function identify(socket: TLSSocket, options: TlsListenerOptions): Promise<Peer> {
  const address = addressOf(socket)
  // A client that offers no ALPN at all is not refused by OpenSSL.
  if (socket.alpnProtocol !== 'h2') throw new Error('client does not speak h2')
  const chain = peerChain(socket)
  if (chain.length === 0) return { via: 'anonymous', address }
  const { spiffeId, serialNumber, expiresAt } = await options.verifyPeer(chain)
  return { via: 'x509', address, spiffeId, serialNumber, expiresAt }
}

function addressOf(socket: Socket): string {
  return hostPort(clientAddress(socket), socket.remotePort ?? 0)
}

function contextOptions(identity: TlsIdentity | undefined, requirePqKem: boolean) {
  if (requirePqKem && PQ_GROUPS === undefined) throw new Error(NO_PQ_GROUPS)
  return {
    // An empty list keeps Node from loading the public roots, which have no say here, and from sending CA names.
    ca: [],
    minVersion: requirePqKem ? ('TLSv1.3' as const) : ('TLSv1.2' as const),
    secureOptions: constants.SSL_OP_NO_TICKET,
    ciphers: CIPHERS,
    honorCipherOrder: true,
    ecdhCurve: requirePqKem ? PQ_GROUPS! : GROUPS,
    ...(identity === undefined
      ? {}
      : {
          cert: identity.certificates.map((der) => pem('CERTIFICATE', der)).join(''),
          key: pem('PRIVATE KEY', identity.privateKey),
        }),
  }
}

function pem(label: string, der: Uint8Array): string {
  const base64 = Buffer.from(der)
    .toString('base64')
    .replace(/.{1,64}/g, '$&\n')
  return `-----BEGIN ${label}-----\n${base64}-----END ${label}-----\n`
}
