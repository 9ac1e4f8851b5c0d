import { randomUUID } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { mkdirSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { readServerConfig, type ServerOptions } from '../../config/server.ts'
import { systemClock } from '../../core/clock.ts'
import { errorMessage } from '../../core/error.ts'
import { tokenIssuers } from '../../plugins/oidc/issuers.ts'
import { generateSigner, nodeVerifier } from '../../plugins/signer.ts'
import { bundleNews } from '../../server/bundle-news.ts'
import type { CaManager } from '../../server/ca-manager.ts'
import { ChangeTail } from '../../server/change-tail.ts'
import { EntryIndex } from '../../server/entry-index.ts'
import { entriesInMemory } from '../../server/entry-lookup.ts'
import { NodeIndex } from '../../server/node-index.ts'
import { assembleServer } from '../../server/server.ts'
import type { ServerSvid } from '../../server/server-svid.ts'
import type { Trust } from '../../server/trust.ts'
import { serveGrpc } from '../../transport/grpc-server.ts'
import { listenTls, type TlsIdentity } from '../../transport/tls.ts'
import { listenUnix } from '../../transport/unix-socket.ts'
import { defineCommand } from '../command.ts'
import { CommandError } from '../failure.ts'
import { serveHealth } from '../health-listener.ts'
import { idleMemoryTasks } from '../idle-memory.ts'
import type { ProcessLog } from '../logger.ts'
import { pause, runPeriodically } from '../periodic.ts'
import { type PluginSet, pluginHealthChecks, requireUsablePlugins } from '../plugin-set.ts'
import {
  checkRuntime,
  loadConfig,
  logCrash,
  logNotices,
  onReload,
  openProcessLog,
  outliveStrayFailures,
  shutdownSignal,
  tightenUmask,
  warnIfShared,
} from '../process-setup.ts'
import { VERSION } from '../version.ts'
import { loadExchangeSources } from './exchange-sources.ts'
import { serverHealthChecks } from './health-checks.ts'
import type { PluginServices } from './plugin-services.ts'
import { makeServerPlugins, serverPluginSet } from './plugins.ts'
import { DEFAULT_CONFIG, RUN_FLAGS } from './run-flags.ts'

const MAX_CONNECTION_AGE_MS = 3 * 60_000
/** Open at once of one identity or one network of strangers, and of all: a thousand agents behind one address attest in one call each. */
const CALLS = { perHolder: 4_096, inAll: 16_384 }
const STOP_GRACE_MS = 10_000
const UPSTREAM_PLUGIN = {
  external: false,
  plugin_name: 'spire',
  plugin_type: 'UpstreamAuthority',
  subsystem_name: 'built-in_plugin.spire',
}

export const command = defineCommand({
  name: 'run',
  flags: RUN_FLAGS,
  repeatFlagError: '',
  async run(flags, context) {
    const options = loadConfig(flags.config || DEFAULT_CONFIG, flags.expandEnv, context.env, (content, name) =>
      readServerConfig(content, name, flags),
    )
    checkRuntime(options)
    await requireAddress(options)
    const processLog = openProcessLog(options.logging)
    const { log } = processLog
    outliveStrayFailures(log)
    logNotices(options.notices, log)
    for (const sentence of options.withoutEffect) log.warn(sentence)
    tightenUmask(log)
    const signal = shutdownSignal(processLog)
    try {
      await runServer(options, processLog, signal)
    } catch (error) {
      if (!signal.aborted) {
        logCrash(log, 'Server crashed', error)
        return 1
      }
    }
    log.info('Server stopped gracefully')
    return 0
  },
})

/** Asks for the address to listen on before anything is made. @throws CommandError if there is none of that name */
async function requireAddress({ bindAddress, bindPort }: ServerOptions): Promise<void> {
  await lookup(bindAddress).catch((error) => {
    const reason = error.code === 'ENOTFOUND' ? 'no such host' : errorMessage(error)
    throw new CommandError(
      `could not resolve bind address "${bindAddress}:${bindPort}": lookup ${bindAddress}: ${reason}`,
    )
  })
}

/** Runs a server until the signal aborts. @throws Error if it cannot start or go on */
export async function runServer(options: ServerOptions, processLog: ProcessLog, signal: AbortSignal): Promise<void> {
  const { trustDomain } = options
  const { log } = processLog
  log.info('Configured', {
    trust_domain_id: trustDomain,
    data_dir: options.dataDir,
    admin_ids: options.adminIds,
    launch_log_level: processLog.launchLevel,
    version: VERSION,
  })
  const lent: PluginServices = {}
  const pluginSet = serverPluginSet(options, lent, process.env, log)
  try {
    await serve(options, processLog, pluginSet, lent, signal)
  } finally {
    await pluginSet.close()
  }
}

async function serve(
  options: ServerOptions,
  processLog: ProcessLog,
  pluginSet: PluginSet<'server'>,
  lent: PluginServices,
  signal: AbortSignal,
): Promise<void> {
  const { trustDomain } = options
  const { log } = processLog
  const clock = systemClock
  const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)
  const verify = nodeVerifier()
  await requireUsablePlugins(pluginSet, { ...options, clock, verify })
  mkdirSync(options.dataDir, { recursive: true, mode: 0o755 })
  warnIfShared(options.dataDir, 'data', log)
  warnIfShared(dirname(resolve(options.socketPath)), 'socket', log)

  // Storage, keys and who signs us.
  const trust: { roots?: Trust['roots'] } = {}
  const plugins = await makeServerPlugins(pluginSet, {
    trustDomain,
    dataDir: options.dataDir,
    roots: async () => (await trust.roots?.(trustDomain)) ?? [],
    clock,
    random,
    verify,
    log,
    env: process.env,
    signal,
    wait: pause,
    connectUpstream: async (config) => {
      const { connectUpstream } = await import('./upstream-server.ts')
      return connectUpstream({ ...config, clock, verify, log: log.child(UPSTREAM_PLUGIN), signal })
    },
  })
  const { store, upstream } = plugins
  const shared = plugins.storeShared || plugins.keyManager.shared !== undefined
  // What others write from here on is news; what they wrote before is read.
  if (shared) await store.changes.catchUp()
  const nodes = await NodeIndex.load(store)
  // A million entries take a while. They are read once everything else is up, and questions go to the database until then.
  const entryIndex = new EntryIndex(store, trustDomain, {
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    failed: async (error) => {
      signal.throwIfAborted()
      log.error('Could not read the registration entries', { error: errorMessage(error) })
      await pause(5_000, signal)
      signal.throwIfAborted()
    },
  })
  const server = await assembleServer(options, {
    ...plugins,
    entries: entriesInMemory(entryIndex, store.entries),
    nodes,
    exchange: options.http && {
      sources: loadExchangeSources(options.http.exchange),
      newIssuer: tokenIssuers({ verify, clock, log }),
    },
    plainJoinTokens: options.http?.plainJoinTokens,
    changeTail: await ChangeTail.open(store.changes, pause),
    verify,
    newKey: generateSigner,
    random,
    newUuid: randomUUID,
    wait: async (ms, stop) => {
      await pause(ms, stop)
      stop.throwIfAborted()
    },
    signal,
    clock,
    log,
    logControl: processLog,
  })
  trust.roots = server.trust.roots
  lent.server = server
  const news = bundleNews({
    trustDomain,
    bundle: () => server.bundle.get(),
    changes: store.changes,
    notifiers: plugins.notifiers,
    publishers: plugins.bundlePublishers,
    log,
  })
  await news.loaded()
  if (pluginSet.hasExternal) await onReload(() => pluginSet.reconfigure(), signal)

  // Listeners: what the network is offered, and all of it on the admin socket.
  log.info('Logger service configured', { launch_log_level: processLog.launchLevel })
  const endpointLog = log.child({ subsystem_name: 'endpoints' })
  endpointLog.debug('Initializing API endpoints')
  const tcp = serveGrpc({
    service: server.service,
    log: endpointLog,
    maxConnectionAgeMs: MAX_CONNECTION_AGE_MS,
    calls: CALLS,
  })
  const admin = serveGrpc({ service: server.adminService, log: endpointLog })
  const tlsListener = await listenTls({
    host: options.bindAddress,
    port: options.bindPort,
    identity: tlsIdentity(server.identity()),
    log: endpointLog,
    requirePqKem: options.requirePqKem,
    verifyPeer: server.trust.verifyPeer,
    onConnection: (socket, peer) => tcp.accept(socket, peer),
  })
  server.onIdentity((svid) => tlsListener.setIdentity(tlsIdentity(svid)))
  const unixListener = await listenUnix({
    path: options.socketPath,
    mode: 0o770,
    onConnection: (socket) => admin.accept(socket, { via: 'local' }),
  })
  const offered = [
    { address: tlsListener.address, network: 'tcp' },
    { address: unixListener.address, network: 'unix' },
  ]
  for (const fields of offered) endpointLog.info('Starting Server APIs', fields)
  const healthLog = log.child({ subsystem_name: 'health' })
  healthLog.debug('Initializing health checkers')
  const stopHealth = options.healthChecks.enabled
    ? await serveHealth(
        options.healthChecks,
        [...serverHealthChecks(server, generateSigner), ...pluginHealthChecks(pluginSet)],
        healthLog,
      )
    : async () => {}

  const stopHttp = options.http
    ? await (await import('./http.ts')).serveHttp(options.http, {
        server,
        keyManager: plugins.keyManager,
        verify,
        clock,
        log: endpointLog,
      })
    : async () => {}

  // Where replicas share keys, looking this often means that no signature has to wait for the database.
  const look = {
    everyMs: 2_000,
    failure: 'Could not read the shared authorities',
    run: () => server.manager.refresh(),
  }
  // The same for all that is kept in memory: an entry made at another server is at this one's agents within two seconds, and a new root is
  // known before what it signed comes along.
  const follow = {
    everyMs: 1_000,
    failure: 'Could not read what other servers wrote',
    run: () => store.changes.catchUp(),
  }
  const looks = [...(plugins.keyManager.shared ? [look] : []), ...(shared ? [follow] : [])]
  runPeriodically([...server.tasks, ...news.tasks, ...looks, ...idleMemoryTasks()], signal, log)
  endpointLog.info('Building in-memory entry cache')
  // It gives up when the process ends.
  entryIndex.read().then(
    () => endpointLog.info('Completed building in-memory entry cache'),
    () => {},
  )
  const following = followUpstream(server.manager, signal, log.child({ subsystem_name: 'ca_manager' }))

  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
  log.debug('Stopping SVID rotator', { subsystem_name: 'svid_rotator' })
  healthLog.debug('Finishing health checker')
  for (const fields of offered) {
    endpointLog.info('Stopping Server APIs', fields)
    endpointLog.info('Attempting graceful stop', fields)
  }
  await Promise.all([tlsListener.close(), unixListener.close(), stopHealth(), stopHttp()])
  const [tcpInTime, adminInTime] = await Promise.all([tcp.close(STOP_GRACE_MS), admin.close(STOP_GRACE_MS), following])
  for (const fields of offered) {
    if (tcpInTime && adminInTime) endpointLog.info('Graceful stop successful', fields)
    endpointLog.info('Server APIs have stopped', fields)
  }
  await upstream?.close?.()
  const storeLog = log.child({ subsystem_name: 'catalog' })
  storeLog.debug('Closing DataStore')
  await store.close()
  storeLog.info('DataStore closed')
}

function tlsIdentity(svid: ServerSvid): TlsIdentity {
  const privateKey = svid.key.exportPrivateKey?.()
  if (!privateKey) throw new Error('the key of the server SVID cannot be handed to TLS')
  return { certificates: svid.chain, privateKey }
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
