// Calls test/interop/go/grpc/server from the runtime that runs this file and prints how the calls ended. usage: echo-client.ts SOCKET
import { connect } from '../../src/transport/grpc-client.ts'

const bytes = { encode: (value: Uint8Array) => ({ finish: () => value }), decode: (value: Uint8Array) => value.slice() }
const unary = { path: '/test.Echo/Unary', request: bytes, response: bytes }
const client = await connect({ target: `unix://${process.argv[2]}` })
const failures: string[] = []
const callOften = async (): Promise<void> => {
  for (let i = 0; i < 500; i++) {
    const request = new Uint8Array(1 + ((i * 37) % 3000)).fill(i)
    try {
      const response = await client.unary(unary, request, { timeoutMs: 10_000 })
      if (Buffer.compare(request, response) !== 0) failures.push('another answer')
    } catch (error) {
      failures.push(String(error))
    }
  }
}
await Promise.all(Array.from({ length: 8 }, callOften))
client.close()
console.log(`failed of 4000: ${failures.length} ${failures[0] ?? ''}`.trim())
