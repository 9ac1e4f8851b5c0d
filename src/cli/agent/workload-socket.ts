import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Agent } from '../../../agent/agent.ts'
import { SDS, type SdsApi } from '../../../agent/sds.ts'
import { WORKLOAD_API, type WorkloadApi } from '../../../agent/workload-api.ts'
import { workloadAttestation } from '../../../agent/workload-attestation.ts'
import { WORKLOAD_HEALTH } from '../../../agent/workload-health.ts'
import { workloadPipeline } from '../../../agent/workload-pipeline.ts'
import type { AgentOptions } from '../../config/agent.ts'
import { systemClock } from '../../core/clock.ts'
import { type CountedLog, countedLog } from '../../core/counted-log.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import type { WorkloadAttestor } from '../../core/plugin.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import { rememberingVerifier } from '../../core/remembering-verifier.ts'
import { bindService } from '../../rpc/invoke.ts'
import type { Call, Method } from '../../rpc/method.ts'
import { betweenArrivals } from '../../transport/between-arrivals.ts'
import { fairTurns } from '../../transport/fair-turns.ts'
import { serveGrpc } from '../../transport/grpc-server.ts'
import { loadPeerWatcher, watchOf } from '../../transport/peer.ts'
import { refuseConnection } from '../../transport/refuse-connection.ts'
import { type SharedBoundOptions, sharedBound } from '../../transport/shared-bound.ts'
import { listenUnix, requireFreePath } from '../../transport/unix-socket.ts'

const STOP_GRACE_MS = 5_000
const SUM_UP_MS = 60_000
/** Tokens that workloads validate again and again. */
const REMEMBERED_SIGNATURES = 4096
/** A workload that wants one SVID leaves the stream with the first: on one connection so often, before it has to make a new one. */
const STREAM_RESETS = { burst: 500, perSecond: 250 }
/** What all connections of one user have open, and those of all users. */
const CALLS: SharedBoundOptions = { perHolder: 16_384, inAll: 65_536, few: 64 }
/**
 * Of one connection; clients keep the rest back. A workload has one or two; with 100, one user's thousand connections were seen to keep
 * another's first SVID waiting for 1.6 seconds.
 */
const STREAMS = 16
/** How many connections of a user have so many; of each further one it is a few, so that what all of them hold open stays small. */
const FULL_CONNECTIONS = 256
const FEW_STREAMS = 4
/** Connections of all users that begin in one turn of the event loop: each may bring its calls at once. */
const BEGINNING = 2

/** @throws Error if workloads could not be served on this machine, or there */
export async function requireSocket(path: string): Promise<void> {
  await loadPeerWatcher()
  await requireFreePath(resolve(path))
}

