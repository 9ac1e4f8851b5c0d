import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { StatusError } from '../../src/core/error.ts'
import { silentLog } from '../../src/core/log.ts'
import type { BoundMethod } from '../../src/rpc/service.ts'
import { serveGrpc } from '../../src/transport/grpc-server.ts'
import { listenUnix } from '../../src/transport/unix-socket.ts'

const run = promisify(execFile)
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

// A machine without Go has grpc-js as its only foreign client, in src/transport/grpc.test.ts.
test.runIf(spawnSync('go', ['version']).status === 0)(
  'grpc-go gets the answers of a grpc-go server, over connections that age every 60 ms',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'turret-grpc-go-'))
    const client = join(folder, 'client')
    await run('go', ['build', '-o', client, '.'], { cwd: join(import.meta.dirname, 'go', 'grpcclient') })
    const service = { methods: new Map(rows.map((row) => [row.path, row])), services: new Set(['test.Echo']) }
    const server = serveGrpc({ service, log: silentLog, maxConnectionAgeMs: 60 })
    let connections = 0
    const listener = await listenUnix({
      path: join(folder, 'api.sock'),
      mode: 0o700,
      onConnection(socket) {
        connections++
        server.accept(socket, { via: 'local' })
      },
    })
    const { stdout } = await run(client, [`unix:${listener.address}`])
    await listener.close()
    await server.close(500)
    rmSync(folder, { recursive: true })
    expect(stdout.trim().split('\n')).toEqual([
      'echo: OK "" details=0 bytes=2',
      'big: OK "" details=0 bytes=4000000',
      'too big: ResourceExhausted "grpc: received message larger than max (4194305 vs. 4194304)" details=0 bytes=0',
      'details: PermissionDenied "näh" details=1 bytes=0',
      'method: Unimplemented "unknown method No for service test.Echo" details=0 bytes=0',
      'service: Unimplemented "unknown service test.No" details=0 bytes=0',
      'gzip: Unimplemented "grpc: Decompressor is not installed for grpc-encoding \\"gzip\\"" details=0 bytes=0',
      'deadline: DeadlineExceeded "context deadline exceeded" details=0 bytes=0',
      'chat: [5]',
      'chat: [9]',
      'chat end: EOF',
      'failed of 2000: 0',
    ])
    expect(connections).toBeGreaterThan(1)
  },
  120_000,
)
