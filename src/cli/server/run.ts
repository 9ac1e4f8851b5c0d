import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { readServerConfig, type ServerOptions } from '../../config/server.ts'
import { type Certificate, parseCertificate, serialText } from '../../core/certificate.ts'
import { type Clock, epochSeconds, systemClock } from '../../core/clock.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import { verifyX509Svid } from '../../core/path-validation.ts'
import { type SpiffeId, serverId, trustDomainOf } from '../../core/spiffe-id.ts'
import type { Store } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { generateSigner, nodeVerifier } from '../../plugins/signer.ts'
import { bindService } from '../../rpc/invoke.ts'
import { Ca } from '../../server/ca.ts'
import { CaManager } from '../../server/ca-manager.ts'
import type { ServerDeps } from '../../server/deps.ts'
import { EntryIndex } from '../../server/entry-index.ts'
import { pruneJournals } from '../../server/journal.ts'
import { ADMIN_METHODS, TCP_METHODS } from '../../server/methods.ts'
import { NodeIndex } from '../../server/node-index.ts'
import { OwnBundle } from '../../server/own-bundle.ts'
import { serverPipeline } from '../../server/pipeline.ts'
import { pruneBundle, pruneEntries, pruneNodes } from '../../server/pruning.ts'
import { type ServerSvid, ServerSvidRotation } from '../../server/server-svid.ts'
import { serveGrpc } from '../../transport/grpc-server.ts'
import { listenTls, type TlsIdentity, type VerifiedPeer } from '../../transport/tls.ts'
import { listenUnix } from '../../transport/unix-socket.ts'
import { defineCommand } from '../command.ts'
import { CommandError } from '../failure.ts'
import { type HealthCheck, serveHealth } from '../health-listener.ts'
import { openLog, type ProcessLog } from '../logger.ts'
import { pause, runPeriodically } from '../periodic.ts'
import { loadConfig, logNotices, shutdownSignal, tightenUmask } from '../process-setup.ts'
import { serveHttp } from './http.ts'
import { makeServerPlugins } from './plugins.ts'
import { DEFAULT_CONFIG, RUN_FLAGS } from './run-flags.ts'

const MAX_CONNECTION_AGE_MS = 3 * 60_000
const STOP_GRACE_MS = 10_000
const MAX_FAILED_ROTATIONS = 10

export const command = defineCommand({
  name: 'run',
  flags: RUN_FLAGS,
  async run(flags, context) {
    const options = loadConfig(flags.config || DEFAULT_CONFIG, flags.expandEnv, context.env, (content, name) =>
      readServerConfig(content, name, flags),
    )
    const processLog = openProcessLog(options)
    const { log } = processLog
    logNotices(options.notices, log)
    tightenUmask(log)
    const signal = shutdownSignal(processLog)
    try {
      await runServer(options, processLog, signal)
    } catch (error) {
      if (!signal.aborted) {
        log.error('Server crashed', { error: errorMessage(error) })
        return 1
      }
    }
    log.info('Server stopped gracefully')
    return 0
  },
})

function openProcessLog(options: ServerOptions): ProcessLog {
  try {
    return openLog(options.logging)
  } catch (error) {
    throw new CommandError(errorMessage(error))
  }
}

