import { base64Url } from '../core/base64.ts'
import { type Clock, epochSeconds } from '../core/clock.ts'
import { concat } from '../core/der.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { MessageType } from '../rpc/method.ts'
import { decodeError, envelope, readStream, STREAM_TYPE, UNARY_TYPE } from './connect-protocol.ts'
import { MAX_ANSWER_BYTES, STATE_HEADER } from './fetch.ts'
import type { BidiCall, ClientCallOptions, ClientMethod, GrpcChannel } from './grpc-client.ts'
import { MAX_MESSAGE_BYTES } from './grpc-frame.ts'
import { NONCE_HEADER, verifyResponse } from './http-signature.ts'
import { type Credential, contentDigest, type HttpMessage, isClockSkew, signWith } from './message-signature.ts'

export interface HttpChannelOptions {
  /** `https://host[:port][/prefix]`; `http:` only for what listens on this machine. */
  readonly serverUrl: string
  /** How the server is configured to be called; default the URL's origin. */
  readonly audience?: string
  /** What signs our requests, or the token that goes with them; undefined: we are nobody. */
  readonly credential: () => Credential | { readonly bearer: string } | undefined
  /** Judges the chain (DER, leaf first) of the server's signature. @throws StatusError */
  readonly verifyServer: (chain: readonly Uint8Array[]) => Promise<void>
  readonly verify: VerifySignature
  readonly clock: Clock
  /** Default the runtime's own. */
  readonly fetch?: typeof fetch
}

const NO_TIMEOUT_MS = 2 ** 31 - 1
/** A clock that is off by less does no harm: signatures may be that old. Seconds. */
const MIN_SKEW = 5

/**
 * A channel to a server over HTTPS: what gRPC gives, on requests and answers. Requests are signed with the X509-SVID, answers must be
 * signed by the server's: the web certificate of the host only carries the bytes.
 *
 * A stream in both directions sends all it has with each request; the server answers from the start, and what was seen before is
 * dropped. A stream that the server suspended goes on with its sealed state.
 */
