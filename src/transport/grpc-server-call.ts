import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { Peer } from '../rpc/caller.ts'
import type { BoundMethod, BoundService, IncomingCall } from '../rpc/service.ts'
import { type ByteBudget, tooManyStrangers } from './byte-budget.ts'
import { FrameReader, frameMessage, isKnownEncoding, PREFIX_BYTES, unknownEncoding } from './grpc-frame.ts'
import { parseGrpcTimeout, statusTrailers, toStatusError } from './grpc-status.ts'
import { inflate } from './gzip.ts'

export interface CallContext {
  readonly service: BoundService
  readonly log: Log
  readonly maxMessageBytes: number
  /** What requests of anonymous peers may hold together. */
  readonly strangers: ByteBudget
}

const CONTENT_TYPE = 'application/grpc'
const RESPONSE_HEADERS = { ':status': 200, 'content-type': CONTENT_TYPE }
/** An answer has the subtype of its request, whatever that is: messages are protobuf. */
function responseHeaders(type: string | undefined) {
  const subtype = type === CONTENT_TYPE ? undefined : /^application\/grpc(\+[\w.-]{1,64})/.exec(type ?? '')?.[1]
  return subtype === undefined ? RESPONSE_HEADERS : { ...RESPONSE_HEADERS, 'content-type': CONTENT_TYPE + subtype }
}
const WITH_TRAILERS = { waitForTrailers: true }
const NOTHING = new Uint8Array(0)
const OK_TRAILERS = { 'grpc-status': '0' }
/** Bun ends the streams of a session that is destroyed properly, with the trailers there are: no call may look finished that is not. */
const CUT_TRAILERS = statusTrailers(new StatusError('UNAVAILABLE', 'the connection was closed'))
/** How long a client may leave its side of a stream open after the answer. */
const LINGERING_MS = 1_000
/** setTimeout's longest; a later deadline is none. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** One HTTP/2 stream as a gRPC call. Whatever happens in it ends here and never reaches the process. */
export class ServerCall implements IncomingCall {
  readonly peer: Peer
  readonly #context: CallContext
  readonly #stream: ServerHttp2Stream
  readonly #headers: IncomingHttpHeaders
  readonly #open: Set<ServerCall>
  #method: BoundMethod | undefined
  #reader: FrameReader | undefined
  #controller: AbortController | undefined
  #aborted = false
  #finished = false
  #started = false
  /** Of the budget of strangers. */
  #heldBytes = 0
  #deadline: NodeJS.Timeout | undefined
  #lingering: NodeJS.Timeout | undefined
  #trailers: Record<string, string> = CUT_TRAILERS
  #requests: MessageQueue | undefined
  #responses: AsyncIterator<Uint8Array> | undefined