/** Serves the Workload API and Envoy's SDS on the public socket, to each user of this machine their share. @returns stops it */
export async function serveWorkloads(
  options: AgentOptions,
  agent: Agent,
  attestors: readonly WorkloadAttestor[],
  log: Log,
  verify: VerifySignature,
): Promise<() => Promise<void>> {
  const endpointLog = log.child({ subsystem_name: 'endpoints' })
  const attestorLog = log.child({ subsystem_name: 'workload_attestor' })
  const refusals = countedLog(endpointLog, { clock: systemClock })
  const failures = countedLog(attestorLog, { clock: systemClock })
  const sums = setInterval(() => sumUp(refusals, failures), SUM_UP_MS).unref()
  const attest = workloadAttestation(attestors, attestorLog, failures)
  const api: WorkloadApi & SdsApi = {
    trustDomain: options.trustDomain,
    sds: options.sds,
    cache: agent.cache,
    jwts: agent.jwts,
    resync: () => agent.resync(),
    async attest(call: Call) {
      const watch = call.peer.via === 'local' && call.peer.process ? watchOf(call.peer.process) : undefined
      if (!watch) throw new StatusError('INTERNAL', 'peer tracker watcher missing from context')
      return attest({ ...watch.process, assertAlive: () => watch.assertAlive() }, call.signal)
    },
    allowUnauthenticatedVerifiers: options.allowUnauthenticatedVerifiers,
    allowedForeignJwtClaims: new Set(options.allowedForeignJwtClaims),
    logSelectors: options.logSelectors,
    verify: rememberingVerifier(verify, REMEMBERED_SIGNATURES),
    clock: systemClock,
    log: endpointLog,
    refusals,
  }
  const connections = sharedBound<number>(connectionBound(descriptorLimit()))
  const watchPeer = await loadPeerWatcher((socket, { uid }) => {
    if (!connections.take(uid)) throw new TooManyConnections(uid)
    socket.once('close', () => connections.give(uid))
  })
  const arrivals = betweenArrivals()
  const beginning = fairTurns<number>({ perTurn: BEGINNING, later: arrivals.later })
  const methods: readonly Method<WorkloadApi & SdsApi>[] = [
    ...(options.disableWorkloadApi ? [] : WORKLOAD_API),
    ...(options.disableSdsApi ? [] : SDS),
    ...WORKLOAD_HEALTH,
  ]
  const server = serveGrpc({
    service: bindService(methods, api, workloadPipeline(log, randomUUID)),
    log: endpointLog,
    streamResets: STREAM_RESETS,
    maxConcurrentStreams: STREAMS,
    calls: CALLS,
    inTurns: fairTurns({ later: arrivals.later }),
  })
  const listener = await listenUnix({
    path: resolve(options.socketPath),
    mode: 0o777,
    directoryMode: 0o755,
    // The bound above is the tighter one, and says why.
    maxConnections: Number.MAX_SAFE_INTEGER,
    onConnection(socket) {
      arrivals.arrived()
      try {
        const { process } = watchPeer(socket)
        beginning.take(process.uid, () => {
          const full = connections.heldBy(process.uid) <= FULL_CONNECTIONS
          server.accept(socket, { via: 'local', process }, full ? {} : { maxConcurrentStreams: FEW_STREAMS })
        })
      } catch (error) {
        const tooMany = error instanceof TooManyConnections
        refusals
          .of({ caller_uid: tooMany ? error.uid : undefined })
          .warn('Connection dropped', { error: errorMessage(error) })
        if (tooMany) refuseConnection(socket, error.message)
        else socket.destroy()
      }
    },
  })
  const apis = [
    ...(options.disableWorkloadApi ? [] : ['Workload API']),
    ...(options.disableSdsApi ? [] : ['SDS']),
  ].join(', ')
  endpointLog.info('Starting agent APIs', { address: listener.address, apis, network: 'unix' })
  return async () => {
    endpointLog.info('Stopping agent APIs', { apis })
    await listener.close()
    await server.close(STOP_GRACE_MS)
    clearInterval(sums)
    sumUp(refusals, failures)
  }
}

class TooManyConnections extends Error {
  readonly uid: number

  constructor(uid: number) {
    super(`too many connections of uid ${uid} are open`)
    this.uid = uid
  }
}

function sumUp(...logs: readonly CountedLog[]): void {
  for (const log of logs) log.sumUp()
}

/** The socket, and two files of /proc that watch the process. */
const DESCRIPTORS_EACH = 3
const MOST_CONNECTIONS = 8_192
/** For what the agent opens itself: its server, its files, attestation of whoever calls. */
const OWN_DESCRIPTORS = 1_024

/** How many connections this many descriptors are for: half of them for one user, and a fifth of all for whoever has few. */
export function connectionBound(descriptors: number): SharedBoundOptions {
  const forConnections = descriptors - Math.min(OWN_DESCRIPTORS, descriptors / 2)
  const atMost = Math.min(MOST_CONNECTIONS, Math.floor(forConnections / DESCRIPTORS_EACH))
  return { perHolder: Math.floor(atMost / 2), inAll: Math.floor(atMost * 0.8), atMost }
}

/** Files that this process may have open; what kernels allow by default if it is not known. */
function descriptorLimit(): number {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
    return Number(soft ?? 1_024)
  } catch {
    return 1_024
  }
}