export function connectHttp(options: HttpChannelOptions): GrpcChannel {
  const base = new URL(options.serverUrl)
  const prefix = base.pathname.replace(/\/$/, '')
  const audience = options.audience ?? base.origin
  const send = options.fetch ?? fetch
  const closed = new AbortController()

  /** Closing ends subscriptions; calls under way finish, as they do over gRPC. */
  function signalFor(call: ClientCallOptions | undefined, subscription: boolean): AbortSignal {
    const signals = [AbortSignal.timeout(call?.timeoutMs ?? NO_TIMEOUT_MS)]
    if (subscription) signals.push(closed.signal)
    if (call?.signal) signals.push(call.signal)
    return AbortSignal.any(signals)
  }

  /** What the server's clock is ahead of ours, as its signed answers say. Seconds. */
  let offset = 0
  const serverTime = () => epochSeconds(options.clock) + offset

  /** Sends a request and returns the answer once it is known to be the server's; again if it was only our clock that it refused. */
  async function post(
    path: string,
    contentType: string,
    body: Uint8Array,
    call: ClientCallOptions | undefined,
    extra: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const before = offset
    const answer = await postOnce(path, contentType, body, call, extra)
    if (offset === before) return answer
    const error = answer.response.ok
      ? await endError(answer, contentType)
      : decodeError(answer.response.status, answer.body)
    return error && isClockSkew(error) ? postOnce(path, contentType, body, call, extra) : answer
  }

  async function postOnce(
    path: string,
    contentType: string,
    body: Uint8Array,
    call: ClientCallOptions | undefined,
    extra: Readonly<Record<string, string>>,
  ): Promise<Answer> {
    const { request, nonce, target } = await prepare(path, contentType, body, call, false, extra)
    try {
      const response = await send(request)
      const bytes = await readLimited(response)
      if (response.headers.has('signature-input') || response.ok) {
        const now = await verifyResponse(
          { method: 'POST', target, headers: request.headers, nonce },
          { status: response.status, headers: response.headers, body: bytes },
          { verify: options.verify, verifyChain: options.verifyServer },
        )
        const difference = now - epochSeconds(options.clock)
        // Seconds that a slow answer took are no error of a clock.
        if (Math.abs(difference - offset) >= MIN_SKEW) offset = difference
      } else throw unsigned(decodeError(response.status, bytes))
      return { response, body: bytes }
    } catch (error) {
      throw failure(error, request.signal, options.serverUrl)
    }
  }

  async function prepare(
    path: string,
    contentType: string,
    body: Uint8Array,
    call: ClientCallOptions | undefined,
    subscription: boolean,
    extra: Readonly<Record<string, string>>,
  ): Promise<{ readonly request: Request; readonly nonce: string; readonly target: string }> {
    const target = `${prefix}${path}`
    const nonce = base64Url(crypto.getRandomValues(new Uint8Array(16)))
    const headers = new Headers({
      'content-type': contentType,
      'connect-protocol-version': '1',
      ...extra,
      ...call?.metadata,
    })
    if (call?.timeoutMs !== undefined) headers.set('connect-timeout-ms', String(Math.round(call.timeoutMs)))
    const credential = options.credential()
    if (credential && 'signer' in credential) {
      const message: HttpMessage = { method: 'POST', target, headers, body }
      const signature = await signWith(message, credential, { audience, now: serverTime(), nonce })
      for (const [name, value] of Object.entries(signature)) headers.set(name, value)
    } else {
      headers.set(NONCE_HEADER, nonce)
      headers.set('content-digest', await contentDigest(body))
      if (credential) headers.set('authorization', `Bearer ${credential.bearer}`)
    }
    const signal = signalFor(call, subscription)
    const request = new Request(new URL(target, base), {
      method: 'POST',
      headers,
      body: body as BodyInit,
      signal,
      redirect: 'error',
    })
    return { request, nonce, target }
  }

  async function unary<Req, Res>(method: ClientMethod<Req, Res>, message: Req, call?: ClientCallOptions): Promise<Res> {
    const { response, body } = await post(method.path, UNARY_TYPE, method.request.encode(message).finish(), call)
    if (!response.ok) throw decodeError(response.status, body)
    return readReply(method.response, body)
  }

  async function* serverStream<Req, Res>(
    method: ClientMethod<Req, Res>,
    message: Req,
    call?: ClientCallOptions,
  ): AsyncGenerator<Res> {
    const bytes = envelope(method.request.encode(message).finish())
    const { request } = await prepare(method.path, STREAM_TYPE, bytes, call, true, {})
    try {
      const response = await send(request)
      if (!response.ok || response.body === null) throw decodeError(response.status, await readLimited(response))
      const chunks = response.body as unknown as AsyncIterable<Uint8Array>
      for await (const reply of readStream(chunks, MAX_MESSAGE_BYTES)) yield readReply(method.response, reply)
    } catch (error) {
      throw failure(error, request.signal, options.serverUrl)
    }
  }

  function bidi<Req, Res>(method: ClientMethod<Req, Res>, call?: ClientCallOptions): BidiCall<Req, Res> {
    const exchange = new Exchange<Req, Res>(
      (body, extra) => post(method.path, STREAM_TYPE, body, call, extra),
      (message) => method.request.encode(message).finish(),
      (bytes) => readReply(method.response, bytes),
    )
    return {
      send: async (message) => exchange.send(message),
      end: () => exchange.end(),
      messages: exchange.messages(),
      cancel: () => exchange.end(),
    }
  }

  return { unary, serverStream, bidi, overHttp: true, serverTime, close: () => closed.abort() }
}

/** @throws StatusError INTERNAL, as grpc-go, for what is no such message */
function readReply<T>(type: MessageType<T>, bytes: Uint8Array): T {
  try {
    return type.decode(bytes)
  } catch (cause) {
    const text = `grpc: failed to unmarshal the received message: ${errorMessage(cause)}`
    throw new StatusError('INTERNAL', text, { cause })
  }
}

/** An answer whose signature was verified. */
interface Answer {
  readonly response: Response
  readonly body: Uint8Array
}

