import { type Clock, epochSeconds, systemClock } from '../src/core/clock.ts'
import { errorMessage } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import { webCryptoVerifier } from '../src/core/public-key.ts'
import { rememberingVerifier } from '../src/core/remembering-verifier.ts'
import type { Store } from '../src/core/store.ts'
import { generateWebCryptoSigner } from '../src/core/web-crypto-signer.ts'
import { type HttpApp, httpApp, SEAL_PURPOSE } from '../src/http/app.ts'
import { databaseKeyManager } from '../src/plugins/keymanager/database/database.ts'
import { keyEncryptionKeys } from '../src/plugins/keymanager/database/edge.ts'
import { oidcAdmins } from '../src/plugins/oidc/admins.ts'
import { tokenIssuers } from '../src/plugins/oidc/issuers.ts'
import { entriesInStore } from '../src/server/entry-lookup.ts'
import { assembleServer, type Server } from '../src/server/server.ts'
import type { Trust } from '../src/server/trust.ts'
import type { TlsClientAuth } from '../src/transport/front.ts'
import { consoleLog } from './console-log.ts'
import { settingsOf, type TurretHost, type TurretOptions } from './options.ts'

export type { WrappingKey } from '../src/plugins/keymanager/database/edge.ts'
export { x509pop } from '../src/plugins/nodeattestor/x509pop/edge.ts'
export type { OidcAdminOptions } from '../src/plugins/oidc/admins.ts'
export { openD1Store } from '../src/store/d1.ts'
export type { FrontOptions } from '../src/transport/front.ts'
export { consoleLog } from './console-log.ts'
export type { TurretHost, TurretOptions } from './options.ts'

/** What the platform knows of a request beside the request. */
export interface RequestContext {
  /** Of the client, without port; rate limits and node attestors look at it. Default unknown. */
  readonly address?: string
  /** Keeps the isolate at work until a promise is settled. Where there is none, work goes on by itself. */
  readonly waitUntil?: (work: Promise<unknown>) => void
}

/** A server as a fetch handler. */
export interface Turret {
  /** Answers the API and the public documents; 404 for everything else. Never rejects. */
  fetch(request: Request, context?: RequestContext): Promise<Response>
  /**
   * Rotates, prunes and refreshes what is due. For a scheduler, once in a minute or so; requests do the same when it is late, so that it
   * may fail to come. Failures are logged.
   */
  maintain(): Promise<void>
  /** The server inside, for who embeds it: started if it was not. @throws Error if it cannot start */
  server(): Promise<Server>
}

/** A server that was put together, and what belongs to it. */
interface Running {
  readonly server: Server
  readonly app: HttpApp
  readonly store: Store
}

/** Work that is due for this long is late. */
const LATE_SECONDS = 60
/** A start that failed is tried again after this time; until then its error stands. */
const START_AGAIN_MS = 2_000
/** How old what this isolate knows of others' writes may be. */
const FRESH_MS = 2_000
const SIGNATURES_REMEMBERED = 500

/**
 * A SPIFFE server as a fetch handler: signing, registration, attestation, bundle, JWKS and OIDC discovery. Nothing is done before the first
 * request or `maintain`. Several isolates may run on one data store; they share their keys and take over each other's changes.
 *
 * @throws Error if an option is not valid
 * @example
 * const identity = turret({ trustDomain: 'example.org', store: (log) => openD1Store({ binding: env.DB, log }),
 *   keys: [{ version: '1', key: env.KEK }], audiences: ['https://id.example.org'] })
 * app.all('/*', (c) => identity.fetch(c.req.raw))
 */
