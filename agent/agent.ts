import type { Bundle } from '../src/core/bundle.ts'
import { type Clock, epochSeconds } from '../src/core/clock.ts'
import { createCsr } from '../src/core/csr.ts'
import { errorMessage, StatusError } from '../src/core/error.ts'
import type { KeyType } from '../src/core/key-type.ts'
import type { Log } from '../src/core/log.ts'
import type { AgentNodeAttestor, KeyManager, SvidStore } from '../src/core/plugin.ts'
import type { VerifySignature } from '../src/core/public-key.ts'
import { rememberingVerifier } from '../src/core/remembering-verifier.ts'
import { rfc3339 } from '../src/core/rfc3339.ts'
import { trustDomainId, trustDomainOf } from '../src/core/spiffe-id.ts'
import type { TrustDomain } from '../src/core/trust-domain.ts'
import { SVID_SUBJECT } from '../src/core/x509-svid.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'
import { attestNode, chainOf } from './attest.ts'
import { denialOf } from './denial.ts'
import { type AgentIdentity, clientIdentity, identityOf, otherSlot, storedIdentity } from './identity.ts'
import { JwtCache } from './jwt-cache.ts'
import { Loop } from './loop.ts'
import { isRotationDue, type RotationRule } from './rotation-rule.ts'
import { type ConnectToServer, RPC_TIMEOUT_MS } from './server-connection.ts'
import { SERVER } from './server-methods.ts'
import type { StateFile } from './state.ts'
import { StoredSvids } from './stored-svids.ts'
import { SvidCache, type WorkloadSvid } from './svid-cache.ts'
import { type NewWorkloadKey, type SigningTrust, SvidSigning, signJwt } from './svid-signing.ts'
import { type SyncResult, synchronise } from './sync.ts'
import { taintedRoots } from './wire.ts'

/** Times in milliseconds unless the name says seconds. */
export interface AgentOptions {
  readonly trustDomain: TrustDomain
  readonly version: string
  readonly insecureBootstrap: boolean
  readonly syncIntervalMs: number
  readonly useSyncAuthorizedEntries: boolean
  readonly x509CacheSize: number
  readonly jwtCacheSize: number
  readonly jwtHitTimeoutMs: number
  /** 0: half-life only. */
  readonly availabilityTargetSeconds: number
  readonly workloadKeyType: KeyType
}

export interface AgentDeps {
  readonly options: AgentOptions
  readonly state: StateFile
  readonly keyManager: KeyManager
  readonly nodeAttestor: AgentNodeAttestor
  /** For entries with `store_svid`, by name; without any, those are left alone. */
  readonly svidStores?: ReadonlyMap<string, SvidStore>
  /** DER roots to trust before there is a stored bundle; not called with insecure bootstrap. @throws Error */
  readonly bootstrapRoots: () => Promise<readonly Uint8Array[]>
  readonly newWorkloadKey: NewWorkloadKey
  readonly connect: ConnectToServer
  readonly verify: VerifySignature
  readonly clock: Clock
  /** Uniform in [0, 1). */
  readonly random: () => number
  readonly log: Log
}

const RETRY_FIRST_MS = 5_000
const RETRY_TOTAL_MS = 60_000
const ROTATION_CHECK_MS = 5_000
const SIGN_INTERVAL_MS = 500
const RESYNC_INTERVAL_MS = 1_000
const REMEMBERED_SIGNATURES = 256
const STORE_INTERVAL_MS = 5_000
const MAX_SYNC_BACKOFF_MS = 8 * 60_000
const MAX_SIGN_BACKOFF_MS = 4 * 60_000

/**
 * One agent: attested once, then in step with its server until it is stopped. What workloads are served comes from `cache` and
 * `jwts`, which go on while the server is away.
 */
export class Agent {
  readonly cache: SvidCache
  readonly jwts: JwtCache
  readonly #stored: StoredSvids | undefined
  readonly #deps: AgentDeps
  readonly #signal: AbortSignal
  readonly #signing: SvidSigning
  readonly #taintedRoots = new Set<string>()
  #identity: AgentIdentity
  /** Set before anybody sees the agent. */
  #connection!: GrpcChannel
  #known: SyncResult = { entries: new Map(), bundles: new Map() }
  #syncLoop: Loop | undefined
  #lastSync = 0
  /** Signed, and served if the next sync says that they are what the server means. */
  #unsure: ReadonlyMap<string, WorkloadSvid> = new Map()
  #awaitingSync: (() => void)[] = []
  #resyncTimer: NodeJS.Timeout | undefined
  #lastResyncMs = 0

