import { randomBytes } from 'node:crypto'
import type { Server as HttpServer } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import type { HttpOptions } from '../../config/http.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { type HttpAppOptions, httpApp, SEAL_PURPOSE } from '../../http/app.ts'
import { oidcAdmins } from '../../plugins/oidc/admins.ts'
import type { Server } from '../../server/server.ts'
import { clientAddress, listenTcp } from '../../transport/tcp-listener.ts'

/** Serves the HTTP app on a listener of Node. @returns stops it */
export async function serveHttp(
  options: HttpOptions,
  plane: { readonly server: Server; readonly keyManager: KeyManager } & Pick<
    HttpAppOptions,
    'verify' | 'clock' | 'log'
  >,
): Promise<() => Promise<void>> {
  const app = httpApp({
    ...plane,
    audiences: options.audiences,
    issuer: options.issuer,
    operatorKeys: options.operatorKeys,
    fronts: options.fronts,
    verifyOperatorToken: options.oidcAdmins.length === 0 ? undefined : oidcAdmins(options.oidcAdmins, plane),
    sealSecret: (await plane.keyManager.shared?.secret?.(SEAL_PURPOSE)) ?? randomBytes(32),
    uses: plane.server.deps.store.uses,
  })
  const server = createAdaptorServer({
    // Room for the chain of a nested server with RSA keys; what is too long of it is refused by name.
    serverOptions: { maxHeaderSize: 64 * 1024 },
    fetch: (request, { incoming }) => app(request, clientAddress(incoming.socket)),
  }) as HttpServer
  server.requestTimeout = 30_000
  server.headersTimeout = 10_000
  // Longer than load balancers keep their connections, so that it is not us who close one that is about to be used.
  server.keepAliveTimeout = 75_000
  const { text: address } = await listenTcp(server, options.bindAddress, options.bindPort)
  plane.log.info('Starting Server APIs', { address, network: 'http' })
  return async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeAllConnections()
    await closed
  }
}
