import type { Clock } from '../core/clock.ts'
import type { ExchangeSourceOptions } from '../core/exchange.ts'
import type { KeyType, Signer } from '../core/key-type.ts'
import type { Log } from '../core/log.ts'
import type { CredentialComposer, KeyManager, NodeAttestor, UpstreamAuthority } from '../core/plugin.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { type SpiffeId, serverId, trustDomainOf } from '../core/spiffe-id.ts'
import type { Store } from '../core/store.ts'
import type { TrustDomain } from '../core/trust-domain.ts'
import { bindService } from '../rpc/invoke.ts'
import type { Wait } from '../rpc/rate-limit.ts'
import type { BoundService } from '../rpc/service.ts'
import type { AuthorityOptions } from './authorities.ts'
import { Ca } from './ca.ts'
import { CaManager } from './ca-manager.ts'
import type { ChangeTail } from './change-tail.ts'
import type { EntryLookup, LogControl, NodeLookup, ServerDeps } from './deps.ts'
import { type NewTokenIssuer, verifiableSources } from './exchange/sources.ts'
import { KEPT_MESSAGES_BYTES, KeptMessages } from './kept-messages.ts'
import { ADMIN_METHODS, TCP_METHODS } from './methods.ts'
import { changesAfter } from './news.ts'
import { OwnBundle } from './own-bundle.ts'
import { serverPipeline } from './pipeline.ts'
import { type ServerSvid, ServerSvidRotation } from './server-svid.ts'
import { taintedRootKeyIds } from './taint.ts'
import { type Trust, trustOf } from './trust.ts'
import { type Upkeep, type UpkeepTask, upkeepOf, upkeepTasks } from './upkeep.ts'

/** What a server is told; names and meanings as in the configuration. */
export interface ServerSettings extends AuthorityOptions {
  readonly adminIds: readonly SpiffeId[]
  readonly agentTtlSeconds: number
  readonly x509SvidTtlSeconds: number
  readonly jwtSvidTtlSeconds: number
  readonly jwtIssuer?: string | undefined
  readonly witIssuer?: string | undefined
  readonly auditLogEnabled: boolean
  readonly rateLimitAttestation: boolean
  readonly rateLimitSigning: boolean
  readonly agentSpiffeIdAsSelector: boolean
  /** undefined: attested nodes are never pruned. */
  readonly pruneAttestedNodesExpiredForSeconds?: number | undefined
  readonly pruneAttestedNodesBatchSize: number
  readonly pruneTofuNodes: boolean
}

/** What the runtime around a server gives it. */
export interface ServerParts {
  readonly store: Store
  readonly keyManager: KeyManager
  readonly upstream?: UpstreamAuthority | undefined
  /** Asked in this order before each signature; default none. */
  readonly credentialComposers?: readonly CredentialComposer[]
  /** By name, without join_token. */
  readonly nodeAttestors: ReadonlyMap<string, NodeAttestor>
  /** An index in memory where one process lives long, SQL elsewhere. */
  readonly entries: EntryLookup
  readonly nodes: NodeLookup
  /** Only where this process is told of every write: see ServerDeps. */
  readonly changeTail?: ChangeTail
  readonly verify: VerifySignature
  /** Whose tokens are exchanged for SVIDs, and how the keys of their issuers are had; default nobody's. */
  readonly exchange?:
    | { readonly sources: readonly ExchangeSourceOptions[]; readonly newIssuer: NewTokenIssuer }
    | undefined
  /** @see ServerDeps.plainJoinTokens */
  readonly plainJoinTokens?: boolean | undefined
  /** Makes the key of the server's own SVID. */
  readonly newKey: (type: KeyType) => Promise<Signer>
  /** Fills the array it gets. */
  readonly random: (bytes: Uint8Array) => Uint8Array
  readonly newUuid: () => string
  readonly wait: Wait
  /** Aborts when the process ends. */
  readonly signal?: AbortSignal
  readonly clock: Clock
  readonly log: Log
  readonly logControl?: LogControl
}

