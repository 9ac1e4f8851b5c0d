import { type Clock, epochSeconds } from '../core/clock.ts'
import { concat, utf8 } from '../core/der.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { Peer } from '../rpc/caller.ts'
import type { BoundMethod, BoundService, IncomingCall } from '../rpc/service.ts'
import {
  encodeError,
  endEnvelope,
  envelope,
  httpStatusOf,
  readEnvelopes,
  STREAM_TYPE,
  UNARY_TYPE,
} from './connect-protocol.ts'
import { MAX_MESSAGE_BYTES } from './grpc-frame.ts'
import { type HttpIdentity, type HttpMessage, isSigned, signResponse } from './http-signature.ts'
import type { StateSeal } from './sealed-state.ts'

/** Who sent a request, and what its answer must be bound to. */
export interface Sender {
  readonly peer: Peer
  /** Of a signed request: its answer is signed. */
  readonly nonce?: string
}

export interface FetchOptions {
  readonly service: BoundService
  /**
   * Verifies the signature of a request.
   * @param address of the client, without port; empty if unknown
   * @throws StatusError UNAUTHENTICATED
   */
  readonly authenticate: (message: HttpMessage, address: string) => Promise<Sender>
  /** Signs answers to signed requests; undefined while there is none. */
  readonly identity: () => HttpIdentity | undefined
  readonly seal: StateSeal
  readonly clock: Clock
  readonly log: Log
  /** Longest body, bytes; default 4 MiB. */
  readonly maxBodyBytes?: number
}

/** Carries the sealed state of an exchange from answer to request. */
export const STATE_HEADER = 'attest-state'
/** A nonce that asks for a signed answer to an unsigned request, as an agent has none before it attested. */
export const NONCE_HEADER = 'wimse-req-nonce'

/**
 * Serves a table of methods as Connect over HTTP: unary calls, and streams whose requests are all there when they start. It
 * names no method.
 *
 * A stream that wants one more message than the request had is suspended if its handler left a checkpoint: the client gets
 * what came so far and the sealed state, and sends the state back together with the first message and the next.
 *
 * @returns undefined for paths that are no method's, so that other routes get them
 */
export function connectHandler(
  options: FetchOptions,
): (request: Request, address: string) => Promise<Response | undefined> {
  return async (request, address) => {
    const url = new URL(request.url)
    const method = options.service.methods.get(url.pathname)
    if (!method) return undefined
    if (request.method !== 'POST') return new Response(null, { status: 405, headers: { allow: 'POST' } })
    const wanted = method.kind === 'unary' ? UNARY_TYPE : STREAM_TYPE
    if (request.headers.get('content-type') !== wanted)
      return new Response(null, { status: 415, headers: { 'accept-post': wanted } })
    const body = await readBody(request, options.maxBodyBytes ?? MAX_MESSAGE_BYTES)
    if (body === undefined) {
      return failed(new StatusError('RESOURCE_EXHAUSTED', 'the request is larger than the server takes'))
    }
    const message: HttpMessage = { method: 'POST', target: url.pathname + url.search, headers: request.headers, body }
    let sender: Sender
    try {
      sender = await senderOf(options, message, address)
    } catch (error) {
      return failed(statusOf(error, options.log))
    }
    const call: IncomingCall = {
      peer: sender.peer,
      signal: signalOf(request),
      header: (name) => {
        const value = request.headers.get(name)
        return value === null ? [] : [value]
      },
    }
    if (method.kind === 'server-stream') return streamed(method, readEnvelopes(body), call, options.log)
    const answer =
      method.kind === 'unary' ? await unary(method, body, call) : await exchange(options, method, message, call)
    return signed(options, message, sender, answer)
  }
}

