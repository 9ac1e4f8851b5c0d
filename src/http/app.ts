import type { Clock } from '../core/clock.ts'
import type { Log } from '../core/log.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { UseStore } from '../core/store.ts'
import { KnownBundles } from '../server/known-bundles.ts'
import { isOnce } from '../server/once.ts'
import type { Server } from '../server/server.ts'
import { connectHandler } from '../transport/fetch.ts'
import { type FrontOptions, type Fronts, frontsOf, type TlsClientAuth } from '../transport/front.ts'
import { publicDocuments } from '../transport/public-documents.ts'
import { StateSeal } from '../transport/sealed-state.ts'
import { exchangeDoors } from './exchange.ts'
import { type SendersOptions, sendersOf } from './senders.ts'

export interface HttpAppOptions extends Pick<SendersOptions, 'operatorKeys' | 'verifyOperatorToken'> {
  readonly server: Pick<Server, 'deps' | 'adminService' | 'bundle' | 'trust' | 'identity'>
  /** Names under which requests may address this server. */
  readonly audiences: readonly string[]
  /** `https://...` in the OIDC discovery document; undefined: none is served. */
  readonly issuer: string | undefined
  /** Whose word on the certificates of clients is taken; default nobody's. */
  readonly fronts?: readonly FrontOptions[] | undefined
  /** Path under which the app is mounted; default the root. */
  readonly basePath?: string
  /** 32 bytes that seal the state of unfinished attestations, the same for all replicas that answer for each other. */
  readonly sealSecret: Uint8Array
  /** Remembers what may come once; the same for all replicas, too. */
  readonly uses: Pick<UseStore, 'take'>
  readonly verify: VerifySignature
  readonly clock: Clock
  readonly log: Log
}

/** What the key manager's secret for seals is called. */
export const SEAL_PURPOSE = 'seal of attestations'

/**
 * @param address of whoever connected, without port; empty if unknown
 * @param tls what the platform knows of a client certificate
 */
export type HttpApp = (request: Request, address: string, tls?: TlsClientAuth) => Promise<Response>

const REFRESH_HINT_SECONDS = 300

/**
 * All that a server offers over HTTP, in the order in which it is tried: the API with signed requests, the doors of the token exchange, then
 * the public documents.
 * Node's HTTP listener and the fetch handlers of edge runtimes serve this same app.
 * @throws Error for fronts that do not prove themselves
 */
export function httpApp(options: HttpAppOptions): HttpApp {
  const { server, basePath = '', issuer, uses, clock, log } = options
  const fronts = frontsOf(options.fronts ?? [])
  const api = connectHandler({
    // Of what only the socket offers, operators get the same; the policy keeps it from everybody else.
    service: server.adminService,
    basePath,
    identity: () => {
      const { chain, key } = server.identity()
      return { chain, signer: key }
    },
    seal: new StateSeal(options.sealSecret, server.deps.trustDomain, clock, uses),
    uses,
    isOnce,
    clock,
    log,
    authenticate: sendersOf({ ...options, fronts, trust: server.trust }),
  })
  const known = new KnownBundles(server.deps.store, clock)
  const documents = publicDocuments({
    bundle: () => server.bundle.get(),
    bundleOf: (name) => (name === server.deps.trustDomain ? server.bundle.get() : known.get(name)),
    refreshHintSeconds: REFRESH_HINT_SECONDS,
    issuer,
  })
  const exchange = exchangeDoors(server, clock)
  return async (request, address, tls) => {
    const answer = await api(request, address, tls)
    if (answer) return answer
    const path = new URL(request.url).pathname.slice(basePath.length)
    return (await exchange(request, clientOf(fronts, request, address, tls), path)) ?? documents(request, path)
  }
}

/** The address that calls of the exchange are counted by. A request with a secret that is no front's comes from whoever connected. */
function clientOf(fronts: Fronts, { headers }: Request, address: string, tls: TlsClientAuth | undefined): string {
  try {
    return fronts.arrivalOf(headers, address, tls).address
  } catch {
    return address
  }
}
