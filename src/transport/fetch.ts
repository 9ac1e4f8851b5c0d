import { anySignal } from '../core/any-signal.ts'
import { base64Url } from '../core/base64.ts'
import { type Clock, epochSeconds } from '../core/clock.ts'
import { concat, utf8 } from '../core/der.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import { sha256 } from '../core/sha256.ts'
import type { UseStore } from '../core/store.ts'
import { nameOf, type Peer } from '../rpc/caller.ts'
import { RateLimiter } from '../rpc/rate-limit.ts'
import type { BoundMethod, BoundService, IncomingCall } from '../rpc/service.ts'
import { byteBudget, tooManyStrangers } from './byte-budget.ts'
import { acceptedTypes, codecOf, type MessageCodec, UNREADABLE } from './connect-codec.ts'
import { encodeError, endEnvelope, envelope, httpStatusOf, readEnvelopes } from './connect-protocol.ts'
import type { TlsClientAuth } from './front.ts'
import { MAX_MESSAGE_BYTES } from './grpc-frame.ts'
import { type HttpIdentity, nonceOf, signResponse } from './http-signature.ts'
import { checkDigest, type HttpMessage, LONGEST_ACCEPTANCE, type MessageHead } from './message-signature.ts'
import { readBody } from './request-body.ts'
import type { StateSeal } from './sealed-state.ts'

export interface FetchOptions {
  readonly service: BoundService
  /** Comes before the methods' paths; requests are signed with it. Default none. */
  readonly basePath?: string
  readonly authenticate: AuthenticateRequest
  /** Signs answers to requests with a nonce; undefined while there is none. */
  readonly identity: () => HttpIdentity | undefined
  readonly seal: StateSeal
  /** Remembers the nonces of signed requests to methods that `isOnce` names. */
  readonly uses: Pick<UseStore, 'take'>
  /** True for a method that changes something each time it is called: its signed requests are taken once. */
  readonly isOnce: (path: string) => boolean
  readonly clock: Clock
  readonly log: Log
  /** Longest body, bytes; default 4 MiB. */
  readonly maxBodyBytes?: number
  /** What bodies of anonymous senders may hold together, bytes; default 16 MiB. */
  readonly strangersBytes?: number
  /** Answers signed for strangers, per second and address; default 100. */
  readonly strangersSignatures?: number
  /** Time in which the whole body must have come, ms; default 20 s. */
  readonly bodyTimeoutMs?: number
  /** Time after which a unary call is given up, even if the client allows more, ms; default 90 s. */
  readonly callTimeoutMs?: number
}

/**
 * Says who sent a request, by all that comes before its body.
 * @param address of whoever connected, without port; empty if unknown
 * @param tls what the platform knows of a client certificate
 * @throws StatusError UNAUTHENTICATED for credentials that are not good; INVALID_ARGUMENT for malformed ones where a profile says so
 */
export type AuthenticateRequest = (message: MessageHead, address: string, tls?: TlsClientAuth) => Promise<Sender>

export interface Sender {
  readonly peer: Peer
  /** Whether a signature with a nonce binds the request; a bearer token binds nothing. */
  readonly signed: boolean
  /** Makes sure that a body is the one that was signed. @throws StatusError */
  readonly checkBody?: (body: Uint8Array) => Promise<void>
  /** What a sender is told who is nobody here, but somebody elsewhere, where strangers may not call. */
  readonly refusal?: StatusError
}

const NOTHING = new Uint8Array(0)

/** Carries the sealed state of an exchange from answer to request. */
export const STATE_HEADER = 'attest-state'

/**
 * Serves a table of methods as Connect over HTTP, protobuf and JSON: unary calls, and streams whose requests are all there when they
 * start. It names no method.
 *
 * A stream that wants one more message than the request had is suspended if its handler left a checkpoint: the client gets
 * what came so far and the sealed state, and sends the state back together with the first message and the next.
 *
 * @returns undefined for paths that are no method's, so that other routes get them
 */