interface Answer {
  readonly status: number
  readonly contentType: string
  readonly body: Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

async function unary(method: BoundMethod, body: Uint8Array, call: IncomingCall): Promise<Answer> {
  try {
    return { status: 200, contentType: UNARY_TYPE, body: await method.unary(body, call) }
  } catch (error) {
    return errorAnswer(error as StatusError)
  }
}

/** A stream in both directions whose requests are all there. */
async function exchange(
  options: FetchOptions,
  method: BoundMethod,
  message: HttpMessage,
  incoming: IncomingCall,
): Promise<Answer> {
  let checkpoint: Uint8Array | undefined
  let suspended = false
  const out: Uint8Array[] = []
  try {
    const requests = readEnvelopes(message.body)
    const boundTo = concat([
      utf8(method.path),
      new Uint8Array(await crypto.subtle.digest('SHA-256', (requests[0] ?? new Uint8Array(0)) as BufferSource)),
    ])
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
      for await (const reply of method.stream(input(), call)) out.push(envelope(reply))
    } catch (error) {
      // The handler waits for a message after it left a checkpoint: that is the end of this half, not a failure.
      if (!suspended) throw error
    }
    out.push(endEnvelope())
    return {
      status: 200,
      contentType: STREAM_TYPE,
      body: concat(out),
      ...(suspended && checkpoint ? { headers: { [STATE_HEADER]: await options.seal.seal(checkpoint, boundTo) } } : {}),
    }
  } catch (error) {
    out.push(endEnvelope(statusOf(error, options.log)))
    return { status: 200, contentType: STREAM_TYPE, body: concat(out) }
  }
}

/** A stream of answers, sent as they come. Not signed: its length is not known when it starts. */
function streamed(method: BoundMethod, requests: readonly Uint8Array[], call: IncomingCall, log: Log): Response {
  async function* input(): AsyncGenerator<Uint8Array> {
    yield* requests
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
          controller.enqueue(envelope(next.value))
          return
        }
        last = endEnvelope()
      } catch (error) {
        last = endEnvelope(statusOf(error, log))
      }
      if (left) return
      controller.enqueue(last)
      controller.close()
    },
    async cancel() {
      left = true
      await replies.return?.()
    },
  })
  return new Response(body, { headers: { 'content-type': STREAM_TYPE, 'cache-control': 'no-store' } })
}

async function senderOf(options: FetchOptions, message: HttpMessage, address: string): Promise<Sender> {
  if (isSigned(message.headers)) return options.authenticate(message, address)
  const nonce = message.headers.get(NONCE_HEADER)
  const valid = nonce !== null && /^[A-Za-z0-9_-]{16,64}$/.test(nonce)
  return { peer: { via: 'anonymous', address }, ...(valid ? { nonce } : {}) }
}

async function signed(options: FetchOptions, request: HttpMessage, sender: Sender, answer: Answer): Promise<Response> {
  const { status, contentType, body } = answer
  const identity = options.identity()
  const signature =
    sender.nonce !== undefined && identity
      ? await signResponse(
          { method: request.method, target: request.target, nonce: sender.nonce },
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

function failed(error: StatusError): Response {
  const { status, contentType, body } = errorAnswer(error)
  return new Response(body as BodyInit, {
    status,
    headers: { 'content-type': contentType, 'cache-control': 'no-store' },
  })
}

function errorAnswer(error: StatusError): Answer {
  return { status: httpStatusOf(error), contentType: 'application/json', body: encodeError(error) }
}

function statusOf(error: unknown, log: Log): StatusError {
  if (error instanceof StatusError) return error
  log.error('Unexpected error', { error: errorMessage(error) })
  return new StatusError('INTERNAL', 'internal error', { cause: error })
}

/** The client's leaving, and its deadline. */
function signalOf(request: Request): AbortSignal {
  const timeout = Number(request.headers.get('connect-timeout-ms') ?? '')
  const limited = Number.isInteger(timeout) && timeout > 0 && timeout < 2 ** 31
  return limited ? AbortSignal.any([request.signal, AbortSignal.timeout(timeout)]) : request.signal
}

/** The whole body, undefined if it is longer than allowed. */
async function readBody(request: Request, limit: number): Promise<Uint8Array | undefined> {
  if (Number(request.headers.get('content-length') ?? '0') > limit) return undefined
  if (request.body === null) return new Uint8Array(0)
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > limit) return undefined
    chunks.push(chunk)
  }
  return chunks.length === 1 ? chunks[0]! : concat(chunks)
}