  private constructor(deps: AgentDeps, identity: AgentIdentity, signal: AbortSignal) {
    const { options, clock, log, random } = deps
    this.#deps = deps
    this.#signal = signal
    this.#identity = identity
    // CA certificates between the root and the server's come with every SVID.
    const verify = rememberingVerifier(deps.verify, REMEMBERED_SIGNATURES)
    const trust: SigningTrust = { bundle: () => this.#bundle, clock, verify }
    this.#signing = new SvidSigning(
      deps.newWorkloadKey,
      options.workloadKeyType,
      trust,
      log.child({ subsystem_name: 'manager' }),
    )
    const rotation: RotationRule = { random, availabilityTargetSeconds: options.availabilityTargetSeconds }
    this.cache = new SvidCache({
      trustDomain: options.trustDomain,
      maxSize: options.x509CacheSize,
      clock,
      log: log.child({ subsystem_name: 'cache_manager' }),
      rotation,
    })
    if (deps.svidStores?.size) {
      this.#stored = new StoredSvids({
        trustDomain: options.trustDomain,
        stores: deps.svidStores,
        cache: new SvidCache({
          trustDomain: options.trustDomain,
          maxSize: Number.MAX_SAFE_INTEGER,
          clock,
          log: log.child({ subsystem_name: 'svid_store_cache' }),
          rotation,
        }),
        clock,
        log: log.child({ subsystem_name: 'svid_store_service' }),
      })
    }
    this.jwts = new JwtCache({
      maxSize: options.jwtCacheSize,
      hitTimeoutMs: options.jwtHitTimeoutMs,
      clock,
      random,
      log,
      sign: (entry, audience, timeoutMs) => signJwt(this.#connection, entry, audience, timeoutMs, trust),
    })
  }

  /**
   * Attests the node unless the identity of the last run is still good, and syncs once, so that workloads can be served when this
   * resolves.
   * @throws Error after a minute of failed tries, at once if the server denies the attestation
   */
  static async start(deps: AgentDeps, signal: AbortSignal): Promise<Agent> {
    const { state, keyManager, clock, log } = deps
    const attestorLog = attestorLogOf(deps)
    if (state.state.bundle.length > 0) attestorLog.info('Bundle loaded')
    else if (deps.options.insecureBootstrap) attestorLog.info('Bundle is not found')
    if (state.state.svid.length === 0)
      attestorLog.debug('No pre-existing agent SVID found. Will perform node attestation')
    const stored = await storedIdentity(
      state.state.svid,
      state.state.reattestable,
      keyManager,
      deps.options.trustDomain,
      epochSeconds(clock),
      attestorLog,
    )
    if (stored && state.state.bundle.length === 0) throw new Error('SVID loaded but no bundle in cache')
    const identity =
      stored ??
      (await retried(
        deps,
        signal,
        'Failed to retrieve attestation result',
        (error) => isDenied(error),
        () => attest(deps, otherSlot(undefined), true),
      ))
    const agent = new Agent(deps, identity, signal)
    agent.#connection = await agent.#connectAs(identity)
    // It may have been down for most of its SVID's life. What the server says against it the sync will hear as well.
    if (stored) {
      await agent.rotateIfDue().catch((error) => {
        if (error instanceof FatalError) throw error
        log.warn('Could not rotate agent SVID', { error: errorMessage(error) })
      })
    }
    await agent.#postStatus()
    try {
      await retried(
        deps,
        signal,
        'Failed to initialize manager',
        (error) => denialOf(error) !== undefined,
        async () => {
          await agent.sync()
          await agent.signPending()
          if (agent.#unsure.size > 0) await agent.sync()
        },
      )
    } catch (error) {
      if (denialOf(error) === 'banned') log.error('Agent is banned: removing SVID and shutting down')
      else if (denialOf(error) === 'reattest') log.error('Agent needs to re-attest: removing SVID and shutting down')
      if (denialOf(error)) await state.forgetSvid()
      throw error
    }
    return agent
  }

  /** Of the own trust domain, once there was a sync. */
  get #bundle(): Bundle | undefined {
    return this.#known.bundles.get(this.#deps.options.trustDomain)
  }

  get identity(): AgentIdentity {
    return this.#identity
  }

  /** The connection as the present identity; another one after each rotation. */
  get connection(): GrpcChannel {
    return this.#connection
  }

  /** Unix seconds of the last sync that succeeded; 0: none yet. */
  get lastSyncSuccess(): number {
    return this.#lastSync
  }

  /** Asks for a sync now: the server has news. */
  syncSoon(): void {
    this.#syncLoop?.kick()
  }

  /**
   * Asks for a sync because the server signed for something else than the agent knows. Such syncs have a second between them, so that a
   * server that goes on doing so is not asked without end.
   * @returns resolves after a sync that starts from now on and succeeds
   */
  resync(): Promise<void> {
    if (!this.#resyncTimer) {
      const waitMs = Math.max(0, this.#lastResyncMs + RESYNC_INTERVAL_MS - this.#deps.clock.nowMs())
      this.#resyncTimer = setTimeout(() => {
        this.#resyncTimer = undefined
        this.#lastResyncMs = this.#deps.clock.nowMs()
        this.syncSoon()
      }, waitMs).unref()
    }
    return new Promise((resolve) => this.#awaitingSync.push(resolve))
  }

  /**
   * Keeps in step with the server until the signal aborts.
   * @throws Error when the agent cannot go on: it was banned, or must attest anew and cannot
   */
  async run(): Promise<void> {
    const { options, random, log } = this.#deps
    const managerLog = log.child({ subsystem_name: 'manager' })
    const stop = new AbortController()
    const signal = AbortSignal.any([this.#signal, stop.signal])
    const common = { random, signal, log: managerLog, fatal: (error: unknown) => error instanceof FatalError }
    const signLoop = new Loop(() => this.#guarded(() => this.signPending()), {
      ...common,
      intervalMs: SIGN_INTERVAL_MS,
      maxIntervalMs: MAX_SIGN_BACKOFF_MS,
      failure: 'SVID sync failed',
    })
    this.#syncLoop = new Loop(() => this.#guarded(() => this.sync().then(() => signLoop.kick())), {
      ...common,
      intervalMs: options.syncIntervalMs,
      maxIntervalMs: Math.min(MAX_SYNC_BACKOFF_MS, options.syncIntervalMs * 48),
      failure: 'Synchronize failed',
    })
    const rotationLoop = new Loop(() => this.#guarded(() => this.rotateIfDue()), {
      ...common,
      intervalMs: ROTATION_CHECK_MS,
      maxIntervalMs: RETRY_TOTAL_MS,
      failure: this.#identity.reattestable ? 'Could not reattest agent' : 'Could not rotate agent SVID',
    })
    const stored = this.#stored
    const storeLoop =
      stored &&
      new Loop(() => stored.process(), {
        ...common,
        intervalMs: STORE_INTERVAL_MS,
        maxIntervalMs: STORE_INTERVAL_MS,
        failure: 'SVIDs could not be stored',
      })
    this.cache.onMiss = () => signLoop.kick()
    try {
      await Promise.all([this.#syncLoop.run(), signLoop.run(), rotationLoop.run(), storeLoop?.run()])
    } finally {
      stop.abort()
      managerLog.debug('Stopping SVID rotator')
      log.info('Cache manager stopped', { subsystem_name: 'manager' })
      this.#connection.close()
    }
  }

  /** One sync with the server; what changed reaches subscribers before this resolves. */
  async sync(): Promise<void> {
    const { options, log, clock, state } = this.#deps
    const waiting = this.#awaitingSync.length
    const unsure = this.#unsure
    this.#unsure = new Map()
    const result = await synchronise(this.#connection, this.#known, {
      trustDomain: options.trustDomain,
      useSyncAuthorizedEntries: options.useSyncAuthorizedEntries,
      log: log.child({ subsystem_name: 'manager' }),
    })
    const bundle = result.bundles.get(options.trustDomain)!
    if (bundle.x509Authorities.length === 0)
      throw new StatusError('INTERNAL', 'the server sent a bundle without X.509 authorities')
    const changed = bundle !== this.#bundle
    this.#known = result
    for (const cache of this.#caches) {
      const isStored = cache === this.#stored?.cache
      cache.apply(new Map([...result.entries].filter(([, entry]) => entry.storeSvid === isStored)), result.bundles)
      cache.store(new Map([...unsure].filter(([id, { signedFor }]) => cache.entry(id) === signedFor)))
    }
    if (changed) this.#trustOnly(bundle)
    if (changed) await state.save({ bundle: bundle.x509Authorities.map((root) => root.der) })
    this.#lastSync = epochSeconds(clock)
    for (const resolve of this.#awaitingSync.splice(0, waiting)) resolve()
  }

  get #caches(): readonly SvidCache[] {
    return this.#stored ? [this.cache, this.#stored.cache] : [this.cache]
  }

  /**
   * Gets everything signed that the caches want signed, each entry once: an SVID that is due again as soon as it was made waits for
   * the next pass.
   */
  async signPending(): Promise<void> {
    for (const cache of this.#caches) await this.#signPending(cache)
  }

  async #signPending(cache: SvidCache): Promise<void> {
    const managerLog = this.#deps.log.child({ subsystem_name: 'manager' })
    const tried = new Set(this.#unsure.keys())
    for (;;) {
      const entries = cache.needed(this.#signing.limit, tried)
      if (entries.length === 0) return
      for (const entry of entries) tried.add(entry.id)
      managerLog.debug('Renewing stale entries', {
        cache_type: cache === this.cache ? 'workload' : 'svid_store',
        count: entries.length,
        limit: this.#signing.limit,
      })
      for (const entry of entries) {
        const former = cache.svid(entry.id)
        managerLog.info(former ? 'Renewing X509-SVID' : 'Creating X509-SVID', {
          entry_id: entry.id,
          spiffe_id: entry.spiffeId,
          expires_at: former && rfc3339(former.notAfter),
        })
      }
      const { svids, unsure, outdated } = await this.#signing.sign(this.#connection, entries)
      if (unsure.size > 0) this.#unsure = new Map([...this.#unsure, ...unsure])
      if (outdated) void this.resync()
      cache.store(svids)
    }
  }

  /** Renews the agent's own SVID if it is due or its root is tainted. */
  async rotateIfDue(): Promise<void> {
    const { options, clock, random, log } = this.#deps
    const identity = this.#identity
    const now = epochSeconds(clock)
    const rule = { random, availabilityTargetSeconds: options.availabilityTargetSeconds }
    if (!this.#taintedRoots.has(identity.rootKeyId) && !isRotationDue(identity, now, rule)) return
    log.debug('Rotating agent SVID', { subsystem_name: 'manager' })
    try {
      await this.#become(identity.reattestable ? await this.#reattest() : await this.#renew())
    } catch (error) {
      if (identity.notAfter > epochSeconds(clock) || denialOf(error)) throw error
      const what = identity.reattestable ? 'reattest agent failed' : 'rotate agent SVID failed'
      throw new FatalError(`current SVID has already expired and ${what}: ${errorMessage(error)}`, { cause: error })
    }
  }

  #connectAs(identity: AgentIdentity): Promise<GrpcChannel> {
    const { connect, state } = this.#deps
    return connect({
      identity: clientIdentity(identity),
      roots: () => this.#bundle?.x509Authorities.map((root) => root.der) ?? state.state.bundle,
    })
  }

  #reattest(): Promise<AgentIdentity> {
    return attest(this.#deps, otherSlot(this.#identity.slot), false)
  }

  async #renew(): Promise<AgentIdentity> {
    const slot = otherSlot(this.#identity.slot)
    const key = await this.#deps.keyManager.generateKey(slot, 'ec-p256')
    const csr = await createCsr({ subject: SVID_SUBJECT }, key)
    const { svid } = await this.#connection.unary(SERVER.renewAgent, { params: { csr } }, { timeoutMs: RPC_TIMEOUT_MS })
    const identity = identityOf(chainOf(svid), key, slot, false)
    if (identity.spiffeId !== this.#identity.spiffeId)
      throw new StatusError('INTERNAL', `the server renewed the agent's SVID as "${identity.spiffeId}"`)
    await this.#deps.state.save({ svid: identity.chain, reattestable: false })
    return identity
  }

  /** Goes on as this identity, over a new connection; calls under way finish on the old one. */
  async #become(identity: AgentIdentity): Promise<void> {
    const former = this.#connection
    this.#connection = await this.#connectAs(identity)
    this.#identity = identity
    former.close()
    this.#deps.log.info('Successfully rotated agent SVID', {
      spiffe_id: identity.spiffeId,
      expires_at: rfc3339(identity.notAfter),
    })
  }

  async #postStatus(): Promise<void> {
    const { options, log } = this.#deps
    try {
      await this.#connection.unary(
        SERVER.postStatus,
        { currentBundleSerial: 0, agentVersion: options.version },
        { timeoutMs: RPC_TIMEOUT_MS },
      )
    } catch (error) {
      log.error('Failed to post agent status', { error: errorMessage(error) })
    }
  }

  /** Turns a refusal of the whole agent into what follows from it. */
  async #guarded(task: () => Promise<void>): Promise<void> {
    const { state, log } = this.#deps
    const identity = this.#identity
    try {
      await task()
    } catch (error) {
      const denial = denialOf(error)
      if (denial === undefined) throw error
      // The first call with a renewed SVID ends the one before: what was said of that one says nothing of this.
      if (this.#identity !== identity) return this.#guarded(task)
      if (denial === 'banned') {
        log.error('Agent is banned: removing SVID and shutting down')
        await state.forgetSvid()
        throw new FatalError(errorMessage(error), { cause: error })
      }
      log.warn('Agent needs to re-attest; will attempt to re-attest', { error: errorMessage(error) })
      try {
        if (!this.#identity.reattestable) throw new Error('attestation method is not re-attestable')
        await this.#become(await this.#reattest())
      } catch (cause) {
        log.error('Agent failed re-attestation; removing SVID and shutting down', { error: errorMessage(cause) })
        await state.forgetSvid()
        throw new FatalError(errorMessage(error), { cause })
      }
    }
  }

  /** Lets go of what leads to an authority which is tainted in this bundle, or gone from it. */
  #trustOnly(bundle: Bundle): void {
    for (const id of taintedRoots(bundle)) this.#taintedRoots.add(id)
    const keys = new Set(bundle.jwtAuthorities.filter((key) => !key.tainted).map((key) => key.keyId))
    this.jwts.retain((keyId) => keys.has(keyId))
  }
}

