import type { Log } from '../core/log.ts'
import type { Caller, Peer } from './caller.ts'

/** The shape of ts-proto's message objects: what a table row names for its request and response. */
export interface MessageType<T> {
  encode(message: T, writer?: never): { finish(): Uint8Array }
  decode(bytes: Uint8Array | MessageReader): T
}

/** Reads the wire format for the generated code. */
export interface MessageReader {
  tag(): number
  skip(tag: number): void
}

/** One call in flight, as a service sees it. */
export interface Call {
  readonly peer: Peer
  readonly caller: Caller
  /** Aborted when the client went away, the deadline passed or the server stops. */
  readonly signal: AbortSignal
  /** True where TLS may have ended before this server, so that what is in the message may have been read. */
  readonly carried: boolean
  /** Carries service, method and caller fields. */
  readonly log: Log
  /** One value per metadata key, lower case names. */
  header(name: string): readonly string[]
  /** Keeps what is needed to go on after the next message, for transports that cannot hold a stream. */
  checkpoint(state: Uint8Array): void
  /** Set where a call goes on from a checkpoint: the requests are the first one and the one that was waited for. */
  readonly resumed: Uint8Array | undefined
  /**
   * Waits for `cost` tokens of this method's rate limit; does nothing for methods and callers without limit.
   * @throws StatusError RESOURCE_EXHAUSTED
   */
  limit(cost: number): Promise<void>
  /** True where audit is on: lets hot paths skip building fields. */
  readonly audited: boolean
  /** True if debug lines are written: lets hot paths skip building them. */
  readonly debugEnabled: boolean
  /** Fields of the request that the later audit lines of this call carry. */
  auditRequest(fields: AuditFields): void
  /** Adds one audit line's fields (per item in batch calls); written only where audit is on. */
  audit(fields: AuditFields, error?: Error): void
}

export type AuditFields = Readonly<Record<string, string | number | boolean>>

/** A stream that was written before: bytes go out as they are, so that they are encoded once for many streams. */
export class EncodedMessage {
  readonly bytes: Uint8Array
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }
}

export type MethodKind = 'unary' | 'server-stream' | 'bidi'

interface MethodBase<Deps, Req, Res> {
  /** `/package.Service/Method`. */
  readonly path: string
  readonly request: MessageType<Req>
  readonly response: MessageType<Res>
  /** Never called; keeps Deps in the type. */
  readonly deps?: (deps: Deps) => void
}

export interface UnaryMethod<Deps, Req, Res> extends MethodBase<Deps, Req, Res> {
  readonly kind: 'unary'
  handle(deps: Deps, request: Req, call: Call): Promise<Res | EncodedMessage>
}

export interface ServerStreamMethod<Deps, Req, Res> extends MethodBase<Deps, Req, Res> {
  readonly kind: 'server-stream'
  handle(deps: Deps, request: Req, call: Call): AsyncIterable<Res | EncodedMessage>
}

export interface BidiMethod<Deps, Req, Res> extends MethodBase<Deps, Req, Res> {
  readonly kind: 'bidi'
  handle(deps: Deps, requests: AsyncIterable<Req>, call: Call): AsyncIterable<Res | EncodedMessage>
}

export type Method<Deps> =
  // biome-ignore lint/suspicious/noExplicitAny: a table holds rows of many message types; each row is typed where it is made.
  UnaryMethod<Deps, any, any> | ServerStreamMethod<Deps, any, any> | BidiMethod<Deps, any, any>

/** Makes a typed row of a method table. */
export function unary<Deps, Req, Res>(row: Omit<UnaryMethod<Deps, Req, Res>, 'kind'>): UnaryMethod<Deps, Req, Res> {
  return { kind: 'unary', ...row }
}

export function serverStream<Deps, Req, Res>(
  row: Omit<ServerStreamMethod<Deps, Req, Res>, 'kind'>,
): ServerStreamMethod<Deps, Req, Res> {
  return { kind: 'server-stream', ...row }
}

export function bidi<Deps, Req, Res>(row: Omit<BidiMethod<Deps, Req, Res>, 'kind'>): BidiMethod<Deps, Req, Res> {
  return { kind: 'bidi', ...row }
}
