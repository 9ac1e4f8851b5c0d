import { connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Made, makeCertificate } from '../../test/support/x509.ts'
import { silentLog } from '../core/log.ts'
import { encodePem } from '../core/pem.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'
import { listenTls, type TlsListener } from './tls.ts'

// A session that is taken up again brings no certificate to look at: SPIRE once let agents in that way whose root was gone from the bundle.

let root: Made
let client: Made
let listener: TlsListener
let trusted = true
const chains: number[] = []

beforeAll(async () => {
  root = await makeCertificate({ name: 'root', ca: true })
  client = await makeCertificate({ name: 'client', uris: ['spiffe://example.org/web'] }, root)
  const server = await makeCertificate({ name: 'server' }, root)
  listener = await listenTls({
    host: '127.0.0.1',
    port: 0,
    log: silentLog,
    identity: { certificates: [server.der], privateKey: server.key.exportPrivateKey() },
    async verifyPeer(chain) {
      chains.push(chain.length)
      if (!trusted) throw new Error('signed by unknown authority')
      return { spiffeId: 'spiffe://example.org/web' as SpiffeId, serialNumber: '1', expiresAt: 4_000_000_000 }
    },
    onConnection: (socket) => void socket.end('in'),
  })
})
afterAll(() => listener.close())

/** Connects, reads to the end, and keeps the session, if one is offered. */
async function visit(maxVersion: 'TLSv1.2' | 'TLSv1.3', session?: Buffer) {
  let offered = session
  let text = ''
  let reused = false
  const socket: TLSSocket = connect({
    host: '127.0.0.1',
    port: listener.port,
    ALPNProtocols: ['h2'],
    rejectUnauthorized: false,
    maxVersion,
    cert: encodePem('CERTIFICATE', client.der),
    key: encodePem('PRIVATE KEY', client.key.exportPrivateKey()),
    ...(session ? { session } : {}),
  })
  socket.on('session', (found) => {
    offered = found
  })
  socket.on('secureConnect', () => {
    reused = socket.isSessionReused()
  })
  socket.on('data', (data) => {
    text += String(data)
  })
  await new Promise<void>((resolve) => socket.on('error', () => {}).once('close', () => resolve()))
  return { text, session: offered, reused }
}

test.each(['TLSv1.2', 'TLSv1.3'] as const)(
  'whoever comes back with a session of %s is verified anew',
  async (version) => {
    chains.length = 0
    trusted = true
    const first = await visit(version)
    expect(first.text).toBe('in')
    const again = await visit(version, first.session)
    expect(again.text).toBe('in')
    trusted = false
    expect((await visit(version, again.session)).text).toBe('')
    expect(chains).toHaveLength(3)
    expect(Math.min(...chains)).toBeGreaterThan(0)
    // Deno takes sessions up all the same, with the chain of the first handshake.
    if (!('deno' in process.versions)) expect(again.reused).toBe(false)
  },
)
