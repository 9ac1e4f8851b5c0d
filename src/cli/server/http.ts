import { randomBytes } from 'node:crypto'
import type { Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import type { HttpOptions } from '../../config/http.ts'
import { errorMessage } from '../../core/error.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { type HttpAppOptions, httpApp, SEAL_PURPOSE } from '../../http/app.ts'
import { oidcAdmins } from '../../plugins/oidc/admins.ts'
import type { Server } from '../../server/server.ts'
import { CommandError } from '../failure.ts'

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
    fetch: (request, { incoming }) => app(request, incoming.socket.remoteAddress ?? ''),
  }) as HttpServer
  server.requestTimeout = 30_000
  server.headersTimeout = 10_000
  // Longer than load balancers keep their connections, so that it is not us who close one that is about to be used.
  server.keepAliveTimeout = 75_000
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.bindPort, options.bindAddress, resolve)
  }).catch((error) => {
    throw new CommandError(`failed to listen on ${options.bindAddress}:${options.bindPort}: ${errorMessage(error)}`)
  })
  const { address, port } = server.address() as AddressInfo
  plane.log.info('Starting Server APIs', { address: `${address}:${port}`, network: 'http' })
  return async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeAllConnections()
    await closed
  }
}
