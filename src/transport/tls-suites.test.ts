import { spawn, spawnSync } from 'node:child_process'
import { text } from 'node:stream/consumers'
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

// The clients of Deno and Bun do not offer what they are told to, so openssl is the client on every runtime.
const OPENSSL = spawnSync('openssl', ['version']).status === 0
const NOTE = OPENSSL ? '' : ' (skipped: there is no openssl)'

/** The suite that a client with this offer gets; undefined if it is refused. */
async function suiteOf(...offer: string[]): Promise<string | undefined> {
  const args = ['s_client', '-connect', `127.0.0.1:${listener.port}`, '-alpn', 'h2', ...offer]
  const client = spawn('openssl', args, { stdio: ['pipe', 'pipe', 'ignore'] })
  client.stdin.end()
  const suite = /^New, .*, Cipher is (.+)$/m.exec(await text(client.stdout))?.[1]
  return suite === '(NONE)' ? undefined : suite
}

const ANY_1_3 = /^TLS_(AES_128_GCM_SHA256|AES_256_GCM_SHA384|CHACHA20_POLY1305_SHA256)$/
const ANY_1_2 = /^ECDHE-ECDSA-(AES128-GCM-SHA256|AES256-GCM-SHA384|CHACHA20-POLY1305)$/
/** Deno's rustls takes the client's order of suites, as Bun's BoringSSL does for TLS 1.3. */
const { deno, bun } = process.versions
const AES_128_1_3 = deno || bun ? ANY_1_3 : /^TLS_AES_128_GCM_SHA256$/
const AES_128_1_2 = deno ? ANY_1_2 : /^ECDHE-ECDSA-AES128-GCM-SHA256$/

test.skipIf(!OPENSSL).each<[string, string[], RegExp]>([
  ['TLS 1.3', ['-tls1_3'], AES_128_1_3],
  [
    'TLS 1.3 that would rather have AES-256',
    ['-tls1_3', '-ciphersuites', 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256'],
    AES_128_1_3,
  ],
  ['TLS 1.2', ['-tls1_2'], AES_128_1_2],
  ['P-256 alone', ['-tls1_3', '-groups', 'P-256'], AES_128_1_3],
])(`a client with %s is served${NOTE}`, async (_, offer, suite) => expect(await suiteOf(...offer)).toMatch(suite))

const WEAK = ['-cipher', 'ALL:@SECLEVEL=0']

test.skipIf(!OPENSSL).each<[string, string[]]>([
  ['CBC', ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-SHA256']],
  ['CBC and SHA-1', ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-SHA']],
  ['no forward secrecy', ['-tls1_2', '-cipher', 'AES128-GCM-SHA256']],
  ['key exchange over a finite field', ['-tls1_3', '-groups', 'ffdhe2048']],
  ['TLS 1.1', ['-tls1_1', ...WEAK]],
  ['TLS 1.0', ['-tls1', ...WEAK]],
])(`a client with nothing but %s is refused${NOTE}`, async (_, offer) => {
  expect(await suiteOf(...offer)).toBeUndefined()
})