  constructor(
    context: CallContext,
    peer: Peer,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    open: Set<ServerCall>,
  ) {
    this.peer = peer
    this.#context = context
    this.#stream = stream
    this.#headers = headers
    this.#open = open
    open.add(this)
    // A reset or a protocol error also emits 'close', where the call is cleaned up.
    stream.on('error', () => {})
    stream.once('close', () => this.#onClose())
  }

  /** Made when first asked for: most unary calls never look at it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#aborted) this.#controller.abort()
    }
    return this.#controller.signal
  }

  header(name: string): readonly string[] {
    const value = this.#headers[name]
    if (value === undefined) return []
    // Node joins repeated fields with a comma and a space; a metadata value may be one of several.
    return Array.isArray(value) ? value : value.split(', ')
  }

  start(requestEnded: boolean): void {
    // It may have waited for its turn.
    if (this.#finished) return
    const stream = this.#stream
    try {
      this.#method = this.#admit()
    } catch (error) {
      this.fail(toStatusError(error))
      return
    }
    if (this.#method === undefined) return
    const limit = this.#method.requestLimit?.(this.peer)
    if (limit === 0) {
      this.#refuseUnread(this.#method)
      return
    }
    this.#reader = new FrameReader({
      maxMessageBytes: Math.min(limit ?? Number.POSITIVE_INFINITY, this.#context.maxMessageBytes),
      encoding: this.#headers['grpc-encoding'] as string | undefined,
      inflate,
    })
    if (this.#method.kind !== 'unary') this.#startStream(this.#method)
    if (requestEnded) {
      this.#onEnd()
      return
    }
    stream.on('data', (piece: Uint8Array) => this.#onData(piece))
    stream.once('end', () => this.#onEnd())
  }

  /** Ends a server stream of a stopping server; other calls go on. */
  endSubscription(): void {
    if (this.#lingering !== undefined) this.#reset()
    else if (this.#method?.kind === 'server-stream') this.fail(stopping())
  }

  /** Tells the handler that nobody waits any more. */
  abort(): void {
    if (this.#aborted) return
    this.#aborted = true
    this.#controller?.abort()
    this.#requests?.fail(new StatusError('CANCELLED', 'context canceled'))
    const returned = this.#responses?.return?.()
    // The handler's own clean-up may throw; there is nobody left to tell.
    returned?.then(undefined, () => {})
  }

  /** Ends the call with an error: trailers only if nothing was sent. */
  fail(error: StatusError): void {
    if (this.#finished) return
    this.#finish()
    const stream = this.#stream
    if (!stream.destroyed && !stream.closed) {
      if (!stream.headersSent) {
        stream.respond(
          { ...responseHeaders(this.#headers['content-type']), ...statusTrailers(error) },
          { endStream: true },
        )
        this.#stopUpload()
      } else if (stream.writableNeedDrain) {
        // The client does not read, so trailers would wait for ever.
        stream.close(constants.NGHTTP2_CANCEL)
      } else {
        this.#trailers = statusTrailers(error)
        stream.end()
      }
    }
    this.abort()
  }

  /** @returns undefined if the request was answered with an HTTP status */
  #admit(): BoundMethod | undefined {
    const headers = this.#headers
    const type = headers['content-type']
    if (type !== CONTENT_TYPE && !/^application\/grpc[+;]/.test(type ?? '')) {
      this.#refuse(
        415,
        new StatusError('INVALID_ARGUMENT', `invalid gRPC request content-type ${JSON.stringify(type ?? '')}`),
      )
      return undefined
    }
    if (headers[':method'] !== 'POST') {
      const text = `Received a HEADERS frame with :method ${JSON.stringify(headers[':method'])} which should be POST`
      this.#refuse(405, new StatusError('INTERNAL', text))
      return undefined
    }
    const path = headers[':path'] ?? ''
    const { methods, services } = this.#context.service
    const method = methods.get(path)
    if (method === undefined) throw unknownPath(path, services)
    const encoding = headers['grpc-encoding']
    if (encoding !== undefined && !isKnownEncoding(String(encoding))) throw unknownEncoding(String(encoding))
    const timeout = headers['grpc-timeout']
    if (timeout !== undefined) {
      const timeoutMs = parseGrpcTimeout(String(timeout))
      if (timeoutMs === undefined) {
        this.#refuse(400, new StatusError('INTERNAL', `malformed grpc-timeout: ${JSON.stringify(String(timeout))}`))
        return undefined
      }
      this.#setDeadline(timeoutMs)
    }
    return method
  }

  #setDeadline(timeoutMs: number): void {
    if (timeoutMs > MAX_TIMER_MS) return
    // Node keeps one list per duration: rounding up lets thousands of 30 s deadlines share one. The client has its own clock.
    const rounded = timeoutMs > 1000 ? Math.ceil(timeoutMs / 100) * 100 : Math.ceil(timeoutMs)
    this.#deadline = setTimeout(
      () => this.fail(new StatusError('DEADLINE_EXCEEDED', 'context deadline exceeded')),
      rounded,
    )
  }

  /** The method says why, in its own words and with its own line in the log. */
  #refuseUnread(method: BoundMethod): void {
    if (method.kind === 'unary') {
      method.unary(NOTHING, this).then(
        (response) => this.#succeed(response),
        (error) => this.#failLogged(error),
      )
    } else {
      this.#startStream(method)
      this.#requests!.end()
    }
  }

  #onData(piece: Uint8Array): void {
    // What comes after the one request of a unary call is not looked at, as in grpc-go.
    if (this.#finished || this.#started) return
    const reader = this.#reader!
    try {
      if (this.peer.via === 'anonymous') this.#holdOf(piece.length)
      reader.push(piece)
      for (let message = reader.next(); message !== undefined; message = reader.next()) {
        // What a small one inflates to is held as well.
        if (this.peer.via === 'anonymous' && this.#headers['grpc-encoding'] === 'gzip') this.#holdOf(message.length)
        this.#onMessage(message)
        if (this.#started) return
      }
    } catch (error) {
      this.fail(toStatusError(error))
    }
  }

  /** @throws StatusError UNAVAILABLE if strangers hold too much already */
  #holdOf(bytes: number): void {
    if (!this.#context.strangers.take(bytes)) throw tooManyStrangers()
    this.#heldBytes += bytes
  }

  #onMessage(message: Uint8Array): void {
    if (this.#requests !== undefined) {
      // Not read yet: the flow-control window holds the client back.
      if (this.#requests.push(message)) this.#stream.pause()
      return
    }
    this.#started = true
    this.#method!.unary(message, this).then(
      (response) => this.#succeed(response),
      (error) => this.#failLogged(error),
    )
  }

  /** What is missing is told with the codes and the words of grpc-go. */
  #onEnd(): void {
    if (this.#finished || this.#started) return
    const isUnary = this.#requests === undefined
    if (this.#reader!.unreadBytes >= PREFIX_BYTES) {
      this.fail(new StatusError(isUnary ? 'UNKNOWN' : 'INTERNAL', 'unexpected EOF'))
    } else if (isUnary) this.fail(new StatusError('UNKNOWN', 'EOF'))
    else this.#requests!.end()
  }

  #succeed(response: Uint8Array): void {
    if (this.#finished) return
    const stream = this.#stream
    if (stream.destroyed || stream.closed) return
    this.#finish()
    this.#trailers = OK_TRAILERS
    this.#respond()
    stream.end(frameMessage(response))
  }

  #startStream(method: BoundMethod): void {
    const requests = new MessageQueue(() => this.#stream.resume())
    this.#requests = requests
    this.#pump(method, requests).then(undefined, (error) => this.#failLogged(error))
  }

  async #pump(method: BoundMethod, requests: MessageQueue): Promise<void> {
    const stream = this.#stream
    const responses = method.stream(requests, this)[Symbol.asyncIterator]()
    this.#responses = responses
    for (let step = await responses.next(); !step.done; step = await responses.next()) {
      if (this.#finished || stream.destroyed) return
      if (!stream.headersSent) this.#respond()
      if (!stream.write(frameMessage(step.value))) await drained(stream)
    }
    if (this.#finished || stream.destroyed) return
    this.#finish()
    this.#trailers = OK_TRAILERS
    if (!stream.headersSent) this.#respond()
    stream.end()
  }

  #respond(): void {
    const stream = this.#stream
    stream.respond(responseHeaders(this.#headers['content-type']), WITH_TRAILERS)
    stream.once('wantTrailers', () => {
      stream.sendTrailers(this.#trailers)
      if (this.#trailers === OK_TRAILERS) this.#awaitEnd()
      else this.#stopUpload()
    })
  }

  /**
   * Leaves it to the client to end its side after the last answer, which every gRPC client does once it has seen the trailers: a reset of
   * ours is one more frame, and one more write, for each call. Who goes on sending is reset all the same.
   */
  #awaitEnd(): void {
    const stream = this.#stream
    if (stream.readableEnded) return
    this.#lingering = setTimeout(() => this.#reset(), LINGERING_MS).unref()
    stream.resume()
  }

  /** Frees the stream of a client that goes on sending after it was refused. */
  #stopUpload(): void {
    const stream = this.#stream
    if (stream.readableEnded) return
    // A well-behaved client's end of stream is already on its way up; only then would a reset be one frame too many.
    setImmediate(() => this.#reset())
    stream.resume()
  }

  #reset(): void {
    const stream = this.#stream
    if (!stream.readableEnded && !stream.destroyed) stream.close(constants.NGHTTP2_NO_ERROR)
  }

  #refuse(status: number, error: StatusError): void {
    this.#finish()
    this.#stream.respond({ ...RESPONSE_HEADERS, ':status': status, ...statusTrailers(error) }, { endStream: true })
    this.#stopUpload()
  }

  #failLogged(error: unknown): void {
    if (!(error instanceof StatusError) && !this.#finished) {
      this.#context.log.error('Call failed unexpectedly', { error: errorMessage(error) })
    }
    this.fail(toStatusError(error))
  }

  #finish(): void {
    this.#finished = true
    if (this.#deadline !== undefined) clearTimeout(this.#deadline)
  }

  #onClose(): void {
    this.#open.delete(this)
    this.#context.strangers.give(this.#heldBytes)
    this.#heldBytes = 0
    clearTimeout(this.#lingering)
    if (this.#finished) {
      // Nobody waits for a handler that has returned, but something it left behind may wait for more.
      this.#requests?.end()
      return
    }
    this.#finish()
    this.abort()
  }
}

/** Requests of a stream on their way to the handler: at most a few wait, the rest stays in the client. */
class MessageQueue implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  readonly #waiting: Uint8Array[] = []
  readonly #resume: () => void
  #reader: { resolve(step: IteratorResult<Uint8Array>): void; reject(error: unknown): void } | undefined
  #error: StatusError | undefined
  #ended = false

  constructor(resume: () => void) {
    this.#resume = resume
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this
  }

  /** @returns true if the sender should pause */
  push(message: Uint8Array): boolean {
    if (this.#reader !== undefined) {
      this.#reader.resolve({ value: message, done: false })
      this.#reader = undefined
      return false
    }
    return this.#waiting.push(message) >= 4
  }

  end(): void {
    this.#ended = true
    this.#reader?.resolve({ value: undefined, done: true })
    this.#reader = undefined
  }

  fail(error: StatusError): void {
    if (this.#ended) return
    this.#error = error
    this.#reader?.reject(error)
    this.#reader = undefined
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const message = this.#waiting.shift()
    if (message !== undefined) {
      if (this.#waiting.length === 0) this.#resume()
      return Promise.resolve({ value: message, done: false })
    }
    if (this.#error !== undefined) return Promise.reject(this.#error)
    if (this.#ended) return Promise.resolve({ value: undefined, done: true })
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject }
    })
  }

  return(): Promise<IteratorResult<Uint8Array>> {
    return Promise.resolve({ value: undefined, done: true })
  }
}

export function stopping(): StatusError {
  return new StatusError('UNAVAILABLE', 'the server is stopping')
}

function drained(stream: ServerHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.removeListener('drain', done)
      stream.removeListener('close', done)
      resolve()
    }
    stream.on('drain', done)
    stream.on('close', done)
  })
}

function unknownPath(path: string, services: ReadonlySet<string>): StatusError {
  const slash = path.lastIndexOf('/')
  if (!path.startsWith('/') || slash < 1) {
    return new StatusError('UNIMPLEMENTED', `malformed method name: ${JSON.stringify(path)}`)
  }
  // Node gives each byte as a character.
  const [service, name] = [path.slice(1, slash), path.slice(slash + 1)].map((part) =>
    Buffer.from(part, 'latin1').toString(),
  )
  const text = services.has(service!) ? `unknown method ${name} for service ${service}` : `unknown service ${service}`
  return new StatusError('UNIMPLEMENTED', text)
}
