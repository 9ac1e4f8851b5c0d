import { randomBytes } from 'node:crypto'
import type { Server as HttpServer } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import type { HttpOptions } from '../../config/http.ts'
import { isOfThisMachine } from '../../core/ip-address.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { type HttpAppOptions, httpApp, SEAL_PURPOSE } from '../../http/app.ts'
import { oidcAdmins } from '../../plugins/oidc/admins.ts'
import type { Server } from '../../server/server.ts'
import { boundConnections } from '../../transport/http-connections.ts'
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
  let tellsAddresses = options.fronts.some(({ addressHeader }) => addressHeader !== undefined)
  const server = createAdaptorServer({
    // Room for the chain of a nested server with RSA keys; what is too long of it is refused by name.
    serverOptions: { maxHeaderSize: 64 * 1024 },
    fetch: (request, { incoming }) => {
      const address = clientAddress(incoming.socket)
      if (!tellsAddresses && FORWARDING.some((name) => request.headers.has(name))) {
        tellsAddresses = true
        plane.log.warn(ALL_ALIKE, { address })
      }
      return isCanonical(incoming.url, request.url) ? app(request, address) : new Response(null, { status: 400 })
    },
  }) as HttpServer
  server.requestTimeout = 30_000
  server.headersTimeout = 10_000
  // Longer than load balancers keep their connections, so that it is not us who close one that is about to be used.
  server.keepAliveTimeout = 75_000
  server.maxConnections = MAX_CONNECTIONS
  boundConnections(server, PER_NETWORK)
  const { text: address } = await listenTcp(server, options.bindAddress, options.bindPort)
  plane.log.info('Starting Server APIs', { address, network: 'http' })
  if (!tellsAddresses && isOfThisMachine(options.bindAddress)) {
    tellsAddresses = true
    plane.log.warn(ALL_ALIKE, { address })
  }
  return async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeAllConnections()
    await closed
  }
}

const MAX_CONNECTIONS = 10_000
/** Of one address, which may be a proxy; the few that everybody gets go beyond what others took. */
const PER_NETWORK = { perHolder: 2_048, inAll: 8_000, atMost: MAX_CONNECTIONS }

const FORWARDING = ['forwarded', 'x-forwarded-for']
const ALL_ALIKE =
  'All clients of the HTTP listener look like one, and share the limits of one, until "fronts" says which header of the proxy names them'

/** A front that lets some paths through must see the path that is served: no dots to be resolved, no absolute or encoded forms of them. */
function isCanonical(target: string | undefined, url: string): boolean {
  const { pathname, search } = new URL(url)
  return target === pathname + search
}
