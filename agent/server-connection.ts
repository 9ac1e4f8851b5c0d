import type { RemoteMethod } from './server-methods.ts'

export interface CallOptions {
  readonly timeoutMs: number
}

/** A stream in both directions. `messages` ends when the server does and throws its error. */
export interface BidiCall<Req, Res> {
  send(request: Req): void
  /** Half-close: nothing more will be sent. */
  end(): void
  readonly messages: AsyncIterableIterator<Res>
}

/** A connection to the server. Errors are StatusErrors; an unreachable or untrusted server is UNAVAILABLE with the reason. */
export interface ServerConnection {
  unary<Req, Res>(method: RemoteMethod<Req, Res>, request: Req, options: CallOptions): Promise<Res>
  bidi<Req, Res>(method: RemoteMethod<Req, Res>, options: CallOptions): BidiCall<Req, Res>
  close(): void
}

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
export type ConnectToServer = (options: ConnectOptions) => ServerConnection

/** The time that any one call to the server may take. */
export const RPC_TIMEOUT_MS = 30_000
