import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { boundConnections } from './http-connections.ts'

/** What a connection hears until it has an answer, or is ended. */
async function answerTo(socket: Socket): Promise<string> {
  let heard = ''
  socket.on('error', () => {})
  socket.on('data', (piece) => {
    heard += piece
  })
  await new Promise((resolve) => socket.once('data', resolve).once('close', resolve))
  return heard.split('\r\n')[0]!
}

test('connections over the bound of their network hear 503, others go on, and who leaves makes room', async () => {
  const server = createServer((_, response) => response.end('served'))
  boundConnections(server, { perHolder: 2, inAll: 10 })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const dial = async () => {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    return socket
  }
  const ask = (socket: Socket) => {
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    return answerTo(socket)
  }
  // Bun shows a connection to nobody before its first request.
  const { bun } = process.versions
  const [first, silent] = [await dial(), await dial()]
  expect(await ask(first)).toBe('HTTP/1.1 200 OK')
  if (bun) await ask(silent)
  const third = await dial()
  expect(await (bun ? ask(third) : answerTo(third))).toBe('HTTP/1.1 503 Service Unavailable')
  expect(await ask(first)).toBe('HTTP/1.1 200 OK')
  silent.destroy()
  await expect.poll(async () => ask(await dial())).toBe('HTTP/1.1 200 OK')
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})
