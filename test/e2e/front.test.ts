import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { encodePem } from '../../src/core/pem.ts'
import { Cluster, type ServerFiles, spiffe } from '../support/cluster.ts'
import { startNginx, type TlsFront } from '../support/proxy/nginx.ts'
import { makeCertificate } from '../support/x509.ts'

// nginx ends TLS with client certificates and passes them on as a load balancer of AWS does: URL-encoded PEM.

const SECRET = 'front-secret-front-secret-front-secret'
const COUNT = '/spire.api.server.entry.v1.Entry/CountEntries'
const why =
  spawnSync('python3', ['-m', 'venv', '--help']).status !== 0
    ? ' (skipped: there is no python3 with venv)'
    : process.platform !== 'linux' || process.arch !== 'x64'
      ? ' (skipped: there is no nginx for this machine)'
      : ''

interface Identity {
  readonly cert: string
  readonly key: string
}

describe.skipIf(why !== '')(`behind nginx with client certificates${why}`, () => {
  const cluster = new Cluster()
  let server: ServerFiles
  let front: TlsFront
  let port: number
  let direct: number
  let admin: Identity

  beforeAll(async () => {
    port = await freePort()
    direct = await freePort()
    server = await cluster.serverFiles('server', {
      server: `admin_ids = ["${spiffe('admin')}"] audit_log_enabled = true
  experimental { http {
    bind_port = ${direct}
    audiences = ["https://127.0.0.1:${port}"]
    fronts "nginx" {
      carrier = "aws_alb_verify" addresses = ["127.0.0.1"] secret = "${SECRET}" address_header = "X-Forwarded-For"
    }
  } }`,
    })
    await cluster.startServer(server)
    admin = await minted('admin')
    const now = Math.floor(Date.now() / 1000)
    const web = await makeCertificate({ name: 'web', ips: [[127, 0, 0, 1]], notBefore: now - 60, notAfter: now + 3600 })
    const [certificate, key] = [cluster.path('web.pem'), cluster.path('web.key')]
    writeFileSync(certificate, encodePem('CERTIFICATE', web.der))
    writeFileSync(key, encodePem('PRIVATE KEY', web.key.exportPrivateKey()), { mode: 0o600 })
    front = await startNginx({
      folder: cluster.path('nginx'),
      port,
      target: direct,
      certificate,
      key,
      headers: [
        'X-Amzn-Mtls-Clientcert-Leaf $ssl_client_escaped_cert',
        'X-Amzn-Mtls-Clientcert ""',
        'X-Forwarded-For $proxy_add_x_forwarded_for',
        `Turret-Front-Secret ${SECRET}`,
      ],
    })
  }, 120_000)

  afterAll(async () => {
    await front?.stop()
    await cluster.stop()
  }, 30_000)

  async function minted(path: string): Promise<Identity> {
    const folder = cluster.path(`minted-${path}`)
    mkdirSync(folder)
    await cluster.must(server, 'x509', 'mint', '-spiffeID', spiffe(path), '-write', folder)
    return { cert: readFileSync(`${folder}/svid.pem`, 'utf8'), key: readFileSync(`${folder}/key.pem`, 'utf8') }
  }

  function status(identity?: Identity, headers: Readonly<Record<string, string>> = {}): Promise<number> {
    return new Promise((resolve, reject) => {
      const options = {
        host: '127.0.0.1',
        port,
        path: COUNT,
        method: 'POST',
        // Which web certificate the front has is not what is tested.
        rejectUnauthorized: false,
        headers: { 'content-type': 'application/json', ...headers },
        ...identity,
      }
      const sent = request(options, (response) => {
        response.resume()
        response.once('end', () => resolve(response.statusCode!))
      })
      sent.once('error', reject)
      sent.end('{}')
    })
  }

  test('who showed nginx the SVID of an administrator is one, at the address that nginx saw', async () => {
    expect(await status(admin, { 'x-forwarded-for': '203.0.113.7' })).toBe(200)
    expect(cluster.log('server')).toMatch(/caller_addr=127\.0\.0\.1 .*caller_front=nginx/)
    expect(cluster.log('server')).not.toContain(SECRET)
  })

  test('who showed it nothing, or a copy in a header, is nobody', async () => {
    expect(await status()).toBe(403)
    const copy = encodeURIComponent(admin.cert)
    expect(await status(undefined, { 'x-amzn-mtls-clientcert-leaf': copy })).toBe(403)
    expect(await status(undefined, { 'x-amzn-mtls-clientcert': copy })).toBe(403)
    expect(await status(undefined, { 'client-cert': ':AAAA:' })).toBe(401)
  })

  test('a certificate that nginx takes but the bundle does not vouch for is refused', async () => {
    const now = Math.floor(Date.now() / 1000)
    const times = { notBefore: now - 60, notAfter: now + 3600 }
    const own = await makeCertificate({ name: 'x', uris: [spiffe('admin')], ...times })
    const cert = encodePem('CERTIFICATE', own.der)
    expect(await status({ cert, key: encodePem('PRIVATE KEY', own.key.exportPrivateKey()) })).toBe(401)
    expect(await status(await minted('workload'))).toBe(403)
  })

  test('the same header from somebody else is refused', async () => {
    const headers = {
      'content-type': 'application/json',
      'x-amzn-mtls-clientcert-leaf': encodeURIComponent(admin.cert),
    }
    const response = await fetch(`http://127.0.0.1:${direct}${COUNT}`, { method: 'POST', headers, body: '{}' })
    expect(response.status).toBe(401)
  })
})
