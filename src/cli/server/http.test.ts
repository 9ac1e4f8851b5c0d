import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { freePort } from '../../../examples/nested/free-ports.ts'
import { testServer } from '../../../test/support/server.ts'
import type { HttpOptions } from '../../config/http.ts'
import { type Log, silentLog } from '../../core/log.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { nodeVerifier } from '../../plugins/signer.ts'
import type { Server } from '../../server/server.ts'
import { serveHttp } from './http.ts'

let stop = async () => {}
afterEach(() => stop())

async function listener(changes: Partial<HttpOptions> = {}) {
  const { deps, service, clock } = await testServer()
  const bindPort = await freePort()
  const warnings: string[] = []
  const log: Log = { ...silentLog, warn: (message) => void warnings.push(message) }
  const bindAddress = '127.0.0.1'
  const plain = {
    audiences: ['https://id'],
    issuer: undefined,
    operatorKeys: [],
    oidcAdmins: [],
    exchange: [],
    fronts: [],
    plainJoinTokens: false,
  }
  stop = await serveHttp(
    { bindAddress, bindPort, ...plain, ...changes },
    {
      server: { deps, adminService: service, bundle: deps.bundle } as unknown as Server,
      keyManager: {} as KeyManager,
      verify: nodeVerifier(),
      clock,
      log,
    },
  )
  /** The status of what is sent just so. */
  const send = (target: string, headers = '') =>
    new Promise<number>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: bindPort })
      socket.on('error', reject)
      socket.once('data', (answer) => {
        resolve(Number(/^HTTP\/1.1 (\d+)/.exec(String(answer))?.[1]))
        socket.destroy()
      })
      socket.write(`GET ${target} HTTP/1.1\r\nHost: id\r\n${headers}\r\n`)
    })
  return { send, warnings }
}

test.each([
  '/bundle/../spire.api.server.agent.v1.Agent/AttestAgent',
  '/bundle/%2e%2e/keys',
  '/bundle/.%2E/keys',
  '/./keys',
  '/bundle\\..\\keys',
  'http://id/keys',
  'http://other/keys',
  '/keys#x',
])('%s is no other name of a path that a front lets through', async (target) => {
  const { send } = await listener()
  expect(await send(target)).toBe(400)
  expect(await send('/keys')).toBe(200)
})

test('it says at the start, or as soon as a proxy is seen, that all clients look like one', async () => {
  const { warnings } = await listener()
  expect(warnings).toEqual([expect.stringContaining('look like one')])
  await stop()
  const open = await listener({ bindAddress: '0.0.0.0' })
  expect(open.warnings).toEqual([])
  for (let count = 0; count < 2; count++) await open.send('/keys', 'X-Forwarded-For: 192.0.2.1\r\n')
  expect(open.warnings).toHaveLength(1)
  await stop()
  const front = { name: 'nginx', carrier: 'none', addresses: ['127.0.0.1'], addressHeader: 'x-forwarded-for' } as const
  const known = await listener({ fronts: [{ ...front, secret: undefined, secretHeader: undefined }] })
  await known.send('/keys', 'X-Forwarded-For: 192.0.2.1\r\n')
  expect(known.warnings).toEqual([])
})
