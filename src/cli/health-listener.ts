import { createServer } from 'node:http'
import type { HealthCheckOptions } from '../config/file.ts'
import type { Log } from '../core/log.ts'
import { listenTcp } from '../transport/tcp-listener.ts'

/** One thing that is looked at. `details` are empty when all is well. */
export interface HealthCheck {
  readonly name: string
  check(): Promise<{
    readonly live: boolean
    readonly ready: boolean
    readonly details: Readonly<Record<string, string>>
  }>
}

const FIRST_INTERVAL_MS = 1_000
const INTERVAL_MS = 60_000

/**
 * The HTTP health listener: 200 or 500 on the live and ready paths, with the details of each check as JSON. Checks run every
 * second until all is well once, then every minute; requests are answered from the last run.
 * @returns stops it
 */
export async function serveHealth(
  options: HealthCheckOptions,
  checks: readonly HealthCheck[],
  log: Log,
): Promise<() => Promise<void>> {
  let live = false
  let ready = false
  let body = JSON.stringify(Object.fromEntries(checks.map(({ name }) => [name, {}])))
  let timer: NodeJS.Timeout | undefined
  let stopped = false

  async function look(): Promise<void> {
    const results = await Promise.all(checks.map(async ({ name, check }) => ({ name, ...(await check()) })))
    live = results.every((result) => result.live)
    ready = results.every((result) => result.ready)
    body = JSON.stringify(Object.fromEntries(results.map(({ name, details }) => [name, details]).sort()))
    if (!stopped) timer = setTimeout(look, live && ready ? INTERVAL_MS : FIRST_INTERVAL_MS).unref()
  }

  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://health').pathname
    const good = path === options.livePath ? live : path === options.readyPath ? ready : undefined
    if (good === undefined) response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found\n')
    else response.writeHead(good ? 200 : 500, { 'content-type': 'application/json' }).end(`${body}\n`)
  })
  server.requestTimeout = 10_000
  server.headersTimeout = 5_000
  server.maxConnections = 256
  const { text: address } = await listenTcp(server, options.host, options.port)
  log.info('Serving health checks', { address })
  await look()
  return async () => {
    stopped = true
    clearTimeout(timer)
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
}
