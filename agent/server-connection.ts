import type { GrpcChannel } from '../src/transport/grpc-client.ts'

/** The identity an agent shows to its server. */
export interface ClientIdentity {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8 DER. */
  readonly privateKey: Uint8Array
}

export interface ConnectOptions {
  /** Absent during attestation. */
  readonly identity?: ClientIdentity
  /**
   * DER roots that the server's SVID must lead to; asked anew for each connection. `undefined`: insecure bootstrap, only the
   * server's SPIFFE ID is checked.
   */
  readonly roots: () => readonly Uint8Array[] | undefined
}

/** Opens a connection to the server that the agent is configured for; nothing goes out before the first call. */
export type ConnectToServer = (options: ConnectOptions) => Promise<GrpcChannel>

/** The time that any one call to the server may take. */
export const RPC_TIMEOUT_MS = 30_000