/** Runs a server until the signal aborts. @throws Error if it cannot start or go on */
export async function runServer(options: ServerOptions, processLog: ProcessLog, signal: AbortSignal): Promise<void> {
  const { trustDomain } = options
  const { log } = processLog
  const clock = systemClock
  const startedAtMs = clock.nowMs()
  const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)
  const verify = nodeVerifier()
  log.info('Configured', { trust_domain_id: trustDomain, data_dir: options.dataDir, admin_ids: options.adminIds })
  mkdirSync(options.dataDir, { recursive: true, mode: 0o755 })

  // Storage, keys and who signs us.
  const trust: { roots?: (trustDomain: TrustDomain) => Promise<readonly Certificate[]> } = {}
  const plugins = await makeServerPlugins(options.plugins, {
    trustDomain,
    dataDir: options.dataDir,
    roots: async () => (await trust.roots?.(trustDomain)) ?? [],
    clock,
    random,
    verify,
    log,
    env: process.env,
    signal,
  })
  const { store, keyManager, upstream } = plugins
  const bundle = new OwnBundle(store, trustDomain)
  trust.roots = trustRoots(store, bundle)
  const [entries, nodes] = await Promise.all([EntryIndex.load(store, trustDomain), NodeIndex.load(store)])
  await refuseForeignEntries(store, trustDomain)

  // Authorities.
  const ca = new Ca({ ...options, jwtIssuer: options.jwtIssuer, clock, random })
  let svid: ServerSvidRotation | undefined
  const manager = await CaManager.load(options, {
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
  await manager.rotate()
  let identity: TlsIdentity | undefined
  let setIdentity = (next: TlsIdentity) => {
    identity = next
  }
  svid = new ServerSvidRotation({
    ca,
    newKey: generateSigner,
    keyType: options.caKeyType,
    id: serverId(trustDomain),
    clock,
    log: log.child({ subsystem_name: 'svid_rotator' }),
    onRotated: (next) => setIdentity(tlsIdentity(next)),
  })
  await svid.rotateIfDue()

  // Services, bound twice: what TCP offers, and all of it on the admin socket.
  const deps: ServerDeps = {
    trustDomain,
    adminIds: new Set(options.adminIds),
    clock,
    store,
    ca,
    bundle,
    entries,
    nodes,
    verify,
    nodeAttestors: plugins.nodeAttestors,
    jwtSvidsEnabled: !options.disableJwtSvids,
    witSvidsEnabled: options.witKeyType !== undefined,
    agentIdAsSelector: options.agentSpiffeIdAsSelector,
    publishJwtKey: (key) => manager.publishJwtKey(key),
    publishWitKey: (key) => manager.publishWitKey(key),
    startedAtMs,
    serverSvidChain: async () => {
      const chain = svid.current?.chain ?? []
      const { path } = await verifySvid(chain, trust.roots!, clock, verify)
      return path.map((certificate) => certificate.der)
    },
    logControl: processLog,
    newUuid: randomUUID,
  }
  const pipeline = serverPipeline({
    log,
    clock,
    wait: async (ms, stop) => {
      await pause(ms, stop)
      stop.throwIfAborted()
    },
    newUuid: randomUUID,
    auditEnabled: options.auditLogEnabled,
    limitAttestation: options.rateLimitAttestation,
    limitSigning: options.rateLimitSigning,
  })
  const endpointLog = log.child({ subsystem_name: 'endpoints' })
  const tcp = serveGrpc({
    service: bindService(TCP_METHODS, deps, pipeline),
    log: endpointLog,
    maxConnectionAgeMs: MAX_CONNECTION_AGE_MS,
  })
  const admin = serveGrpc({ service: bindService(ADMIN_METHODS, deps, pipeline), log: endpointLog })
  const verifyPeer = async (chain: readonly Uint8Array[]): Promise<VerifiedPeer> => {
    const { spiffeId, leaf } = await verifySvid(chain, trust.roots!, clock, verify)
    if (trustDomainOf(spiffeId) !== trustDomain && !deps.adminIds.has(spiffeId)) {
      throw new StatusError('UNAUTHENTICATED', `unexpected trust domain in ID ${JSON.stringify(spiffeId)}`)
    }
    return { spiffeId, serialNumber: serialText(leaf), expiresAt: leaf.notAfter }
  }
  const tlsListener = await listenTls({
    host: options.bindAddress,
    port: options.bindPort,
    identity: identity!,
    log: endpointLog,
    requirePqKem: options.requirePqKem,
    verifyPeer,
    onConnection: (socket, peer) => tcp.accept(socket, peer),
  }).catch((error) =>
    Promise.reject(new Error(`failed to listen on ${options.bindAddress}:${options.bindPort}: ${errorMessage(error)}`)),
  )
  setIdentity = (next) => tlsListener.setIdentity(next)
  const unixListener = await listenUnix({
    path: options.socketPath,
    mode: 0o770,
    onConnection: (socket) => admin.accept(socket, { via: 'local' }),
  })
  endpointLog.info('Starting Server APIs', { address: tlsListener.address, network: 'tcp' })
  endpointLog.info('Starting Server APIs', { address: unixListener.address, network: 'unix' })
  const stopHealth = options.healthChecks.enabled
    ? await serveHealth(options.healthChecks, healthChecks(deps, manager), log)
    : async () => {}

  const stopHttp = options.http
    ? await serveHttp(options.http, {
        service: bindService(TCP_METHODS, deps, pipeline),
        bundle,
        verifyPeer,
        identity: () => svid.current && { chain: svid.current.chain, signer: svid.current.key },
        verify,
        clock,
        log: endpointLog,
      })
    : async () => {}

  // What is done again and again.
  const caLog = log.child({ subsystem_name: 'ca_manager' })
  runPeriodically(
    [
      { everyMs: rotationIntervalMs(options.caTtlSeconds), run: () => manager.rotate() },
      { everyMs: 5_000, failure: 'Could not rotate server SVID', run: () => svid.rotateIfDue() },
      {
        everyMs: 5 * 60_000,
        failure: 'Could not look after the keys',
        run: async () => keyManager.maintain?.(epochSeconds(clock)),
      },
      {
        everyMs: 6 * 3600_000,
        failure: 'Could not prune CA certificates',
        run: () => pruneBundle(store.bundles, trustDomain, epochSeconds(clock), caLog),
      },
      {
        everyMs: 8 * 3600_000,
        failure: 'Could not prune CA journals',
        run: async () => {
          await pruneJournals(store.journals, epochSeconds(clock))
        },
      },
      {
        everyMs: 5 * 60_000,
        failure: 'Failed pruning registration entries',
        run: () =>
          pruneEntries(store.entries, epochSeconds(clock), log.child({ subsystem_name: 'registration_manager' })),
      },
      ...(options.pruneAttestedNodesExpiredForSeconds === undefined
        ? []
        : [
            {
              everyMs: 3600_000,
              jitter: 0.25,
              failure: 'Failed pruning attested nodes',
              run: () =>
                pruneNodes(
                  store.nodes,
                  nodePruning(options),
                  epochSeconds(clock),
                  log.child({ subsystem_name: 'node_manager' }),
                ),
            },
          ]),
    ],
    signal,
    log,
  )
  const following = followUpstream(manager, signal, caLog)

  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
  log.info('Stopping Server APIs', { subsystem_name: 'endpoints' })
  await Promise.all([tlsListener.close(), unixListener.close(), stopHealth(), stopHttp()])
  await Promise.all([tcp.close(STOP_GRACE_MS), admin.close(STOP_GRACE_MS), following])
  await upstream?.close?.()
  await store.close()
}

/** Parsed roots of a trust domain: the own ones kept until the bundle changes, others read when asked for. */
function trustRoots(store: Store, own: OwnBundle): (trustDomain: TrustDomain) => Promise<readonly Certificate[]> {
  const parsed = new WeakMap<object, readonly Certificate[]>()
  return async (trustDomain) => {
    const bundle = trustDomain === own.trustDomain ? await own.get() : await store.bundles.get(trustDomain)
    if (!bundle) return []
    let roots = parsed.get(bundle)
    if (!roots) {
      roots = bundle.x509Authorities.map(({ der }) => parseCertificate(der))
      parsed.set(bundle, roots)
    }
    return roots
  }
}

async function verifySvid(
  chain: readonly Uint8Array[],
  rootsOf: (trustDomain: TrustDomain) => Promise<readonly Certificate[]>,
  clock: Clock,
  verify: ReturnType<typeof nodeVerifier>,
) {
  // The leaf says which bundle is needed; what it says counts for nothing until it was verified.
  const claimed = trustDomainOf(claimedId(chain))
  const roots = await rootsOf(claimed)
  return verifyX509Svid({
    chain,
    rootsOf: (trustDomain) => (trustDomain === claimed && roots.length > 0 ? roots : undefined),
    at: epochSeconds(clock),
    verify,
  })
}

function claimedId(chain: readonly Uint8Array[]): SpiffeId {
  const [uri] = chain.length > 0 ? parseCertificate(chain[0]!).uris : []
  return (uri ?? '') as SpiffeId
}

function tlsIdentity(svid: ServerSvid): TlsIdentity {
  const privateKey = svid.key.exportPrivateKey?.()
  if (!privateKey) throw new Error('the key of the server SVID cannot be handed to TLS')
  return { certificates: svid.chain, privateKey }
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

/** SPIRE looks every 10 seconds; a CA that lives for less than minutes would be over before its successor is due. */
function rotationIntervalMs(caTtlSeconds: number): number {
  return Math.min(10_000, (caTtlSeconds * 1000) / 20)
}

function nodePruning(options: ServerOptions) {
  return {
    expiredForSeconds: options.pruneAttestedNodesExpiredForSeconds ?? 0,
    batchSize: options.pruneAttestedNodesBatchSize,
    includeNonReattestable: options.pruneTofuNodes,
  }
}

/** Follows the upstream until the end; when its stream breaks it is taken up again. */
async function followUpstream(manager: CaManager, signal: AbortSignal, log: ProcessLog['log']): Promise<void> {
  while (!signal.aborted && manager.followsUpstream) {
    try {
      await manager.followUpstream(signal)
    } catch (error) {
      if (!signal.aborted)
        log.error('Failed to follow the bundle of the upstream authority', { error: errorMessage(error) })
    }
    await pause(5_000, signal)
  }
}

function healthChecks(deps: ServerDeps, manager: CaManager): HealthCheck[] {
  const outcome = async (key: string, look: () => Promise<unknown>) => {
    try {
      await look()
      return { live: true, ready: true, details: {} }
    } catch (error) {
      return { live: false, ready: false, details: { [key]: errorMessage(error) } }
    }
  }
  return [
    {
      name: 'server',
      check: () =>
        outcome('get_bundle_err', async () => {
          if (!(await deps.bundle.get())) throw new Error('unable to fetch bundle: bundle not found')
        }),
    },
    {
      name: 'server.ca',
      check: () =>
        outcome('sign_x509_svid_err', async () => {
          const key = await generateSigner('ec-p256')
          const id = `spiffe://${deps.trustDomain}/for/health/check/only` as SpiffeId
          await deps.ca.signWorkloadX509({ id, spki: key.publicKey, ttlSeconds: 60 })
        }),
    },
    {
      name: 'server.ca.rotator',
      check: () =>
        outcome('rotation_err', async () => {
          if (manager.failedRotations > MAX_FAILED_ROTATIONS) throw new Error('rotations failed too often')
        }),
    },
    { name: 'catalog.datastore', check: () => outcome('list_bundle_err', () => deps.store.bundles.count()) },
  ]
}
