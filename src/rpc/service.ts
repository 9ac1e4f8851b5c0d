import type { StatusCode } from '../core/error.ts'
import type { Peer } from './caller.ts'
import type { MethodKind } from './method.ts'

/** What a transport knows of a call before anybody judged it. */
export interface IncomingCall {
  readonly peer: Peer
  readonly signal: AbortSignal
  /** True where TLS may have ended before this server, so that what is in the message may have been read. */
  readonly carried?: boolean
  /** Whose calls share a rate limit; default the address of the peer. */
  readonly limitKey?: string
  header(name: string): readonly string[]
  /** Makes protobuf of a message that came in another form; only done for callers who may call. @throws StatusError */
  toProtobuf?(message: Uint8Array): Uint8Array
  /** What a message that cannot be read is answered with; default as grpc-go. */
  readonly unreadable?: { readonly code: StatusCode; readonly text: string }
  /** What is to be done once the caller may make the call, and before it is made. @throws StatusError if it may not after all */
  admit?(): Promise<void>
  /**
   * Transports without streams: keeps what a handler needs to go on when the next message of the client comes with another
   * request. The last call before the handler waits counts.
   */
  checkpoint?(state: Uint8Array): void
  /** What the handler kept at its checkpoint; the client's messages are the first one and the one waited for. */
  readonly resumed?: Uint8Array
}

/**
 * A method ready to be called by a transport: bytes in, bytes out. `invoke` (authorize, limit, run, audit, normalise
 * errors) is already inside. Transports read this table and name no method.
 */
export interface BoundMethod {
  readonly path: string
  readonly kind: MethodKind
  /**
   * How long a message of this peer may be, bytes; undefined: as long as any. 0: it may not call at all, and calling the method with nothing
   * says so; its message is not worth reading.
   */
  requestLimit?(peer: Peer): number | undefined
  /** kind 'unary'. Rejects with a StatusError only. */
  unary(request: Uint8Array, call: IncomingCall): Promise<Uint8Array>
  /** kinds 'server-stream' and 'bidi'. Ends or throws a StatusError; return() on it means the client left. */
  stream(requests: AsyncIterable<Uint8Array>, call: IncomingCall): AsyncIterable<Uint8Array>
}

/** Methods by path. `services` are the full service names present, for "unknown service" against "unknown method". */
export interface BoundService {
  readonly methods: ReadonlyMap<string, BoundMethod>
  readonly services: ReadonlySet<string>
}
