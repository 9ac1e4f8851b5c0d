import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../examples/nested/free-ports.ts'
import { type Certificate, parseCertificate } from '../../src/core/certificate.ts'
import { certificatesFromPem } from '../../src/core/pem.ts'
import { connect } from '../../src/transport/grpc-client.ts'
import type { HttpIdentity } from '../../src/transport/http-signature.ts'
import { Cluster, type ServerFiles, spiffe } from '../support/cluster.ts'
import { channelTo, seed } from '../support/edge.ts'
import type { Runtime } from '../support/runtimes.ts'
import { mintIdentity } from '../support/signed-fetch.ts'
import { besideWorker, startWorker } from '../support/worker.ts'
import type { Plane } from './wire/script.ts'

/** Something that can start servers nobody used before. */
export interface Host {
  readonly name: string
  readonly planes: readonly Plane['kind'][]
  /** Starts a server and opens one of its planes. */
  start(plane: Plane['kind']): Promise<{ readonly plane: Plane; stop(): Promise<void> }>
}

/** `turret-server run` on a runtime: gRPC over TCP and its socket, or HTTP. */
export function fullHost(runtime: Runtime): Host {
  return {
    name: runtime,
    planes: ['grpc', 'http'],
    async start(kind) {
      const cluster = new Cluster({ TURRET_RUNTIME: runtime })
      const httpPort = await freePort()
      const url = `http://127.0.0.1:${httpPort}`
      const http = kind === 'http' ? `http { bind_port = "${httpPort}" audiences = ["${url}"] }` : ''
      const server = await cluster.serverFiles('server', {
        server: `jwt_issuer = "https://id.example.org"
  admin_ids = ["${spiffe('admin')}"]
  experimental { feature_flags = ["wit-svid"]
    ${http} }`,
      })
      await cluster.startServer(server)
      const roots = certificatesFromPem(await cluster.must(server, 'bundle', 'show')).map(parseCertificate)
      const plane =
        kind === 'grpc'
          ? await grpcPlane(server, roots)
          : httpPlane({ url, roots }, await mintIdentity(cluster, server, 'admin'))
      return {
        plane,
        async stop() {
          plane.admin.close()
          await cluster.stop()
        },
      }
    },
  }
}

async function grpcPlane(server: ServerFiles, roots: readonly Certificate[]): Promise<Plane> {
  const admin = await connect({ target: `unix://${server.socket}` })
  return {
    kind: 'grpc',
    admin,
    as: (identity) =>
      connect({
        target: `dns:///127.0.0.1:${server.port}`,
        tls: {
          identity: () => identity && { certificates: identity.chain, privateKey: identity.signer.exportPrivateKey!() },
          verifyServer: ([leaf]) => {
            const [uri] = parseCertificate(leaf!).uris
            if (uri !== spiffe('spire/server') || roots.length === 0) throw new Error(`unexpected server ${uri}`)
          },
        },
      }),
  }
}

/** The HTTP plane of a server, on whatever it runs. */
function httpPlane(place: Parameters<typeof channelTo>[0], admin: HttpIdentity): Plane {
  return { kind: 'http', admin: channelTo(place, admin), as: async (identity) => channelTo(place, identity) }
}

/** `workers/index.ts` in workerd, with its D1. There is no gRPC. */
export function workerd(): Host {
  return {
    name: 'workerd',
    planes: ['http'],
    async start() {
      const folder = mkdtempSync(join(tmpdir(), 'turret-workerd-'))
      const { admin, roots } = await besideWorker(folder, seed)
      const worker = await startWorker(folder)
      return {
        plane: httpPlane({ url: worker.url, roots, audience: 'https://id.example.org' }, admin),
        async stop() {
          await worker.stop()
          rmSync(folder, { recursive: true, force: true })
        },
      }
    },
  }
}