export function connectHandler(
  options: FetchOptions,
): (request: Request, address: string, tls?: TlsClientAuth) => Promise<Response | undefined> {
  const { basePath = '' } = options
  const strangers = byteBudget(options.strangersBytes)
  const signatures = new RateLimiter({
    perSecond: options.strangersSignatures ?? 100,
    clock: options.clock,
    // Nobody waits: who may be anybody comes again.
    longestWaitMs: 0,
    wait: () => Promise.resolve(),
  })
  return async (request, address, tls) => {
    const url = new URL(request.url)
    if (!url.pathname.startsWith(basePath)) return undefined
    const method = options.service.methods.get(url.pathname.slice(basePath.length))
    if (!method) return undefined
    if (request.method !== 'POST') return refused(405, { allow: 'POST' })
    const codec = codecOf(request.headers.get('content-type'), method)
    if (!codec) return refused(415, { 'accept-post': acceptedTypes(method.kind).join(', ') })
    const target = url.pathname + url.search
    let body: Uint8Array = NOTHING
    let held = 0
    let deadline: Deadline | undefined
    let answer: Answer | Response | undefined
    let isPaid = nonceOf(request.headers) === undefined
    /** Whether another answer may be signed for somebody whom nobody knows. */
    const pay = (from = address): boolean => {
      isPaid ||= hasTokens(signatures, from)
      return isPaid
    }
    try {
      checkProtocol(request.headers, method)
      deadline = deadlineOf(request, options.callTimeoutMs ?? 90_000, method.kind !== 'server-stream')
      const head: MessageHead = { method: 'POST', target, headers: request.headers, host: url.hostname }
      const sender = await options.authenticate(head, address, tls)
      const { peer } = sender
      if (peer.via !== 'anonymous') isPaid = true
      else if (!pay(peer.address)) return tooManyAnswers()
      // What this sender may not call is refused without its message, by the method itself.
      const limit = method.requestLimit?.(peer) ?? Number.POSITIVE_INFINITY
      if (limit === 0) {
        void request.body?.cancel().catch(() => {})
        if (sender.refusal) throw sender.refusal
      } else {
        body = await readBody(request, {
          maxBytes: Math.min(limit, options.maxBodyBytes ?? MAX_MESSAGE_BYTES),
          timeoutMs: options.bodyTimeoutMs ?? 20_000,
          take: (bytes) => {
            if (peer.via !== 'anonymous') return
            if (!strangers.take(bytes)) throw tooManyStrangers()
            held += bytes
          },
        })
        if (sender.checkBody) await sender.checkBody(body)
        // The answer to a request without signature covers this header: what it says must be so.
        else if (request.headers.get('content-digest')?.startsWith('sha-256=')) {
          await checkDigest({ headers: request.headers, body })
        }
      }
      const message: HttpMessage = { ...head, body }
      // Behind a proxy all have one address: who is known is counted by name.
      const name = nameOf(peer)
      const call: IncomingCall = {
        peer,
        ...(name === undefined ? {} : { limitKey: name }),
        signal: deadline.signal,
        carried: true,
        toProtobuf: codec.readRequest,
        unreadable: UNREADABLE,
        admit: () => takeOnce(options, message, sender, method),
        header: (name) => {
          const value = request.headers.get(name)
          return value === null ? [] : [value]
        },
      }
      answer =
        method.kind === 'unary'
          ? await deadline.race(unary(method, codec, body, call))
          : method.kind === 'bidi'
            ? await deadline.race(exchange(options, method, codec, message, call))
            : streamed(method, codec, body, call, { log: options.log, onEnd: deadline.clear })
    } catch (error) {
      answer = failed(method, codec, statusOf(error, options.log))
    } finally {
      strangers.give(held)
      if (!(answer instanceof Response)) deadline?.clear()
    }
    if (answer instanceof Response) return answer
    return pay() ? signed(options, { target, headers: request.headers }, answer) : tooManyAnswers()
  }
}

function hasTokens(limiter: RateLimiter, address: string): boolean {
  try {
    limiter.take(address, 1, NEVER)
    return true
  } catch {
    return false
  }
}

const NEVER = new AbortController()

/** Not signed, which means no more than that the server is busy. */
function tooManyAnswers(): Response {
  return refused(503, { 'retry-after': '1' })
}