/** A server without its transports. */
export interface Server {
  readonly deps: ServerDeps
  readonly manager: CaManager
  readonly bundle: OwnBundle
  readonly trust: Trust
  /** What callers over the network get. */
  readonly service: BoundService
  /** The same and what only somebody on this machine may ask. */
  readonly adminService: BoundService
  /** The server's own SVID at this moment. */
  readonly identity: () => ServerSvid
  /** Told of each new SVID from now on. */
  onIdentity(listener: (svid: ServerSvid) => void): void
  /**
   * Takes over what other replicas wrote, where no `changeTail` tells of it: one indexed read if there is nothing new. Call it when what is
   * known here is older than one may answer with.
   */
  freshen(): Promise<void>
  readonly tasks: readonly UpkeepTask[]
  readonly upkeep: Upkeep
}

/**
 * Puts a server together: authorities (made if there are none), its own SVID, services and the work to be done again and again.
 * Every host does it here: Node beside gRPC, and the edge as a fetch handler. Nothing runs by itself afterwards.
 * @throws Error if the store is another trust domain's, or there is no CA to sign with
 */
export async function assembleServer(settings: ServerSettings, parts: ServerParts): Promise<Server> {
  const { trustDomain } = settings
  const { store, keyManager, upstream, verify, clock, random, log } = parts
  const startedAtMs = clock.nowMs()
  const exchange = verifiableSources(parts.exchange, {
    trustDomain,
    ownIssuer: settings.jwtIssuer,
    bundles: store.bundles,
    verify,
    clock,
  })
  await refuseForeignEntries(store, trustDomain)
  // Before anything is read: what is written from here on is news.
  let seen = parts.changeTail ? 0 : await store.changes.head()
  const bundle = new OwnBundle(store, trustDomain)
  const adminIds = new Set(settings.adminIds)
  const trust = trustOf({ store, bundle, adminIds, verify, clock })

  // Authorities.
  const ca = new Ca({ ...caSettings(settings), composers: parts.credentialComposers ?? [], clock, random })
  let svid: ServerSvidRotation | undefined
  const manager = await CaManager.load(settings, {
    store,
    keyManager,
    ...(upstream ? { upstream } : {}),
    ca,
    verify,
    clock,
    random,
    log: log.child({ subsystem_name: 'ca_manager' }),
    onTainted: (keyIds) => svid?.taint(keyIds),
  })
  store.changes.subscribe((changes) => {
    for (const { kind, key, bundle: changed } of changes)
      if (kind === 'bundle' && key === trustDomain && changed) void manager.bundleChanged(changed)
  })
  const signal = parts.signal ?? new AbortController().signal
  await manager.start((ms) => parts.wait(ms, signal))
  let tell: (svid: ServerSvid) => void = () => {}
  svid = new ServerSvidRotation({
    ca,
    newKey: parts.newKey,
    // It signs each answer over HTTP and each handshake, for anybody who asks: RSA would let a few of them keep us busy.
    keyType: settings.caKeyType.startsWith('rsa') ? 'ec-p256' : settings.caKeyType,
    id: serverId(trustDomain),
    taintedRoots: async () => {
      const own = await bundle.get()
      return own ? taintedRootKeyIds(own) : []
    },
    clock,
    log: log.child({ subsystem_name: 'svid_rotator' }),
    onRotated: (next) => tell(next),
  })
  await svid.rotateIfDue()

  // Services, bound twice: what the network is offered, and all of it for the admin socket.
  const deps: ServerDeps = {
    trustDomain,
    adminIds,
    clock,
    store,
    ca,
    bundle,
    entries: parts.entries,
    nodes: parts.nodes,
    // Where questions go to the database no list comes back a second time.
    keptMessages: new KeptMessages(parts.changeTail ? KEPT_MESSAGES_BYTES : 0),
    ...(parts.changeTail ? { changeTail: parts.changeTail } : {}),
    verify,
    exchange,
    nodeAttestors: parts.nodeAttestors,
    plainJoinTokens: parts.plainJoinTokens,
    jwtSvidsEnabled: !settings.disableJwtSvids,
    witSvidsEnabled: settings.witKeyType !== undefined,
    agentIdAsSelector: settings.agentSpiffeIdAsSelector,
    publishJwtKey: (key) => manager.publishJwtKey(key),
    publishWitKey: (key) => manager.publishWitKey(key),
    authorities: manager,
    startedAtMs,
    serverSvidChain: async () => {
      const { path } = await trust.verifySvid(svid.current?.chain ?? [])
      return path.map((certificate) => certificate.der)
    },
    ...(parts.logControl ? { logControl: parts.logControl } : {}),
    newUuid: parts.newUuid,
  }
  const pipeline = serverPipeline({
    log,
    clock,
    wait: parts.wait,
    newUuid: parts.newUuid,
    auditEnabled: settings.auditLogEnabled,
    limitAttestation: settings.rateLimitAttestation,
    limitSigning: settings.rateLimitSigning,
  })

  const tasks = upkeepTasks({
    trustDomain,
    caTtlSeconds: settings.caTtlSeconds,
    nodePruning: nodePruning(settings),
    store,
    keyManager,
    manager,
    svid,
    clock,
    log,
  })
  // Who has timers holds on to the upstream instead.
  const look: UpkeepTask = {
    everyMs: 5_000,
    failure: 'Could not read the bundle of the upstream authority',
    run: () => manager.lookUpstream(),
  }
  return {
    deps,
    manager,
    bundle,
    trust,
    service: bindService(TCP_METHODS, deps, pipeline),
    adminService: bindService(ADMIN_METHODS, deps, pipeline),
    identity: () => svid.current!,
    onIdentity: (listener) => {
      tell = listener
    },
    async freshen() {
      const { head, changes: news } = await changesAfter(store.changes, seen)
      seen = head
      if (!news || news.some(({ kind, key }) => kind === 'bundle' && key === trustDomain)) bundle.invalidate()
    },
    tasks,
    upkeep: upkeepOf([...tasks, ...(manager.followsUpstream ? [look] : [])], log),
  }
}