/** The agent cannot go on; the process ends with this. */
export class FatalError extends Error {}

/** Attests with a new key in a slot and keeps what came of it. */
async function attest(deps: AgentDeps, slot: ReturnType<typeof otherSlot>, first: boolean): Promise<AgentIdentity> {
  const { state, options, keyManager, nodeAttestor, connect } = deps
  const log = attestorLogOf(deps)
  const connection = await connect({ roots: await rootsToAttest(deps, log) })
  try {
    const key = await keyManager.generateKey(slot, 'ec-p256')
    const { chain, reattestable, bundle } = await attestNode(connection, nodeAttestor, key)
    const identity = identityOf(chain, key, slot, reattestable)
    if (trustDomainOf(identity.spiffeId) !== options.trustDomain || bundle.trustDomain !== options.trustDomain)
      throw new StatusError('INTERNAL', `the server is not of trust domain "${options.trustDomain}"`)
    await state.save({
      svid: chain,
      reattestable,
      bundle: bundle.x509Authorities.map((root) => root.der),
      bootstrapUse: 2,
      bootstrapStartTime: '0001-01-01T00:00:00Z',
      connectionAttempts: 0,
    })
    log.info(first ? 'Node attestation was successful' : 'Successfully reattested node', {
      reattestable,
      spiffe_id: identity.spiffeId,
    })
    return identity
  } finally {
    connection.close()
  }
}

