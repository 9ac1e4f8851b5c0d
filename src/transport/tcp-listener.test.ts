import { connect, createServer, type Server } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { clientAddress, listenTcp, networkOf } from './tcp-listener.ts'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

function newServer(): { server: Server; seen: Promise<string> } {
  const server = createServer()
  servers.push(server)
  const seen = new Promise<string>((resolve) => {
    server.on('connection', (socket) => {
      resolve(clientAddress(socket))
      socket.destroy()
    })
  })
  return { server, seen }
}

test.each([
  ['0.0.0.0', '127.0.0.1', '127.0.0.1'],
  ['0.0.0.0', '::1', '::1'],
  ['::', '127.0.0.1', '127.0.0.1'],
  ['::', '::1', '::1'],
  ['', '::1', '::1'],
  ['127.0.0.1', '127.0.0.1', '127.0.0.1'],
  ['::1', '::1', '::1'],
  ['localhost', '127.0.0.1', '127.0.0.1'],
])('a listener on "%s" is reached at %s, and knows who came as %s', async (host, target, client) => {
  const { server, seen } = newServer()
  const { port } = await listenTcp(server, host, 0)
  connect(port, target).on('error', () => {})
  expect(await seen).toBe(client)
})

test('a listener for one family is not reached through the other', async () => {
  const { server } = newServer()
  const { port } = await listenTcp(server, '127.0.0.1', 0)
  const code = await new Promise((resolve) => {
    connect(port, '::1').on('error', (error: NodeJS.ErrnoException) => resolve(error.code))
  })
  expect(code).toBe('ECONNREFUSED')
})

test('where it listens is said as Go says it', async () => {
  expect((await listenTcp(newServer().server, '0.0.0.0', 0)).text).toMatch(/^\[::\]:\d+$/)
  expect((await listenTcp(newServer().server, '127.0.0.1', 0)).text).toMatch(/^127\.0\.0\.1:\d+$/)
})

test('a port in use, an address of another machine and an unknown name are refused in Go’s words', async () => {
  const { port } = await listenTcp(newServer().server, '127.0.0.1', 0)
  const again = listenTcp(newServer().server, '127.0.0.1', port)
  await expect(again).rejects.toThrow(`listen tcp 127.0.0.1:${port}: bind: address already in use`)
  const elsewhere = listenTcp(newServer().server, '192.0.2.1', port)
  await expect(elsewhere).rejects.toThrow(`listen tcp 192.0.2.1:${port}: bind: cannot assign requested address`)
  const nowhere = listenTcp(newServer().server, 'none.invalid', 1)
  await expect(nowhere).rejects.toThrow('listen tcp none.invalid:1: lookup none.invalid: no such host')
})

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2::3', '20010db800010002::/64'],
  ['2001:db8:1:2:ffff:ffff:ffff:ffff', '20010db800010002::/64'],
  ['fe80::1%eth0', 'fe80000000000000::/64'],
  ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
  ['', ''],
])('%s shares its bounds with all of %s', (address, network) => {
  expect(networkOf(address)).toBe(network)
})
