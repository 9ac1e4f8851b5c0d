import { mkdirSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { Agent } from '../../../agent/agent.ts'
import { followServer } from '../../../agent/server-feed.ts'
import { StateFile } from '../../../agent/state.ts'
import { type AgentOptions, readAgentConfig } from '../../config/agent.ts'
import { systemClock } from '../../core/clock.ts'
import type { Log } from '../../core/log.ts'
import { replaceFile } from '../../plugins/replace-file.ts'
import { generateSigner, nodeVerifier } from '../../plugins/signer.ts'
import { defineCommand } from '../command.ts'
import { serveHealth } from '../health-listener.ts'
import { idleMemoryTasks } from '../idle-memory.ts'
import { pause, runPeriodically } from '../periodic.ts'
import { PluginSet, pluginHealthChecks } from '../plugin-set.ts'
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
import { serverConnections } from '../server-connections.ts'
import { VERSION } from '../version.ts'
import { bootstrapRoots } from './bootstrap.ts'
import { joinTokenOf } from './join-token.ts'
import { makeAgentPlugins } from './plugins.ts'
import { DEFAULT_CONFIG, RUN_FLAGS } from './run-flags.ts'
import { requireSocket, serveWorkloads } from './workload-socket.ts'

export const command = defineCommand({
  name: 'run',
  flags: RUN_FLAGS,
  repeatFlagError: '',
  async run(flags, context) {
    const options = loadConfig(flags.config || DEFAULT_CONFIG, flags.expandEnv, context.env, (content, name) =>
      readAgentConfig(content, name, flags),
    )
    checkRuntime(options)
    const joinToken = joinTokenOf(options)
    const processLog = openProcessLog(options.logging)
    const { log } = processLog
    outliveStrayFailures(log)
    logNotices(options.notices, log)
    for (const sentence of options.withoutEffect) log.warn(sentence)
    // Workloads of all users must be able to reach the socket: its folder is made before the umask gets strict.
    const socketDirectory = dirname(resolve(options.socketPath))
    if (mkdirSync(socketDirectory, { recursive: true, mode: 0o755 }) !== undefined)
      log.info('Creating spire agent UDS directory', { dir: socketDirectory })
    warnIfShared(socketDirectory, 'socket', log)
    warnIfShared(resolve(options.dataDir), 'data', log)
    tightenUmask(log)
    const signal = shutdownSignal(processLog)
    try {
      await runAgent(options, joinToken, log, signal)
    } catch (error) {
      if (!signal.aborted) {
        logCrash(log, 'Agent crashed', error)
        return 1
      }
    }
    log.info('Agent stopped gracefully')
    return 0
  },
})

/** Runs an agent until the signal aborts. @throws Error if it cannot start or go on */
export async function runAgent(
  options: AgentOptions,
  joinToken: string | undefined,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const { trustDomain } = options
  const pluginSet = new PluginSet(
    'agent',
    options.plugins,
    async () => {
      const { hostServices } = await import('../host-services.ts')
      return { trustDomain, hostServices: hostServices([], {}, log), env: process.env, log }
    },
    log,
  )
  try {
    await serve(options, joinToken, pluginSet, log, signal)
  } finally {
    await pluginSet.close()
  }
}

async function serve(
  options: AgentOptions,
  joinToken: string | undefined,
  pluginSet: PluginSet<'agent'>,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const { trustDomain } = options
  const clock = systemClock
  const random = Math.random
  const verify = nodeVerifier()
  log.info('Starting agent', { data_dir: options.dataDir, version: VERSION })
  const state = await StateFile.open(options.dataDir, replaceFile)
  const plugins = await makeAgentPlugins(pluginSet, joinToken, {
    trustDomain,
    dataDir: options.dataDir,
    env: process.env,
  })

  // What can fail on this machine fails before the attestation, which may use up a join token.
  const servesWorkloads = !options.disableWorkloadApi || !options.disableSdsApi
  if (servesWorkloads) await requireSocket(options.socketPath)

  const agent = await Agent.start(
    {
      options: {
        trustDomain,
        version: VERSION,
        insecureBootstrap: options.bootstrap.kind === 'insecure',
        syncIntervalMs: options.syncIntervalSeconds * 1000,
        useSyncAuthorizedEntries: options.useSyncAuthorizedEntries,
        x509CacheSize: options.x509SvidCacheMaxSize,
        jwtCacheSize: options.jwtSvidCacheMaxSize,
        jwtHitTimeoutMs: options.jwtSvidCacheHitTimeoutSeconds * 1000,
        availabilityTargetSeconds: options.availabilityTargetSeconds,
        workloadKeyType: options.workloadX509SvidKeyType,
      },
      state,
      keyManager: plugins.keyManager,
      nodeAttestor: plugins.nodeAttestor,
      svidStores: plugins.svidStores,
      bootstrapRoots: () => bootstrapRoots(options),
      newWorkloadKey: generateSigner,
      connect: serverConnections(options, verify),
      verify,
      clock,
      random,
      log,
    },
    signal,
  )

  const keyManagerName = options.plugins.find(({ type, enabled }) => type === 'KeyManager' && enabled)?.name
  if (!agent.identity.reattestable && keyManagerName === 'memory') {
    log.warn(
      "Node attestation is not reattestable and the 'memory' key manager is in use; if the agent process is restarted, it will be unable to obtain a new SVID and will need to be manually evicted to be able to re-attest.",
    )
  }
  const running = agent.run()
  if (pluginSet.hasExternal) await onReload(() => pluginSet.reconfigure(), signal)
  runPeriodically(idleMemoryTasks(), signal, log)
  const stop = new AbortController()
  const feed = followServer(agent, { random, log, wait: pause, signal: AbortSignal.any([signal, stop.signal]) })
  const closeApi = servesWorkloads
    ? await serveWorkloads(options, agent, plugins.workloadAttestors, log, verify)
    : async () => {}
  const healthLog = log.child({ subsystem_name: 'health' })
  healthLog.debug('Initializing health checkers')
  const closeHealth = options.healthChecks.enabled
    ? await serveHealth(
        options.healthChecks,
        [
          {
            name: 'agent',
            async check() {
              const healthy = agent.cache.bundle(trustDomain) !== undefined
              const details: Record<string, string> = healthy
                ? {}
                : { make_new_x509_err: 'workload api is unavailable' }
              return { live: healthy, ready: healthy, details }
            },
          },
          ...pluginHealthChecks(pluginSet),
        ],
        healthLog,
      )
    : async () => {}
  try {
    await running
  } finally {
    stop.abort()
    healthLog.debug('Finishing health checker')
    await Promise.all([closeApi(), closeHealth(), feed])
  }
}
