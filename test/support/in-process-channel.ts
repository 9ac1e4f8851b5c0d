import { StatusError } from '../../src/core/error.ts'
import type { Peer } from '../../src/rpc/caller.ts'
import type { BoundMethod, BoundService, IncomingCall } from '../../src/rpc/service.ts'
import type { GrpcChannel } from '../../src/transport/grpc-client.ts'

export interface InProcessOptions {
  /** Who calls. */
  readonly peer: () => Peer
  /** Done after the client sent a message and before the server sees it. */
  readonly onTheWay?: (path: string) => Promise<void>
}

/** A channel to a service of this process: bytes go through the codecs, but over no socket. */
export function inProcessChannel(
  service: BoundService,
  { peer, onTheWay = async () => {} }: InProcessOptions,
): GrpcChannel {
  const methodOf = (path: string): BoundMethod => {
    const method = service.methods.get(path)
    if (!method) throw new StatusError('UNIMPLEMENTED', `unknown method ${path}`)
    return method
  }
  const incoming = (): IncomingCall => ({ peer: peer(), signal: new AbortController().signal, header: () => [] })
  return {
    async unary(method, request) {
      const bytes = method.request.encode(request).finish()
      await onTheWay(method.path)
      return method.response.decode(await methodOf(method.path).unary(bytes, incoming()))
    },
    async *serverStream(method, request) {
      async function* requests() {
        yield method.request.encode(request).finish()
      }
      await onTheWay(method.path)
      for await (const bytes of methodOf(method.path).stream(requests(), incoming()))
        yield method.response.decode(bytes)
    },
    bidi(method) {
      const waiting: Uint8Array[] = []
      let ended = false
      let wake = () => {}
      async function* requests() {
        while (true) {
          const next = waiting.shift()
          if (next) {
            await onTheWay(method.path)
            yield next
          } else if (ended) return
          else await new Promise<void>((resolve) => (wake = resolve))
        }
      }
      async function* messages() {
        for await (const bytes of methodOf(method.path).stream(requests(), incoming()))
          yield method.response.decode(bytes)
      }
      return {
        async send(request) {
          waiting.push(method.request.encode(request).finish())
          wake()
        },
        end() {
          ended = true
          wake()
        },
        messages: messages(),
        cancel() {
          ended = true
          wake()
        },
      }
    },
    close() {},
  }
}
