import { anySignal } from '../../core/any-signal.ts'
import { StatusError } from '../../core/error.ts'
import type { BidiCall, ClientCallOptions, ClientMethod, GrpcChannel } from '../../transport/grpc-client.ts'

/** Calls to one plugin, whose errors begin with `<type>(<name>): ` as in SPIRE. */
export interface PluginCalls {
  unary<Req, Res>(method: ClientMethod<Req, Res>, request: Req, options?: ClientCallOptions): Promise<Res>
  serverStream<Req, Res>(method: ClientMethod<Req, Res>, request: Req, options?: ClientCallOptions): AsyncIterable<Res>
  bidi<Req, Res>(method: ClientMethod<Req, Res>, options?: ClientCallOptions): BidiCall<Req, Res>
  /** An error of the plugin's that we say. */
  error(code: StatusError['code'], message: string): StatusError
}

/**
 * @param ended aborts with the reason when the plugin's process ends: what is under way then fails with it, and what comes later at once
 * @param prefix what errors begin with; empty where somebody else puts it there
 */
export function pluginCalls(channel: GrpcChannel, ended: AbortSignal, prefix: string): PluginCalls {
  const error: PluginCalls['error'] = (code, message) => new StatusError(code, `${prefix}${message}`)
  const told = (cause: unknown): StatusError => {
    if (ended.aborted) return error('UNAVAILABLE', (ended.reason as Error).message)
    if (!(cause instanceof StatusError)) return error('UNKNOWN', String(cause))
    return new StatusError(cause.code, `${prefix}${cause.message}`, { cause, details: cause.details })
  }
  const alive = (options: ClientCallOptions | undefined): ClientCallOptions => {
    if (ended.aborted) throw told(undefined)
    return { ...options, signal: options?.signal ? anySignal([options.signal, ended]) : ended }
  }
  async function* each<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
    try {
      yield* messages
    } catch (cause) {
      throw told(cause)
    }
  }
  return {
    error,
    async unary(method, request, options) {
      const call = alive(options)
      try {
        return await channel.unary(method, request, call)
      } catch (cause) {
        throw told(cause)
      }
    },
    serverStream: (method, request, options) => each(channel.serverStream(method, request, alive(options))),
    bidi(method, options) {
      const call = channel.bidi(method, alive(options))
      return {
        ...call,
        send: (request) =>
          call.send(request).catch((cause) => {
            throw told(cause)
          }),
        messages: each(call.messages),
      }
    },
  }
}
