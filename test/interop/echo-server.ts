// Serves what test/interop/go/grpc/client asks for, on the runtime that runs this file. usage: echo-server.ts SOCKET
import { StatusError } from '../../src/core/error.ts'
import { silentLog } from '../../src/core/log.ts'
import type { BoundMethod } from '../../src/rpc/service.ts'
import { serveGrpc } from '../../src/transport/grpc-server.ts'
import { listenUnix } from '../../src/transport/unix-socket.ts'

const unused = (): never => {
  throw new Error('not this kind')
}

const rows: BoundMethod[] = [
  {
    path: '/test.Echo/Unary',
    kind: 'unary',
    stream: unused,
    unary: async (request, call) => {
      if (request[0] === 1) {
        const details = [{ typeUrl: 'type.googleapis.com/a.B', value: Uint8Array.of(1) }]
        throw new StatusError('PERMISSION_DENIED', 'näh', { details })
      }
      if (request[0] === 3) await new Promise((resolve) => call.signal.addEventListener('abort', resolve))
      return request
    },
  },
  {
    path: '/test.Echo/Chat',
    kind: 'bidi',
    unary: unused,
    stream: async function* (requests) {
      for await (const request of requests) {
        yield request
        if (request[0] === 9) return
      }
    },
  },
]

const service = { methods: new Map(rows.map((row) => [row.path, row])), services: new Set(['test.Echo']) }
const server = serveGrpc({ service, log: silentLog, maxConnectionAgeMs: 60 })
let connections = 0
const listener = await listenUnix({
  path: process.argv[2]!,
  mode: 0o700,
  onConnection(socket) {
    connections++
    server.accept(socket, { via: 'local' })
  },
})
process.once('SIGTERM', async () => {
  await listener.close()
  await server.close(500)
  process.stdout.write(`${connections}\n`, () => process.exit(0))
})
console.log('listening')