interface Answer {
  readonly status: number
  readonly contentType: string
  readonly body: Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

function refused(status: number, headers: Readonly<Record<string, string>>): Response {
  return new Response(null, { status, headers })
}

/** @throws StatusError for a request that speaks another version, or is compressed */
function checkProtocol(headers: Headers, { kind }: BoundMethod): void {
  const version = headers.get('connect-protocol-version')
  if (version !== null && version !== '1') {
    throw new StatusError('INVALID_ARGUMENT', 'connect-protocol-version must be "1"')
  }
  for (const name of kind === 'unary' ? ['content-encoding'] : ['content-encoding', 'connect-content-encoding']) {
    const encoding = headers.get(name)
    if (encoding !== null && encoding !== 'identity') {
      throw new StatusError(
        'UNIMPLEMENTED',
        'compressed requests are not supported: supported encodings are "identity"',
      )
    }
  }
}

async function unary(method: BoundMethod, codec: MessageCodec, body: Uint8Array, call: IncomingCall): Promise<Answer> {
  const reply = await method.unary(body, call)
  return { status: 200, contentType: codec.contentType, body: codec.writeResponse(reply) }
}

/** What clients take. Requests of 4 MiB could ask for gigabytes. */
export const MAX_ANSWER_BYTES = 64 * 1024 * 1024

/** A stream in both directions whose requests are all there. */
async function exchange(
  options: FetchOptions,
  method: BoundMethod,
  codec: MessageCodec,
  message: HttpMessage,
  incoming: IncomingCall,
): Promise<Answer> {
  let checkpoint: Uint8Array | undefined
  let suspended = false
  const out: Uint8Array[] = []
  const { contentType } = codec
  try {
    const requests = readEnvelopes(message.body)
    const boundTo = concat([utf8(method.path), await sha256(requests[0] ?? NOTHING)])
    const state = message.headers.get(STATE_HEADER)
    const call: IncomingCall = {
      ...incoming,
      ...(state === null ? {} : { resumed: await options.seal.open(state, boundTo) }),
      checkpoint: (next) => {
        checkpoint = next
      },
    }
    async function* input(): AsyncGenerator<Uint8Array> {
      yield* requests
      suspended = checkpoint !== undefined
      if (suspended) throw new StatusError('CANCELLED', 'suspended until the next message')
    }
    try {
      let size = 0
      for await (const reply of method.stream(input(), call)) {
        const message = envelope(codec.writeResponse(reply))
        size += message.length
        if (size > MAX_ANSWER_BYTES) {
          out.length = 0
          throw new StatusError('RESOURCE_EXHAUSTED', 'the answer is too large for one response')
        }
        out.push(message)
      }
    } catch (error) {
      // The handler waits for a message after it left a checkpoint: that is the end of this half, not a failure.
      if (!suspended) throw error
    }
    out.push(endEnvelope())
    return {
      status: 200,
      contentType,
      body: concat(out),
      ...(suspended && checkpoint ? { headers: { [STATE_HEADER]: await options.seal.seal(checkpoint, boundTo) } } : {}),
    }
  } catch (error) {
    out.push(endEnvelope(statusOf(error, options.log)))
    return { status: 200, contentType, body: concat(out) }
  }
}

/** A stream of answers, sent as they come. Not signed: its length is not known when it starts. */
function streamed(
  method: BoundMethod,
  codec: MessageCodec,
  requestBody: Uint8Array,
  call: IncomingCall,
  { log, onEnd }: { readonly log: Log; readonly onEnd: () => void },
): Response {
  const [request, ...more] = readEnvelopes(requestBody)
  // Nothing came where nothing was read: then the method refuses the caller.
  if (more.length > 0 || (!request && requestBody.length > 0))
    throw new StatusError('INVALID_ARGUMENT', 'protocol error: one message is expected')
  async function* input(): AsyncGenerator<Uint8Array> {
    if (request) yield request
  }
  const replies = method.stream(input(), call)[Symbol.asyncIterator]()
  let left = false
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      let last: Uint8Array
      try {
        const next = await replies.next()
        if (left) return
        if (!next.done) {
          controller.enqueue(envelope(codec.writeResponse(next.value)))
          return
        }
        last = endEnvelope()
      } catch (error) {
        last = endEnvelope(statusOf(error, log))
      }
      onEnd()
      if (left) return
      controller.enqueue(last)
      controller.close()
    },
    async cancel() {
      left = true
      onEnd()
      await replies.return?.()
    },
  })
  return new Response(body, { headers: { 'content-type': codec.contentType, 'cache-control': 'no-store' } })
}

