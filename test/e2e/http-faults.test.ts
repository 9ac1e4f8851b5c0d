import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { Cluster } from '../support/cluster.ts'

// What no HTTP client would send, to a real server process, byte by byte.

const PATH = '/spire.api.server.bundle.v1.Bundle/GetBundle'
const cluster = new Cluster()
let port: number
let pid: number

beforeAll(async () => {
  port = await freePort()
  const server = await cluster.serverFiles('server', {
    server: `experimental { http { bind_port = "${port}" audiences = ["http://127.0.0.1:${port}"] } }`,
  })
  pid = (await cluster.startServer(server)).pid!
}, 30_000)

afterAll(() => cluster.stop(), 30_000)

afterEach(async () => {
  const answer = await fetch(`http://127.0.0.1:${port}${PATH}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{}',
  })
  expect(answer.status).toBe(200)
  expect(cluster.log('server')).not.toMatch(/level=(error|fatal)|\n {4}at /)
})

/** Opens a connection, writes, and reads until the server closes it or says enough. */
async function talk(
  parts: readonly (string | Uint8Array)[],
  options: { readonly end?: boolean } = {},
): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let answer = ''
  const closed = new Promise<void>((resolve) => {
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1')
      const head = answer.indexOf('\r\n\r\n')
      const length = Number(/content-length: (\d+)/i.exec(answer)?.[1] ?? Number.NaN)
      if (answer.endsWith('\r\n0\r\n\r\n') || (head >= 0 && answer.length >= head + 4 + length)) resolve()
    })
    // A server that has answered may reset what is still being sent.
    socket.on('error', () => resolve())
    socket.on('close', () => resolve())
  })
  for (const part of parts) await new Promise<void>((resolve) => socket.write(part, () => resolve()))
  if (options.end) socket.end()
  await closed
  socket.destroy()
  return answer
}

const head = (...headers: readonly string[]) =>
  [`POST ${PATH} HTTP/1.1`, 'host: x', 'content-type: application/proto', ...headers, '', ''].join('\r\n')

/** Memory of the server process, MiB. */
const residentMib = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024

test.each<[string, readonly (string | Uint8Array)[], RegExp]>([
  [
    'a declared body of a terabyte',
    [head('content-length: 1099511627776')],
    /^HTTP\/1.1 429 [\s\S]*resource_exhausted/,
  ],
  [
    'an undeclared body of eight megabytes',
    [head('transfer-encoding: chunked'), ...Array(128).fill(`10000\r\n${'x'.repeat(0x10000)}\r\n`), '0\r\n\r\n'],
    /^(HTTP\/1.1 429 [\s\S]*resource_exhausted|)/,
  ],
  ['a length that is none', [head('content-length: abc')], /^HTTP\/1.1 400 /],
  ['two lengths', [head('content-length: 1', 'content-length: 2'), 'xx'], /^HTTP\/1.1 400 /],
  ['a length and chunks', [head('content-length: 1', 'transfer-encoding: chunked'), '0\r\n\r\n'], /^HTTP\/1.1 400 /],
  ['chunks that are none', [head('transfer-encoding: chunked'), 'zz\r\n'], /^HTTP\/1.1 400 |invalid_argument/],
  ['headers of a megabyte', [head(`x: ${'y'.repeat(1 << 20)}`)], /^(HTTP\/1.1 431 |)/],
  ['no HTTP', ['\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'], /^HTTP\/1.1 400 /],
  ['HTTP/2', ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'], /^HTTP\/1.1 (400|505) |^$/],
  ['a target that is no URL', ['POST //[ HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n'], /^HTTP\/1.1 4\d\d /],
  ['a host that is none', [`POST ${PATH} HTTP/1.1\r\nhost: [\r\ncontent-length: 0\r\n\r\n`], /^HTTP\/1.1 4\d\d /],
])('%s is refused', async (_, parts, answer) => {
  expect(await talk(parts)).toMatch(answer)
})

test.each([0, 10, 99])('a body that breaks off after %i of 100 bytes is no request', async (length) => {
  const answer = await talk([head('content-length: 100'), 'x'.repeat(length)], { end: true })
  expect(answer).not.toMatch(/^HTTP\/1.1 200/)
})

test('a thousand connections that send half a request cost little and keep nobody out', async () => {
  const before = residentMib()
  const sockets = await Promise.all(
    Array.from(
      { length: 1000 },
      () =>
        new Promise<Socket>((resolve, reject) => {
          const socket = connect(port, '127.0.0.1', () => {
            socket.write(head('content-length: 100'), () => resolve(socket))
          })
          socket.once('error', reject)
        }),
    ),
  )
  const answer = await fetch(`http://127.0.0.1:${port}/ready`)
  expect(answer.status).toBe(200)
  expect(residentMib() - before).toBeLessThan(80)
  for (const socket of sockets) socket.destroy()
})
