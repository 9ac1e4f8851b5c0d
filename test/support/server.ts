import { randomUUID } from 'node:crypto'
import type { Clock } from '../../src/core/clock.ts'
import type { Entry } from '../../src/core/entry.ts'
import { StatusError } from '../../src/core/error.ts'
import type { ExchangeSourceOptions } from '../../src/core/exchange.ts'
import { jwtSigner } from '../../src/core/jwt-svid.ts'
import { type Log, silentLog } from '../../src/core/log.ts'
import type { NodeAttestor } from '../../src/core/plugin.ts'
import { type SpiffeId, spiffeId } from '../../src/core/spiffe-id.ts'
import type { Store } from '../../src/core/store.ts'
import { parseTrustDomain } from '../../src/core/trust-domain.ts'
import { tokenIssuers } from '../../src/plugins/oidc/issuers.ts'
import { generateSigner, nodeVerifier } from '../../src/plugins/signer.ts'
import type { Peer } from '../../src/rpc/caller.ts'
import { bindService } from '../../src/rpc/invoke.ts'
import type { MessageType } from '../../src/rpc/method.ts'
import type { BoundService, IncomingCall } from '../../src/rpc/service.ts'
import { Ca, selfSignCa } from '../../src/server/ca.ts'
import { ChangeTail } from '../../src/server/change-tail.ts'
import type { ServerDeps } from '../../src/server/deps.ts'
import { verifiableSources } from '../../src/server/exchange/sources.ts'
import { KEPT_MESSAGES_BYTES, KeptMessages } from '../../src/server/kept-messages.ts'
import { ADMIN_METHODS } from '../../src/server/methods.ts'
import { OwnBundle } from '../../src/server/own-bundle.ts'
import { type PipelineOptions, serverPipeline } from '../../src/server/pipeline.ts'
import { openLibsqlStore } from '../../src/store/libsql.ts'
import { AT } from './x509.ts'

export const TD = parseTrustDomain('example.org')

/** A clock that stands still until it is turned. */
export class HandClock implements Clock {
  ms = AT * 1000
  nowMs() {
    return this.ms
  }
}

export interface TestServer {
  readonly clock: HandClock
  readonly store: Store
  readonly deps: ServerDeps
  readonly service: BoundService
}

/** A server on an empty database, with a CA of its own, without sockets. */
export async function testServer(
  options: {
    readonly log?: Log
    readonly attestors?: readonly NodeAttestor[]
    readonly adminIds?: readonly SpiffeId[]
    readonly witSvids?: boolean
    /** Default 3600. */
    readonly agentTtlSeconds?: number
    /** Whose tokens are exchanged for SVIDs. */
    readonly exchange?: readonly ExchangeSourceOptions[]
    /** Given: the server is told of all writes and waits for them so. */
    readonly tailWait?: (ms: number, signal: AbortSignal) => Promise<void>
  } & Partial<Omit<PipelineOptions, 'log'>> = {},
): Promise<TestServer> {
  const clock = new HandClock()
  const store = await openLibsqlStore({ log: silentLog, clock })
  const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)
  const ca = new Ca({
    trustDomain: TD,
    x509SvidTtlSeconds: 3600,
    jwtSvidTtlSeconds: 300,
    agentTtlSeconds: options.agentTtlSeconds ?? 3600,
    caTtlSeconds: 86_400,
    clock,
    random,
  })
  const root = await selfSignCa({
    trustDomain: TD,
    signer: await generateSigner('ec-p256'),
    subject: { country: ['US'], organization: ['SPIFFE'] },
    notAfter: AT + 86_400,
    now: AT,
    random,
  })
  ca.setX509(root)
  ca.setJwt({ ...jwtSigner(await generateSigner('ec-p256'), 'key-1'), notAfter: AT + 86_400 })
  if (options.witSvids) {
    ca.setWit({ ...jwtSigner(await generateSigner('ec-p256'), 'wit-1', 'wit+jwt'), notAfter: AT + 86_400 })
  }
  await store.bundles.append({ trustDomain: TD, x509Authorities: [{ der: root.certificate.der, tainted: false }] })
  const all = async (): Promise<readonly Entry[]> => (await store.entries.list({}, { size: 0, token: '' })).items
  const deps: ServerDeps = {
    keptMessages: new KeptMessages(KEPT_MESSAGES_BYTES),
    trustDomain: TD,
    adminIds: new Set(options.adminIds ?? []),
    clock,
    store,
    ca,
    bundle: new OwnBundle(store, TD),
    entries: {
      entriesFor: async (agentId) => (await all()).filter((entry) => entry.parentId === agentId),
      bySpiffeId: async (id) => (await all()).filter((entry) => entry.spiffeId === id),
    },
    nodes: store.nodes,
    ...(options.tailWait ? { changeTail: await ChangeTail.open(store.changes, options.tailWait) } : {}),
    verify: nodeVerifier(),
    exchange: verifiableSources(
      options.exchange && {
        sources: options.exchange,
        newIssuer: tokenIssuers({ verify: nodeVerifier(), clock, log: options.log ?? silentLog }),
      },
      { trustDomain: TD, bundles: store.bundles, verify: nodeVerifier(), clock },
    ),
    nodeAttestors: new Map((options.attestors ?? []).map((attestor) => [attestor.name, attestor])),
    jwtSvidsEnabled: true,
    witSvidsEnabled: options.witSvids ?? false,
    agentIdAsSelector: false,
    publishJwtKey: async (key) =>
      (await store.bundles.append({ trustDomain: TD, jwtAuthorities: [key] })).jwtAuthorities,
    publishWitKey: async (key) =>
      (await store.bundles.append({ trustDomain: TD, witAuthorities: [key] })).witAuthorities,
    startedAtMs: clock.ms,
    serverSvidChain: async () => [root.certificate.der],
    newUuid: randomUUID,
  }
  const pipeline = serverPipeline({
    clock,
    wait: async () => {},
    newUuid: randomUUID,
    ...options,
    log: options.log ?? silentLog,
  })
  return { clock, store, deps, service: bindService(ADMIN_METHODS, deps, pipeline) }
}

export const LOCAL: Peer = { via: 'local' }
export const ANONYMOUS: Peer = { via: 'anonymous', address: '192.0.2.1:1234' }

export function identified(path: string, serialNumber = '1'): Peer {
  return {
    via: 'x509',
    address: '192.0.2.2:1234',
    spiffeId: spiffeId(TD, path),
    serialNumber,
    expiresAt: AT + 3600,
  }
}

export function incoming(peer: Peer): IncomingCall {
  return { peer, signal: new AbortController().signal, header: () => [] }
}

/** Calls a unary method as a transport would. */
export async function call<Req, Res>(
  server: TestServer,
  path: string,
  request: readonly [MessageType<Req>, Req],
  response: MessageType<Res>,
  peer: Peer = LOCAL,
): Promise<Res> {
  const method = server.service.methods.get(path)
  if (method === undefined) throw new Error(`no method ${path}`)
  return response.decode(await method.unary(request[0].encode(request[1]).finish(), incoming(peer)))
}

/** The code and text of what a promise is rejected with. */
export async function rejection(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
  } catch (error) {
    if (error instanceof StatusError) return `${error.code}: ${error.message}`
    throw error
  }
  return 'OK'
}
