import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { createServer, type Server } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { encodePem } from '../../src/core/pem.ts'
import { Cluster, eventually, holdX509, type ServerFiles, spiffe } from '../support/cluster.ts'
import { type HttpProxy, startProxy } from '../support/proxy/proxy-py.ts'
import { makeCertificate } from '../support/x509.ts'

const hasPython = spawnSync('python3', ['-m', 'venv', '--help']).status === 0
/** Loopback, but not an address that is never reached through a proxy. */
const FRONT = '127.0.0.2'
const LOGIN = 'agent:the-password-of-the-proxy'

describe.skipIf(!hasPython)(
  `an agent behind a proxy${hasPython ? '' : ' (skipped: there is no python3 with venv)'}`,
  () => {
    const inside = new Cluster()
    const clusters: Cluster[] = [inside]
    let server: ServerFiles
    let front: Server
    let proxy: HttpProxy
    let url: string
    let webCa: string

    beforeAll(async () => {
      const port = await freePort()
      front = await tlsFront(port)
      url = `https://${FRONT}:${(front.address() as AddressInfo).port}`
      server = await inside.serverFiles('server', {
        server: `experimental { http { bind_port = "${port}" audiences = ["${url}"] } }`,
      })
      await inside.startServer(server)
      proxy = await startProxy(inside.folder, LOGIN)
    }, 120_000)

    afterAll(async () => {
      for (const cluster of clusters) await cluster.stop()
      await proxy?.stop()
      front?.close()
    }, 30_000)

    /** Ends TLS with a certificate of a private CA, as the load balancer of a company would. */
    async function tlsFront(target: number): Promise<Server> {
      const now = Math.floor(Date.now() / 1000)
      const times = { notBefore: now - 60, notAfter: now + 3600 }
      const ca = await makeCertificate({ name: 'company', ca: true, ...times })
      const leaf = await makeCertificate({ name: 'front', ips: [[127, 0, 0, 2]], ...times }, ca)
      webCa = inside.path('company-ca.pem')
      writeFileSync(webCa, encodePem('CERTIFICATE', ca.der))
      const tls = createServer(
        { key: encodePem('PRIVATE KEY', leaf.key.exportPrivateKey()), cert: encodePem('CERTIFICATE', leaf.der) },
        (socket) => {
          const inner = connectTcp(target, '127.0.0.1')
          socket.pipe(inner).pipe(socket)
          socket.on('error', () => inner.destroy())
          inner.on('error', () => socket.destroy())
        },
      )
      await new Promise<void>((resolve) => tls.listen(0, FRONT, resolve))
      return tls
    }

    function behind(environment: Readonly<Record<string, string>>): Cluster {
      const cluster = new Cluster({ NODE_EXTRA_CA_CERTS: webCa, ...environment })
      clusters.push(cluster)
      return cluster
    }

    test('attests, gets SVIDs and hears of news through its tunnel', async () => {
      const outside = behind({ HTTPS_PROXY: `http://${LOGIN}@127.0.0.1:${proxy.port}` })
      const agent = outside.agentFiles('agent', server, { agent: `server_url = "${url}"` })
      await outside.startAgent(agent, server, await outside.token(server, 'agent'))
      await inside.entry(server, 'agent', 'first')
      await outside.jwt(agent, 'anybody')
      const workload = await holdX509(agent.socket)
      const ids = () => workload.updates.at(-1)?.svids.map((svid) => svid.spiffeId)
      await eventually(async () => expect(ids()).toEqual([spiffe('first')]))
      const began = performance.now()
      await inside.entry(server, 'agent', 'second')
      await eventually(async () => expect(ids()).toContain(spiffe('second')))
      const tookMs = performance.now() - began
      await workload.stop()
      console.log(`an entry is with a workload behind a proxy ${tookMs.toFixed(0)} ms after it was asked for`)
      expect(tookMs).toBeLessThan(2_000)
      await outside.stop()
      await eventually(async () => expect(proxy.tunnels()).toContain(url.slice('https://'.length)))
      expect(outside.log('agent')).not.toContain('the-password')
    }, 60_000)

    test.each<[string, () => Record<string, string>, RegExp]>([
      [
        'the proxy refuses',
        () => ({ HTTPS_PROXY: `http://agent:wrong-secret@127.0.0.1:${proxy.port}` }),
        /407|[Pp]roxy/,
      ],
      [
        'nobody listens as proxy',
        () => ({ HTTPS_PROXY: 'http://agent:wrong-secret@127.0.0.1:9' }),
        /ECONNREFUSED|connect/,
      ],
      [
        'the web certificate is of an unknown CA',
        () => ({ HTTPS_PROXY: `http://${LOGIN}@127.0.0.1:${proxy.port}`, NODE_EXTRA_CA_CERTS: '' }),
        /self-signed|unable to (get|verify)|UnknownIssuer/,
      ],
    ])(
      'says so if %s',
      async (_, environment, reason) => {
        const outside = behind(environment())
        const agent = outside.agentFiles('agent', server, { agent: `server_url = "${url}"` })
        writeFileSync(outside.path('server-bundle.pem'), await inside.must(server, 'bundle', 'show'))
        const args = ['run', '-config', agent.config, '-joinToken', 'a-token']
        outside.processes.start('agent', 'turret-agent', args, outside.path('agent.log'), undefined)
        await eventually(async () => expect(outside.log('agent')).toMatch(reason))
        expect(outside.log('agent')).not.toMatch(/wrong-secret|the-password/)
        await outside.stop()
      },
      60_000,
    )
  },
)
