import { connect } from 'node:tls'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { makeCertificate } from '../../test/support/x509.ts'
import { silentLog } from '../core/log.ts'
import { listenTls, type TlsListener } from './tls.ts'

let listener: TlsListener
beforeAll(async () => {
  const { der, key } = await makeCertificate({ name: 'server', uris: ['spiffe://example.org/spire/server'] })
  listener = await listenTls({
    host: '127.0.0.1',
    port: 0,
    identity: { certificates: [der], privateKey: key.exportPrivateKey() },
    log: silentLog,
    verifyPeer: () => Promise.reject(new Error('nobody')),
    onConnection: (socket) => socket.resume(),
  })
})
afterAll(() => listener.close())

interface Offer {
  readonly minVersion?: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'
  readonly maxVersion?: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'
  readonly ciphers?: string
  readonly ecdhCurve?: string
}

/** The suite that a client with this offer gets; undefined if it is refused. */
function suiteOf(offer: Offer): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({
      host: '127.0.0.1',
      port: listener.port,
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
      ...offer,
    })
    socket.once('secureConnect', () => {
      resolve(socket.getCipher().name)
      socket.destroy()
    })
    socket.once('error', () => resolve(undefined))
  })
}

const TLS_1_2 = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const

test.each<[string, Offer, string]>([
  ['TLS 1.3', {}, 'TLS_AES_128_GCM_SHA256'],
  [
    'TLS 1.3 that would rather have AES-256',
    { ciphers: 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256' },
    'TLS_AES_128_GCM_SHA256',
  ],
  ['TLS 1.2', TLS_1_2, 'ECDHE-ECDSA-AES128-GCM-SHA256'],
  ['P-256 alone', { ecdhCurve: 'P-256' }, 'TLS_AES_128_GCM_SHA256'],
])('a client with %s is served', async (_, offer, suite) => expect(await suiteOf(offer)).toBe(suite))

test.each<[string, Offer]>([
  ['CBC', { ...TLS_1_2, ciphers: 'ECDHE-ECDSA-AES128-SHA256' }],
  ['CBC and SHA-1', { ...TLS_1_2, ciphers: 'ECDHE-ECDSA-AES128-SHA' }],
  ['no forward secrecy', { ...TLS_1_2, ciphers: 'AES128-GCM-SHA256' }],
  ['key exchange over a finite field', { minVersion: 'TLSv1.3', ecdhCurve: 'ffdhe2048' }],
  ['TLS 1.1', { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }],
])('a client with nothing but %s is refused', async (_, offer) => expect(await suiteOf(offer)).toBeUndefined())
