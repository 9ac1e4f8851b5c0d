import { afterEach, expect, test } from 'vitest'
import type { ConnectOptions } from '../../agent/server-connection.ts'
import { type Made, makeCertificate } from '../../test/support/x509.ts'
import { silentLog } from '../core/log.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { nodeVerifier } from '../plugins/signer.ts'
import type { BoundMethod } from '../rpc/service.ts'
import { type GrpcServer, serveGrpc } from '../transport/grpc-server.ts'
import { listenTls } from '../transport/tls.ts'
import { serverConnections } from './server-connections.ts'

const raw = {
  encode: (bytes: Uint8Array) => ({ finish: () => bytes }),
  decode: (bytes: Uint8Array) => new Uint8Array(bytes),
}
const ECHO: BoundMethod = {
  path: '/test.Echo/Unary',
  kind: 'unary',
  stream: () => {
    throw new Error('not this kind')
  },
  unary: async (request) => request,
}

/** Certificates are good from an hour ago for an hour: the connections look at the clock of the machine. */
const now = Math.floor(Date.now() / 1000)
const TIMES = { notBefore: now - 3600, notAfter: now + 3600 }
const root = await makeCertificate({ name: 'root', ca: true, ...TIMES })
const other = await makeCertificate({ name: 'other', ca: true, ...TIMES })
const server = (uri: string, issuer?: Made, times = TIMES) =>
  makeCertificate({ name: 'server', uris: [uri], ...times }, issuer)
const ID = 'spiffe://example.org/spire/server'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

/** What a call of an agent comes to with a server that shows this certificate. */
async function outcome({ der, key }: Made, roots: ConnectOptions['roots']): Promise<string> {
  const grpc: GrpcServer = serveGrpc({
    service: { methods: new Map([[ECHO.path, ECHO]]), services: new Set(['test.Echo']) },
    log: silentLog,
  })
  const listener = await listenTls({
    host: '127.0.0.1',
    port: 0,
    identity: { certificates: [der], privateKey: key.exportPrivateKey() },
    log: silentLog,
    verifyPeer: () => Promise.reject(new Error('nobody')),
    onConnection: (socket, peer) => grpc.accept(socket, peer),
  })
  closing.push(() => Promise.all([listener.close(), grpc.close(100)]))
  const place = {
    trustDomain: parseTrustDomainName('example.org'),
    serverAddress: '127.0.0.1',
    serverPort: listener.port,
    serverUrl: undefined,
    serverAudience: undefined,
    requirePqKem: false,
  }
  const channel = await serverConnections(place, nodeVerifier())({ roots })
  try {
    await channel.unary({ path: ECHO.path, request: raw, response: raw }, Uint8Array.of(1), { timeoutMs: 5000 })
    return 'OK'
  } catch (error) {
    return (error as Error).message
  } finally {
    channel.close()
  }
}

test('an agent talks to the server of its trust domain below its roots', async () => {
  expect(await outcome(await server(ID, root), () => [other.der, root.der])).toBe('OK')
})

test.each([
  ['below another root', async () => server(ID, other), /certificate signed by unknown authority/],
  ['that signs itself', async () => server(ID), /certificate signed by unknown authority/],
  [
    'that is a workload',
    async () => server('spiffe://example.org/w', root),
    /unexpected ID "spiffe:\/\/example.org\/w"/,
  ],
  ['that is an agent', async () => server('spiffe://example.org/spire/agent/a', root), /unexpected ID/],
  [
    'of another trust domain',
    async () => server('spiffe://other.org/spire/server', root),
    /no X.509 bundle for trust domain "other.org"/,
  ],
  [
    'whose certificate ended',
    async () => server(ID, root, { notBefore: now - 7200, notAfter: now - 3600 }),
    /certificate has expired or is not yet valid/,
  ],
])('it does not talk to a server %s', async (_, made, message) => {
  expect(await outcome(await made(), () => [root.der])).toMatch(message)
})

test('without any root it talks to nobody', async () => {
  expect(await outcome(await server(ID, root), () => [])).toMatch(/certificate signed by unknown authority/)
})

test('an insecure bootstrap believes whatever names itself the server of the trust domain, and nothing else', async () => {
  expect(await outcome(await server(ID), () => undefined)).toBe('OK')
  for (const id of ['spiffe://example.org/w', 'spiffe://example.org/spire/agent/a', 'spiffe://other.org/spire/server'])
    expect(await outcome(await server(id), () => undefined)).toContain(
      `expected server SPIFFE ID "${ID}"; got ["${id}"]`,
    )
  expect(await outcome(await makeCertificate({ name: 'no ID' }), () => undefined)).toContain(
    `expected server SPIFFE ID "${ID}"; got []`,
  )
})
