import { StatusError } from '../core/error.ts'
import { rpcErrorText } from '../rpc/status-text.ts'
import type { ClientCallOptions, ClientMethod, GrpcChannel } from '../transport/grpc-client.ts'
import { CommandError } from './failure.ts'

/** The API behind a socket, as commands use it. */
export interface ApiClient {
  /** @throws CommandError with grpc-go's text; `status` holds the StatusError */
  call<Req, Res>(method: ClientMethod<Req, Res>, request: Req, options?: ClientCallOptions): Promise<Res>
  stream<Req, Res>(method: ClientMethod<Req, Res>, request: Req, options?: ClientCallOptions): AsyncIterable<Res>
}

/** A call that failed; the message is the text for the user. */
export class CallError extends CommandError {
  readonly status: StatusError
  constructor(status: StatusError) {
    super(rpcErrorText(status), { cause: status })
    this.status = status
  }
}

/** A client of a socket; gRPC is loaded with its first call. */
export function socketClient(target: string): ApiClient {
  return apiClient(async () => {
    const { connect } = await import('../transport/grpc-client.ts')
    return connect({ target, maxMessageBytes: -1 })
  })
}

/** Makes a client that connects on its first call. Lives as long as the process. */
export function apiClient(open: () => Promise<GrpcChannel>): ApiClient {
  let channel: Promise<GrpcChannel> | undefined
  const connected = (): Promise<GrpcChannel> => {
    channel ??= open()
    return channel
  }
  return {
    async call(method, request, options) {
      try {
        return await (await connected()).unary(method, request, options)
      } catch (error) {
        throw error instanceof StatusError ? new CallError(error) : error
      }
    },
    async *stream(method, request, options) {
      try {
        yield* (await connected()).serverStream(method, request, options)
      } catch (error) {
        throw error instanceof StatusError ? new CallError(error) : error
      }
    },
  }
}

/**
 * Puts words in front of a failed call's text: `error fetching entries: rpc error: ...`.
 */
export async function explained<T>(prefix: string, call: Promise<T>): Promise<T> {
  try {
    return await call
  } catch (error) {
    throw error instanceof CommandError ? new CommandError(`${prefix}: ${error.message}`, { cause: error }) : error
  }
}