function caSettings(settings: ServerSettings) {
  const { trustDomain, x509SvidTtlSeconds, jwtSvidTtlSeconds, agentTtlSeconds, caTtlSeconds } = settings
  return {
    trustDomain,
    x509SvidTtlSeconds,
    jwtSvidTtlSeconds,
    agentTtlSeconds,
    caTtlSeconds,
    ...(settings.jwtIssuer === undefined ? {} : { jwtIssuer: settings.jwtIssuer }),
    ...(settings.witIssuer === undefined ? {} : { witIssuer: settings.witIssuer }),
  }
}

function nodePruning(settings: ServerSettings) {
  const { pruneAttestedNodesExpiredForSeconds: expiredForSeconds } = settings
  if (expiredForSeconds === undefined) return undefined
  return {
    expiredForSeconds,
    batchSize: settings.pruneAttestedNodesBatchSize,
    includeNonReattestable: settings.pruneTofuNodes,
  }
}

/** A data store that belongs to another trust domain is a mistake that must not be made worse. */
async function refuseForeignEntries(store: Store, trustDomain: TrustDomain): Promise<void> {
  const { items } = await store.entries.list({}, { size: 1, token: '' })
  const foreign = items.find((entry) => trustDomainOf(entry.spiffeId) !== trustDomain)
  if (!foreign) return
  throw new Error(
    `a registration entry with trust domain '${trustDomainOf(foreign.spiffeId)}' has been detected, which does not match the configured trust domain of '${trustDomain}'. If you want to change the trust domain, please delete all existing registration entries`,
  )
}
