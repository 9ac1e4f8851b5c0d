import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import type * as Grpc from '@grpc/grpc-js'
import { type StatusCode, StatusError } from '../core/error.ts'
import type { MessageType } from '../rpc/method.ts'
import { addressOf, connectionErrorText, dialTimeoutText, type LastHandshake } from './dial-error.ts'
import { MAX_MESSAGE_BYTES } from './grpc-frame.ts'
import { decodeStatusDetails, statusCodeOf } from './grpc-status.ts'
import { hostPort } from './tcp-listener.ts'
import type { ClientTls } from './tls-client.ts'

export interface GrpcChannelOptions {
  /** `unix:///abs/path`, `unix:/path`, or `dns:///host:port`; a name with several addresses is used round robin. */
  readonly target: string
  /** Absent on unix sockets. */
  readonly tls?: ClientTls
  /** Longest response, bytes; default 4 MiB, as SPIRE's clients. */
  readonly maxMessageBytes?: number
  /** How long a call waits for a connection; default 20 s, as grpc-go. Not on unix sockets. */
  readonly dialTimeoutMs?: number
}

const DIAL_TIMEOUT_MS = 20_000

/** A method as a client needs it. Rows of a method table fit. */
export interface ClientMethod<Req, Res> {
  readonly path: string
  readonly request: MessageType<Req>
  readonly response: MessageType<Res>
}