/** Sends a body with extra headers. */
type Post = (body: Uint8Array, extra: Readonly<Record<string, string>>) => Promise<Answer>

/** The error that a stream ends with, if it has no message before it. */
async function endError({ body }: Answer, contentType: string): Promise<StatusError | undefined> {
  if (contentType !== STREAM_TYPE) return undefined
  try {
    for await (const _ of readStream(oneChunk(body), MAX_MESSAGE_BYTES)) return undefined
  } catch (error) {
    return error instanceof StatusError ? error : undefined
  }
  return undefined
}

/**
 * An error that the server did not sign may come from anything between: it can say that this call failed, not what is true of the agent,
 * which would drop its identity if it were told that it is banned.
 */
function unsigned(error: StatusError): StatusError {
  return error.code === 'UNAVAILABLE'
    ? error
    : new StatusError('UNAVAILABLE', `unsigned answer: ${error.message}`, { cause: error })
}

/** A stream in both directions, carried by one request after the other. */
class Exchange<Req, Res> {
  readonly #post: Post
  readonly #encode: (message: Req) => Uint8Array
  readonly #decode: (bytes: Uint8Array) => Res
  readonly #sent: Uint8Array[] = []
  #unsent = 0
  #ended = false
  #wake = () => {}

  constructor(post: Post, encode: (message: Req) => Uint8Array, decode: (bytes: Uint8Array) => Res) {
    this.#post = post
    this.#encode = encode
    this.#decode = decode
  }

  send(message: Req): void {
    this.#sent.push(envelope(this.#encode(message)))
    this.#unsent += 1
    this.#wake()
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  async *messages(): AsyncGenerator<Res> {
    let seen = 0
    let state: string | null = null
    for (;;) {
      while (this.#unsent === 0 && !this.#ended) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
      if (this.#unsent === 0) return
      this.#unsent = 0
      // A suspended call goes on with its first message and the newest; any other one is told anew from the start.
      const messages: Uint8Array[] = state === null ? this.#sent : [this.#sent[0]!, this.#sent[this.#sent.length - 1]!]
      const { response, body } = await this.#post(concat(messages), state === null ? {} : { [STATE_HEADER]: state })
      if (!response.ok) throw decodeError(response.status, body)
      let index = 0
      const skip: number = state === null ? seen : 0
      for await (const reply of readStream(oneChunk(body), MAX_MESSAGE_BYTES)) {
        index += 1
        if (index > skip) yield this.#decode(reply)
      }
      seen = index
      state = response.headers.get(STATE_HEADER)
    }
  }
}

async function* oneChunk(body: Uint8Array): AsyncGenerator<Uint8Array> {
  yield body
}

async function readLimited(response: Response): Promise<Uint8Array> {
  if (response.body === null) return new Uint8Array(0)
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > MAX_ANSWER_BYTES) throw new StatusError('RESOURCE_EXHAUSTED', 'the answer of the server is too large')
    chunks.push(chunk)
  }
  return concat(chunks)
}

function failure(error: unknown, signal: AbortSignal, serverUrl: string): StatusError {
  if (error instanceof StatusError) {
    // What the server's signature was refused for is for the operator, and for the agent's own decisions.
    return error.code === 'UNAUTHENTICATED'
      ? new StatusError('UNAVAILABLE', `the server's answer is not to be trusted: ${error.message}`, { cause: error })
      : error
  }
  if (signal.aborted) {
    const timedOut = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
    return timedOut
      ? new StatusError('DEADLINE_EXCEEDED', 'context deadline exceeded')
      : new StatusError('CANCELLED', 'context canceled')
  }
  return new StatusError('UNAVAILABLE', `connection error: ${serverUrl}: ${wholeMessage(error)}`, { cause: error })
}

/** What happened and why: what a proxy or TLS said lies some causes deep. */
function wholeMessage(error: unknown): string {
  const messages: string[] = []
  for (let at = error; at !== undefined && messages.length < 4; at = at instanceof Error ? at.cause : undefined)
    messages.push(errorMessage(at))
  return messages.join(': ')
}
