import { errorMessage, StatusError } from '../core/error.ts'
import type { Log, LogFields } from '../core/log.ts'
import { auditOutcome } from './audit.ts'
import { type Caller, nameOf, type Peer } from './caller.ts'
import {
  type AuditFields,
  type Call,
  EncodedMessage,
  type MessageReader,
  type MessageType,
  type Method,
} from './method.ts'
import { addressWithoutPort, type RateLimiter } from './rate-limit.ts'
import type { BoundMethod, BoundService, IncomingCall } from './service.ts'

/** Who the policy says the caller is; `as` and `via` are for the log. */
export interface Verdict {
  readonly caller: Caller
  readonly as: string
  readonly via: string
}

/** What happens around every method. */
export interface Pipeline<Deps> {
  /** Decides who the caller is for one method. `logger.log` is made when it is first read. */
  authorize(deps: Deps, path: string, call: IncomingCall, logger: { readonly log: Log }): Verdict | Promise<Verdict>
  /** @see BoundMethod.requestLimit; default no limit of its own */
  requestLimit?(path: string, peer: Peer): number | undefined
  /** What the message of a caller is read from, so that it becomes only so many objects; default its bytes. */
  reader?(bytes: Uint8Array, caller: Caller): Uint8Array | MessageReader
  /** The rate limit of a method; asked once per method, when it is bound. */
  limiterOf(path: string): RateLimiter | undefined
  readonly auditEnabled: boolean
  readonly log: Log
  newRequestId(): string
}

/** Makes a table of methods callable by transports. */
export function bindService<Deps>(
  methods: readonly Method<Deps>[],
  deps: Deps,
  pipeline: Pipeline<Deps>,
): BoundService {
  const bound = new Map<string, BoundMethod>()
  const services = new Set<string>()
  for (const method of methods) {
    bound.set(method.path, new Invocation(method, deps, pipeline))
    services.add(method.path.slice(1, method.path.lastIndexOf('/')))
  }
  return { methods: bound, services }
}

/** `entry.v1.Entry` for `/spire.api.server.entry.v1.Entry/ListEntries`: the service as SPIRE's logs name it. */
function shortServiceName(path: string): string {
  const service = path.slice(1, path.lastIndexOf('/'))
  const short = service.startsWith(SERVER_PREFIX) ? service.slice(SERVER_PREFIX.length) : service
  return BARE_NAMES[short] ?? short
}

const SERVER_PREFIX = 'spire.api.server.'
const BARE_NAMES: Readonly<Record<string, string>> = {
  'grpc.health.v1.Health': 'Health',
  'logger.v1.Logger': 'Logger',
  'spire.api.agent.logger.v1.Logger': 'Logger',
  'spire.agent.debug.v1.Debug': 'Debug',
  'spire.api.agent.delegatedidentity.v1.DelegatedIdentity': 'DelegatedIdentity',
  SpiffeWorkloadAPI: 'WorkloadAPI',
  'envoy.service.secret.v3.SecretDiscoveryService': 'SDS.v3',
}

class Invocation<Deps> implements BoundMethod {
  readonly path: string
  readonly kind: Method<Deps>['kind']
  readonly #method: Method<Deps>
  readonly #deps: Deps
  readonly pipeline: Pipeline<Deps>
  readonly limiter: RateLimiter | undefined
  readonly logFields: LogFields

  constructor(method: Method<Deps>, deps: Deps, pipeline: Pipeline<Deps>) {
    this.path = method.path
    this.kind = method.kind
    this.#method = method
    this.#deps = deps
    this.pipeline = pipeline
    this.limiter = pipeline.limiterOf(method.path)
    this.logFields = {
      service: shortServiceName(method.path),
      method: method.path.slice(method.path.lastIndexOf('/') + 1),
    }
  }

  requestLimit(peer: Peer): number | undefined {
    return this.pipeline.requestLimit?.(this.path, peer)
  }

