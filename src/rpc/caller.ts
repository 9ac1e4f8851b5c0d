import type { Entry } from '../core/entry.ts'
import type { PeerProcess } from '../core/plugin.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'

/**
 * Who is on the other side, as the transport saw it. Transports decide this at the rim; nothing inside looks at a socket, a
 * header or a certificate again.
 */
export type Peer =
  | { readonly via: 'local'; readonly process?: PeerProcess }
  | { readonly via: 'anonymous'; readonly address: string }
  | {
      readonly via: 'x509'
      readonly address: string
      readonly spiffeId: SpiffeId
      /** Decimal serial number of the leaf. */
      readonly serialNumber: string
      /** notAfter of the leaf, Unix seconds. */
      readonly expiresAt: number
      /** The proxy that saw the certificate in a handshake, by its name in the configuration; absent: we saw the proof ourselves. */
      readonly front?: string
    }
  /** The holder of a WIT-SVID and its key: a workload, never an agent, of whose SVIDs the server knows the serial numbers. */
  | { readonly via: 'wit'; readonly address: string; readonly spiffeId: SpiffeId }
  /** A person or a program that the configuration knows, not an identity of the trust domain. */
  | {
      readonly via: 'operator'
      readonly address: string
      /** For logs: the thumbprint of the key, or issuer and subject of the token. */
      readonly name: string
      readonly proof: 'operator_key' | 'oidc'
    }

/** What the policy made of a peer for one call. */
export type Caller =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'local'; readonly process?: PeerProcess }
  /** `name` is a SPIFFE ID, or how the configuration knows an operator. */
  | { readonly kind: 'admin'; readonly name: string }
  | { readonly kind: 'agent'; readonly spiffeId: SpiffeId }
  | { readonly kind: 'downstream'; readonly spiffeId: SpiffeId; readonly entries: readonly Entry[] }

/** What somebody who proved who they are is called, in logs and where calls are counted; undefined for everybody else. */
export function nameOf(peer: Peer): string | undefined {
  return peer.via === 'x509' || peer.via === 'wit' ? peer.spiffeId : peer.via === 'operator' ? peer.name : undefined
}