export function turret(options: TurretOptions): Turret {
  const settings = settingsOf(options)
  const clock = options.clock ?? systemClock
  const log = options.log ?? consoleLog()
  const basePath = options.basePath ?? ''
  let running: Promise<Running> | undefined
  let failedAtMs: number | undefined
  let freshUntilMs = 0

  async function start(): Promise<Running> {
    const store = await options.store(log)
    try {
      return await assemble(options, settings, { store, clock, log })
    } catch (error) {
      await store.close()
      throw error
    }
  }

  function started(): Promise<Running> {
    if (running && (failedAtMs === undefined || clock.nowMs() < failedAtMs + START_AGAIN_MS)) return running
    failedAtMs = undefined
    running = start()
    running.catch((error) => {
      failedAtMs = clock.nowMs()
      log.error('The server cannot start', { error: errorMessage(error) })
    })
    return running
  }

  async function answer(request: Request, context: RequestContext): Promise<Response> {
    let here: Running
    try {
      here = await started()
    } catch {
      return unavailable()
    }
    const { server, app } = here
    const nowMs = clock.nowMs()
    if (nowMs >= freshUntilMs) {
      freshUntilMs = nowMs + FRESH_MS
      await server.freshen().catch((error) => {
        freshUntilMs = 0
        log.error('Could not read what changed', { error: errorMessage(error) })
      })
    }
    const now = epochSeconds(clock)
    if (server.upkeep.due(now - LATE_SECONDS)) {
      const work = server.upkeep.maintain(now)
      context.waitUntil?.(work)
      // Nobody called for longer than the server's own SVID lives: answers could not be signed.
      if (server.identity().notAfter <= now) await work
    }
    try {
      return await app(request, context.address ?? '', tlsClientAuthOf(request))
    } catch (error) {
      log.error('Unexpected error', { error: errorMessage(error) })
      return Response.json({ code: 'internal', message: 'internal error' }, { status: 500 })
    }
  }

  return {
    fetch(request, context = {}) {
      if (basePath !== '' && !new URL(request.url).pathname.startsWith(`${basePath}/`)) {
        return Promise.resolve(new Response('404 page not found\n', { status: 404 }))
      }
      const response = answer(request, context)
      // What it shares with other requests (a start, the queue of writes) must come to an end even if this client leaves.
      context.waitUntil?.(response.catch(() => {}))
      return response
    },
    async maintain() {
      try {
        const { server } = await started()
        await server.upkeep.maintain(epochSeconds(clock))
      } catch {
        // Logged by who started it.
      }
    },
    server: async () => (await started()).server,
  }
}

async function assemble(
  options: TurretOptions,
  settings: ReturnType<typeof settingsOf>,
  { store, clock, log }: { readonly store: Store; readonly clock: Clock; readonly log: Log },
): Promise<Running> {
  const { trustDomain } = settings
  const verify = rememberingVerifier(webCryptoVerifier(), SIGNATURES_REMEMBERED)
  const trust: { roots?: Trust['roots'] } = {}
  const host: TurretHost = {
    trustDomain,
    roots: async () => (await trust.roots?.(trustDomain)) ?? [],
    verify,
    clock,
    log,
  }
  const { keys } = options
  const keyManager =
    typeof keys === 'function'
      ? await keys(host, store)
      : await databaseKeyManager({ trustDomain, keys: store.keys, keks: keyEncryptionKeys(keys) })
  const attestors = (options.nodeAttestors ?? []).map((make) => make(host))
  const server = await assembleServer(settings, {
    store,
    keyManager,
    upstream: options.upstream?.(host),
    plainJoinTokens: options.plainJoinTokens,
    nodeAttestors: new Map(attestors.map((attestor) => [attestor.name, attestor])),
    entries: entriesInStore(store.entries),
    nodes: store.nodes,
    exchange: options.exchange && { sources: options.exchange, newIssuer: tokenIssuers({ verify, clock, log }) },
    verify,
    newKey: generateWebCryptoSigner,
    random: (bytes) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>),
    newUuid: () => crypto.randomUUID(),
    wait: pause,
    clock,
    log,
  })
  trust.roots = server.trust.roots
  const app = httpApp({
    server,
    audiences: options.audiences,
    issuer: options.issuer,
    basePath: options.basePath ?? '',
    operatorKeys: options.operatorKeys,
    fronts: options.fronts,
    verifyOperatorToken: options.oidcAdmins?.length
      ? oidcAdmins(options.oidcAdmins, { verify, clock, log })
      : undefined,
    sealSecret:
      (await keyManager.shared?.secret?.(SEAL_PURPOSE)) ??
      options.sealSecret ??
      crypto.getRandomValues(new Uint8Array(32)),
    uses: store.uses,
    verify,
    clock,
    log: log.child({ subsystem_name: 'endpoints' }),
  })
  return { server, app, store }
}

/** What Cloudflare says of a client's certificate; undefined on other platforms. */
function tlsClientAuthOf(request: Request): TlsClientAuth | undefined {
  const { cf } = request as { readonly cf?: { readonly tlsClientAuth?: TlsClientAuth | null } | null }
  return cf?.tlsClientAuth ?? undefined
}

/** Says nothing of the reason, which is in the log: whoever asks may be anybody. */
function unavailable(): Response {
  const body = { code: 'unavailable', message: 'the server cannot start; its log says why' }
  return Response.json(body, { status: 503, headers: { 'retry-after': '5', 'cache-control': 'no-store' } })
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    const stop = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
}