export interface ClientCallOptions {
  readonly timeoutMs?: number
  readonly metadata?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

export interface BidiCall<Req, Res> {
  /** Resolves when the request may leave memory; rejects with the call's error once it failed. */
  send(request: Req): Promise<void>
  /** Half-closes: no more requests. */
  end(): void
  readonly messages: AsyncIterable<Res>
  cancel(): void
}

/** A connection that makes itself again when it breaks. Every error is a StatusError with grpc-go's texts. */
export interface GrpcChannel {
  unary<Req, Res>(method: ClientMethod<Req, Res>, request: Req, options?: ClientCallOptions): Promise<Res>
  /** Leaving the loop cancels the call. */
  serverStream<Req, Res>(method: ClientMethod<Req, Res>, request: Req, options?: ClientCallOptions): AsyncIterable<Res>
  bidi<Req, Res>(method: ClientMethod<Req, Res>, options?: ClientCallOptions): BidiCall<Req, Res>
  /** True over HTTP: the server is known by its answers, not before, and something between may keep back streams. */
  readonly overHttp?: boolean
  /** Over HTTP: the server's time as its answers say, once there was one. Unix seconds. */
  readonly serverTime?: () => number
  close(): void
}

/**
 * Makes a channel; the first call connects, and fails at once with UNAVAILABLE when nobody listens or the server's
 * certificate is refused, and after a while when nobody answers at all. grpc-js is loaded here and not before: it costs a CLI 60 ms.
 */
export async function connect(options: GrpcChannelOptions): Promise<GrpcChannel> {
  const grpc = await import('@grpc/grpc-js')
  const { secureCredentials } = options.tls ? await import('./tls-client.ts') : { secureCredentials: undefined }
  const handshake: LastHandshake = {}
  const credentials =
    options.tls && secureCredentials
      ? secureCredentials(grpc, options.tls, handshake)
      : grpc.credentials.createInsecure()
  const client = new grpc.Client(options.target, credentials, {
    'grpc.max_receive_message_length': options.maxMessageBytes ?? MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': -1,
    'grpc.service_config': '{"loadBalancingConfig":[{"round_robin":{}}]}',
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_http_proxy': 0,
    // Two channels to one address may hold different certificates: never share connections.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.initial_reconnect_backoff_ms': 1000,
  })

  const metadataOf = (call: ClientCallOptions | undefined): Grpc.Metadata => {
    const metadata = new grpc.Metadata()
    for (const [name, value] of Object.entries(call?.metadata ?? {})) metadata.set(name, value)
    return metadata
  }
  const channel = client.getChannel()
  const { CONNECTING, READY } = grpc.connectivityState
  /** grpc-js waits for a connection as long as the kernel tries, for two minutes, and so do calls: this one will not. */
  const errorsOf = (running: Grpc.ClientUnaryCall | Grpc.ClientReadableStream<unknown>) => {
    let timedOut: StatusError | undefined
    if (!options.target.startsWith('unix:') && channel.getConnectivityState(false) !== READY) {
      const timer = setTimeout(async () => {
        if (channel.getConnectivityState(false) !== CONNECTING) return
        const reached = { ...handshake }
        timedOut = new StatusError('UNAVAILABLE', dialTimeoutText(await dialled(options.target), reached))
        running.cancel()
      }, options.dialTimeoutMs ?? DIAL_TIMEOUT_MS)
      running.once('status', () => clearTimeout(timer))
    }
    return (error: unknown): StatusError =>
      timedOut ?? toStatusError(error as Grpc.ServiceError, options.target, handshake)
  }

  return {
    unary: (method, request, call) =>
      new Promise((resolve, reject) => {
        if (call?.signal?.aborted) {
          reject(new StatusError('CANCELLED', 'context canceled'))
          return
        }
        let stop: (() => void) | undefined
        let errorOf: ((error: unknown) => StatusError) | undefined
        const running = client.makeUnaryRequest(
          method.path,
          encoder(method.request),
          decoder(method.response),
          request,
          metadataOf(call),
          deadlineOf(call),
          (error, response) => {
            stop?.()
            if (error) reject(errorOf!(error))
            else resolve(response!)
          },
        )
        stop = cancelOn(call?.signal, running)
        errorOf = errorsOf(running)
      }),

    async *serverStream(method, request, call) {
      if (call?.signal?.aborted) throw new StatusError('CANCELLED', 'context canceled')
      const running = client.makeServerStreamRequest(
        method.path,
        encoder(method.request),
        decoder(method.response),
        request,
        metadataOf(call),
        deadlineOf(call),
      )
      yield* messagesOf(running, cancelOn(call?.signal, running), errorsOf(running))
    },

    bidi: (method, call) => {
      const running = client.makeBidiStreamRequest(
        method.path,
        encoder(method.request),
        decoder(method.response),
        metadataOf(call),
        deadlineOf(call),
      )
      const errorOf = errorsOf(running)
      if (call?.signal?.aborted) running.cancel()
      let failure: StatusError | undefined
      running.on('error', (error) => {
        failure ??= errorOf(error)
      })
      return {
        send: (request) =>
          new Promise((resolve, reject) => {
            if (failure) reject(failure)
            else if (running.writableEnded || running.destroyed) reject(new StatusError('INTERNAL', 'stream is closed'))
            // A write on a call that has ended on the server's side succeeds; its status comes with the messages.
            else
              running.write(request, (error: Error | null | undefined) => (error ? reject(errorOf(error)) : resolve()))
          }),
        end: () => running.end(),
        messages: messagesOf(running, cancelOn(call?.signal, running), errorOf),
        cancel: () => running.cancel(),
      }
    },

    close: () => client.close(),
  }
}

/** Turns grpc-js's error into ours; what it says of a failed connection becomes what grpc-go says. */
function toStatusError(error: Grpc.ServiceError, target: string, handshake: LastHandshake): StatusError {
  if (error instanceof StatusError) return error
  const code: StatusCode = statusCodeOf(error.code ?? 2)
  if (code === 'UNAVAILABLE') {
    const text = connectionErrorText(error.details, target, handshake.error?.message)
    if (text !== undefined) return new StatusError(code, text, { cause: handshake.error ?? error })
  }
  if (code === 'DEADLINE_EXCEEDED') return new StatusError(code, 'context deadline exceeded', { cause: error })
  if (code === 'CANCELLED' && error.details === 'Cancelled on client') return new StatusError(code, 'context canceled')
  const binary = error.metadata?.get('grpc-status-details-bin')[0]
  const details = Buffer.isBuffer(binary) ? decodeStatusDetails(binary) : []
  return new StatusError(code, error.details ?? error.message, { details, cause: error })
}

/** The address that a `dns:` target leads to, as Go would have dialled it: the first. */
async function dialled(target: string): Promise<string> {
  const place = addressOf(target)
  const at = place.lastIndexOf(':')
  const host = place.slice(0, at).replace(/^\[|\]$/g, '')
  if (isIP(host) !== 0) return place
  try {
    return hostPort((await lookup(host)).address, Number(place.slice(at + 1)))
  } catch {
    return place
  }
}

async function* messagesOf<T>(
  running: Grpc.ClientReadableStream<T> | Grpc.ClientDuplexStream<unknown, T>,
  stop: (() => void) | undefined,
  errorOf: (error: unknown) => StatusError,
): AsyncGenerator<T> {
  let ended = false
  try {
    for await (const message of running as AsyncIterable<T>) yield message
    ended = true
  } catch (error) {
    ended = true
    throw errorOf(error)
  } finally {
    stop?.()
    if (!ended) running.cancel()
  }
}

function encoder<T>(type: MessageType<T>): (message: T) => Buffer {
  return (message) => {
    const bytes = type.encode(message).finish()
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
}

function decoder<T>(type: MessageType<T>): (bytes: Buffer) => T {
  return (bytes) => type.decode(bytes)
}

function deadlineOf(call: ClientCallOptions | undefined): Grpc.CallOptions {
  return call?.timeoutMs === undefined ? {} : { deadline: Date.now() + call.timeoutMs }
}

function cancelOn(signal: AbortSignal | undefined, running: { cancel(): void }): (() => void) | undefined {
  if (signal === undefined) return undefined
  const cancel = (): void => running.cancel()
  signal.addEventListener('abort', cancel, { once: true })
  return () => signal.removeEventListener('abort', cancel)
}