/**
 * Refuses a copy: a signed request to a method that is done once each time is taken once. The nonce of an unsigned one binds nothing and is
 * not kept; nor is one of a caller who may not call, so that they cannot fill the database.
 */
async function takeOnce(
  options: FetchOptions,
  message: HttpMessage,
  { peer, signed }: Sender,
  method: BoundMethod,
): Promise<void> {
  if (!signed || !options.isOnce(method.path)) return
  // The profile of WIT-SVIDs wants 400.
  const code = peer.via === 'wit' ? 'INVALID_ARGUMENT' : 'UNAUTHENTICATED'
  const nonce = nonceOf(message.headers)
  if (nonce === undefined) throw new StatusError(code, 'the nonce of the signature is malformed')
  const now = epochSeconds(options.clock)
  const key = `http ${base64Url(await sha256(utf8(`${nameOf(peer) ?? peer.via} ${nonce}`)))}`
  if (!(await options.uses.take(key, now + LONGEST_ACCEPTANCE, now))) {
    throw new StatusError(code, 'the request was sent before')
  }
}

async function signed(
  options: FetchOptions,
  request: { readonly target: string; readonly headers: Headers },
  answer: Answer,
): Promise<Response> {
  const { status, contentType, body } = answer
  const identity = options.identity()
  const nonce = nonceOf(request.headers)
  const signature =
    nonce !== undefined && identity
      ? await signResponse(
          { method: 'POST', target: request.target, headers: request.headers, nonce },
          { status, contentType, body },
          identity,
          epochSeconds(options.clock),
        )
      : {}
  return new Response(body as BodyInit, {
    status,
    headers: { 'content-type': contentType, 'cache-control': 'no-store', ...answer.headers, ...signature },
  })
}

/** The error of a call in the form of its kind: streams carry it in their last message. */
function failed({ kind }: BoundMethod, { contentType }: MessageCodec, error: StatusError): Answer {
  const headers: Record<string, string> = error.code === 'UNIMPLEMENTED' ? { 'accept-encoding': 'identity' } : {}
  return kind === 'unary'
    ? { status: httpStatusOf(error), contentType: 'application/json', body: encodeError(error), headers }
    : { status: 200, contentType, body: endEnvelope(error), headers }
}

function statusOf(error: unknown, log: Log): StatusError {
  if (error instanceof StatusError) return error
  log.error('Unexpected error', { error: errorMessage(error) })
  return new StatusError('INTERNAL', 'internal error', { cause: error })
}

interface Deadline {
  /** The client's leaving, and the end of its patience or ours. */
  readonly signal: AbortSignal
  /** @throws StatusError DEADLINE_EXCEEDED as soon as it is, whatever the call does about it */
  race<T>(call: Promise<T>): Promise<T>
  clear(): void
}

/** @throws StatusError INVALID_ARGUMENT for a timeout that is none */
function deadlineOf(request: Request, longestMs: number, limited: boolean): Deadline {
  const header = request.headers.get('connect-timeout-ms')
  if (header !== null && !/^\d{1,10}$/.test(header)) {
    throw new StatusError(
      'INVALID_ARGUMENT',
      'protocol error: connect-timeout-ms is not a number of at most ten digits',
    )
  }
  const wanted = header === null ? Number.POSITIVE_INFINITY : Number(header)
  const timeoutMs = limited ? Math.min(wanted, longestMs) : wanted
  const over = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  const passed = new Promise<never>((_, reject) => {
    if (timeoutMs >= 2 ** 31) return
    timer = setTimeout(() => {
      reject(new StatusError('DEADLINE_EXCEEDED', 'context deadline exceeded'))
      over.abort()
    }, timeoutMs)
  })
  // Streams are told by the signal alone.
  passed.catch(() => {})
  return {
    signal: anySignal([request.signal, over.signal]),
    race: (call) => Promise.race([call, passed]),
    clear: () => clearTimeout(timer),
  }
}
