import type { Peer } from './caller.ts'
import type { MethodKind } from './method.ts'

/** What a transport knows of a call before anybody judged it. */
export interface IncomingCall {
  readonly peer: Peer
  readonly signal: AbortSignal
  header(name: string): readonly string[]
}

/**
 * A method ready to be called by a transport: bytes in, bytes out. `invoke` (authorize, limit, run, audit, normalise
 * errors) is already inside. Transports read this table and name no method.
 */
export interface BoundMethod {
  readonly path: string
  readonly kind: MethodKind
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