  /** Who calls is known before a byte of the message is looked at. */
  async unary(bytes: Uint8Array, incoming: IncomingCall): Promise<Uint8Array> {
    const method = this.#method
    if (method.kind !== 'unary') throw new StatusError('UNIMPLEMENTED', `method ${this.path} is a stream`)
    const call = new CallInFlight(this, incoming)
    try {
      const verdict = this.pipeline.authorize(this.#deps, this.path, incoming, call)
      call.verdict = verdict instanceof Promise ? await verdict : verdict
      if (!this.limiter) await incoming.admit?.()
      const request = call.read(method.request, bytes, UNARY_COMPLAINT)
      const response = await method.handle(this.#deps, request, call)
      return response instanceof EncodedMessage ? response.bytes : method.response.encode(response).finish()
    } catch (error) {
      throw call.failed(error)
    }
  }

  async *stream(requests: AsyncIterable<Uint8Array>, incoming: IncomingCall): AsyncIterable<Uint8Array> {
    const method = this.#method
    if (method.kind === 'unary') throw new StatusError('UNIMPLEMENTED', `method ${this.path} is not a stream`)
    const call = new CallInFlight(this, incoming)
    try {
      const verdict = this.pipeline.authorize(this.#deps, this.path, incoming, call)
      call.verdict = verdict instanceof Promise ? await verdict : verdict
      if (!this.limiter) await incoming.admit?.()
      const responses =
        method.kind === 'bidi'
          ? method.handle(this.#deps, decodeEach(method.request, requests, call), call)
          : method.handle(this.#deps, await only(method.request, requests, call), call)
      for await (const response of responses) {
        yield response instanceof EncodedMessage ? response.bytes : method.response.encode(response).finish()
      }
    } catch (error) {
      throw call.failed(error)
    }
  }
}

const NOBODY: Verdict = { caller: { kind: 'anonymous' }, as: 'nobody', via: '' }

// biome-ignore lint/suspicious/noExplicitAny: the call does not look at the services' dependencies.
type AnyInvocation = Invocation<any>

class CallInFlight implements Call {
  readonly peer: Peer
  readonly carried: boolean
  readonly #invocation: AnyInvocation
  readonly #incoming: IncomingCall
  #verdict = NOBODY
  #judged = false
  #log: Log | undefined
  #requestFields: AuditFields | undefined

  constructor(invocation: AnyInvocation, incoming: IncomingCall) {
    this.#invocation = invocation
    this.#incoming = incoming
    this.peer = incoming.peer
    this.carried = incoming.carried ?? false
  }

  set verdict(verdict: Verdict) {
    this.#verdict = verdict
    this.#judged = true
    this.#log = undefined
  }

  get caller(): Caller {
    return this.#verdict.caller
  }

  /** Transports make it when it is asked for, and most calls end without. */
  get signal(): AbortSignal {
    return this.#incoming.signal
  }

  get audited(): boolean {
    return this.#invocation.pipeline.auditEnabled
  }

  get debugEnabled(): boolean {
    return this.#invocation.pipeline.log.debugEnabled
  }

  /** Made at the first line: most calls write none, and a child log is dearer than the rest of this file. */
  get log(): Log {
    this.#log ??= this.#invocation.pipeline.log.child(this.#logFields())
    return this.#log
  }

  header(name: string): readonly string[] {
    return this.#incoming.header(name)
  }

  checkpoint(state: Uint8Array): void {
    this.#incoming.checkpoint?.(state)
  }

  get resumed(): Uint8Array | undefined {
    return this.#incoming.resumed
  }

  async limit(cost: number): Promise<void> {
    const limiter = this.#invocation.limiter
    if (limiter === undefined || this.peer.via === 'local') return
    await limiter.take(this.#incoming.limitKey ?? addressWithoutPort(this.peer.address), cost, this)
    // What is written down for a caller is within their limit.
    await this.#incoming.admit?.()
  }

  /** @throws StatusError for what is no message or has too many fields for this caller; with grpc-go's code and text if it says no other */
  read<T>(type: MessageType<T>, message: Uint8Array, complaint: string): T {
    const { reader } = this.#invocation.pipeline
    const bytes = this.#incoming.toProtobuf?.(message) ?? message
    try {
      return type.decode(reader ? reader(bytes, this.caller) : bytes)
    } catch (cause) {
      // Whatever else it threw is a bug.
      if (!(cause instanceof SyntaxError)) throw cause
      const { code, text } = this.#incoming.unreadable ?? { code: 'INTERNAL', text: complaint }
      throw new StatusError(code, `${text}: ${cause.message}`, { cause })
    }
  }

  auditRequest(fields: AuditFields): void {
    if (this.audited) this.#requestFields = { ...this.#requestFields, ...fields }
  }

  audit(fields: AuditFields, error?: Error): void {
    if (this.audited) this.log.info('API accessed', { ...auditOutcome(error), ...this.#requestFields, ...fields })
  }

  /** What leaves the process for whatever was thrown: a bug never takes its text along. */
  failed(error: unknown): StatusError {
    let status: StatusError
    if (error instanceof StatusError) status = error
    else if (this.signal.aborted) status = new StatusError('CANCELLED', 'context canceled', { cause: error })
    else {
      this.log.error('Unexpected error', {
        error: errorMessage(error),
        stack: error instanceof Error ? error.stack : undefined,
      })
      status = new StatusError('INTERNAL', 'internal error', { cause: error })
    }
    // Only calls that got past the policy are audited, as in SPIRE.
    if (this.#judged) this.audit({}, status)
    return status
  }

  #logFields(): LogFields {
    const peer = this.peer
    const fields: Record<string, string | number> = { ...this.#invocation.logFields } as Record<string, string>
    fields.request_id = this.#invocation.pipeline.newRequestId()
    if (peer.via === 'local') {
      if (this.audited && peer.process !== undefined) {
        fields.caller_uid = peer.process.uid
        fields.caller_gid = peer.process.gid
      }
    } else {
      fields.caller_addr = peer.address
      const name = nameOf(peer)
      if (name !== undefined) fields.caller_id = name
      if (peer.via === 'x509' && peer.front !== undefined) fields.caller_front = peer.front
    }
    fields.authorized_as = this.#verdict.as
    fields.authorized_via = this.#verdict.via
    return fields
  }
}

const UNARY_COMPLAINT = 'grpc: error unmarshalling request'
const STREAM_COMPLAINT = 'grpc: failed to unmarshal the received message'

async function* decodeEach<T>(
  type: MessageType<T>,
  requests: AsyncIterable<Uint8Array>,
  call: CallInFlight,
): AsyncIterable<T> {
  for await (const bytes of requests) yield call.read(type, bytes, STREAM_COMPLAINT)
}

/** The one request of a server stream. Like grpc-go it waits for the end of the requests. */
async function only<T>(type: MessageType<T>, requests: AsyncIterable<Uint8Array>, call: CallInFlight): Promise<T> {
  let request: T | undefined
  for await (const bytes of requests) {
    if (request !== undefined) throw cardinalityViolation('received multiple request messages for')
    request = call.read(type, bytes, STREAM_COMPLAINT)
  }
  if (request === undefined) throw cardinalityViolation('received no request message from')
  return request
}

function cardinalityViolation(what: string): StatusError {
  return new StatusError('INTERNAL', `cardinality violation: ${what} non-client-streaming RPC`)
}