/** What the certificate of a server must lead to that is to attest us: asked when there is one to verify. undefined: any will do. */
async function rootsToAttest(
  { state, options, bootstrapRoots }: AgentDeps,
  log: Log,
): Promise<() => readonly Uint8Array[] | undefined> {
  const known = state.state.bundle
  if (known.length > 0) return () => known
  if (options.insecureBootstrap) {
    return () => {
      // What never connected skipped nothing.
      log.warn('Insecure bootstrap enabled; skipping server certificate verification')
      return undefined
    }
  }
  const configured = await bootstrapRoots()
  log.info('Bundle loaded')
  return () => configured
}

function attestorLogOf({ log, options }: AgentDeps): Log {
  return log.child({ subsystem_name: 'attestor', trust_domain_id: trustDomainId(options.trustDomain) })
}

function isDenied(error: unknown): boolean {
  return error instanceof StatusError && error.code === 'PERMISSION_DENIED'
}

/** Tries until it works, a minute has passed, the error is final or the signal aborts. */
async function retried<T>(
  { clock, random, log }: AgentDeps,
  signal: AbortSignal,
  message: string,
  final: (error: unknown) => boolean,
  task: () => Promise<T>,
): Promise<T> {
  const giveUpAt = clock.nowMs() + RETRY_TOTAL_MS
  let waitMs = RETRY_FIRST_MS
  for (;;) {
    try {
      return await task()
    } catch (error) {
      signal.throwIfAborted()
      const interval = waitMs * (0.9 + random() * 0.2)
      if (final(error) || clock.nowMs() + interval > giveUpAt) throw error
      log.warn(message, { error: errorMessage(error), retry_interval: `${(interval / 1000).toFixed(3)}s` })
      await pause(interval, signal)
      waitMs *= 1.5
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(signal.reason)
    })
  })
}
