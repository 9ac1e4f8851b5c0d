import type { Clock } from '../core/clock.ts'
import type { Server } from '../server/server.ts'
import { exchangeCalls } from './exchange-calls.ts'
import { exchangePath, exchangeRest } from './exchange-rest.ts'
import { tokenEndpoint } from './token-endpoint.ts'

/**
 * The doors of the token exchange for whoever has nothing but an HTTP client. Where no sources are configured there are none.
 * @returns a handler, given the path where it is not the request's own; its answer is undefined for paths that are none of its doors
 */
export function exchangeDoors(
  server: Pick<Server, 'deps' | 'adminService'>,
  clock: Clock,
): (request: Request, address: string, path?: string) => Promise<Response | undefined> {
  if (server.deps.exchange.length === 0) return async () => undefined
  const calls = exchangeCalls(server.adminService)
  const token = tokenEndpoint(calls, clock)
  const rest = exchangeRest(calls)
  return async (request, address, pathname = new URL(request.url).pathname) => {
    if (pathname === '/v1/token') return token(request, address)
    const path = exchangePath(pathname)
    return path && rest(request, path, address)
  }
}
