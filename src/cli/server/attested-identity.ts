import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Agent } from '../../../agent/agent.ts'
import type { AgentEntry } from '../../../agent/entry.ts'
import { followServer } from '../../../agent/server-feed.ts'
import { StateFile } from '../../../agent/state.ts'
import type { ServerPlace } from '../../config/server-place.ts'
import type { Clock } from '../../core/clock.ts'
import { errorMessage } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import { diskKeyManager } from '../../plugins/keymanager/disk.ts'
import { replaceFile } from '../../plugins/replace-file.ts'
import { generateSigner } from '../../plugins/signer.ts'
import type { SvidSource } from '../../plugins/upstreamauthority/spire/config.ts'
import { bootstrapRoots } from '../agent/bootstrap.ts'
import { pause } from '../periodic.ts'
import { serverConnections } from '../server-connections.ts'
import { VERSION } from '../version.ts'
import type { TakeIdentity } from './upstream-identity.ts'

export interface AttestedIdentityOptions {
  readonly server: ServerPlace
  readonly source: Extract<SvidSource, { kind: 'attestation' }>
  readonly clock: Clock
  readonly verify: VerifySignature
  readonly log: Log
}

const RETRY_MS = 10_000
const SEARCH_MS = 500

/**
 * Attests this node to the server above with a node attestor of its own, and follows the SVID of its downstream entry until the
 * signal aborts: an agent inside the server, without workloads. The identity of the node is kept, so that a restart needs no new
 * attestation.
 */
export async function followAttestation(
  options: AttestedIdentityOptions,
  take: TakeIdentity,
  signal: AbortSignal,
): Promise<void> {
  const log = options.log.child({ subsystem_name: 'upstream_agent' })
  while (!signal.aborted) {
    try {
      await runOnce({ ...options, log }, take, signal)
    } catch (error) {
      take.failure(`unable to attest to the upstream server: ${errorMessage(error)}`)
      if (!signal.aborted) log.error('Attestation to the upstream server ended', { error: errorMessage(error) })
    }
    await pause(RETRY_MS, signal)
  }
}

async function runOnce(options: AttestedIdentityOptions, take: TakeIdentity, signal: AbortSignal): Promise<void> {
  const { server, source, clock, verify, log } = options
  const { trustDomain } = server
  mkdirSync(source.dataDir, { recursive: true, mode: 0o700 })
  const random = Math.random
  const stop = new AbortController()
  const untilEnd = AbortSignal.any([signal, stop.signal])
  let following: Promise<unknown> | undefined
  try {
    const agent = await Agent.start(
      {
        options: {
          trustDomain,
          version: VERSION,
          insecureBootstrap: source.bootstrap.kind === 'insecure',
          syncIntervalMs: 5_000,
          useSyncAuthorizedEntries: true,
          x509CacheSize: 1,
          jwtCacheSize: 1,
          jwtHitTimeoutMs: 30_000,
          availabilityTargetSeconds: 0,
          workloadKeyType: 'ec-p256',
        },
        state: await StateFile.open(source.dataDir, replaceFile),
        keyManager: await diskKeyManager(join(source.dataDir, 'keys.json')),
        nodeAttestor: source.attestor,
        bootstrapRoots: () => bootstrapRoots({ ...server, bootstrap: source.bootstrap }),
        newWorkloadKey: generateSigner,
        connect: serverConnections(server, verify),
        verify,
        clock,
        random,
        log,
      },
      untilEnd,
    )
    log.info('Attested to the upstream server', { spiffe_id: agent.identity.spiffeId })
    following = Promise.all([
      followServer(agent, { random, log, wait: pause, signal: untilEnd }),
      followEntry(agent, options, take, untilEnd),
    ])
    await Promise.race([agent.run(), following])
  } finally {
    stop.abort()
    await following
  }
}

async function followEntry(
  agent: Agent,
  { server, source, log }: AttestedIdentityOptions,
  take: TakeIdentity,
  signal: AbortSignal,
): Promise<void> {
  let complained = false
  while (!signal.aborted) {
    const entry = downstreamEntry(agent, source.spiffeId, log)
    if (!entry) {
      const reason = `the upstream server has no downstream entry for this node: create one with -parentID ${agent.identity.spiffeId} and -downstream`
      take.failure(reason)
      if (!complained) log.warn('Waiting for a downstream entry', { parent_id: agent.identity.spiffeId, reason })
      complained = true
      await pause(SEARCH_MS, signal)
      continue
    }
    complained = false
    for await (const { identities, bundle } of agent.cache.subscribe(entry.selectors, signal)) {
      const found = identities.find((identity) => identity.entry.id === entry.id)
      // Another entry is the one to take, or none: this one was renamed, or is for servers below no more.
      if (!found || downstreamEntry(agent, source.spiffeId, log)?.id !== entry.id) break
      const roots = (agent.cache.bundle(server.trustDomain) ?? bundle).x509Authorities.map(({ der }) => der)
      take.identity({ chain: found.svid.chain, privateKey: found.svid.privateKey, roots })
    }
  }
}

/** The configured entry, else the oldest one that is for a server below. */
function downstreamEntry(agent: Agent, spiffeId: string | undefined, log: Log): AgentEntry | undefined {
  const candidates = [...agent.cache.entries()]
    .filter((entry) => entry.downstream && (spiffeId === undefined || entry.spiffeId === spiffeId))
    .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
  const [chosen, another] = candidates
  if (another && chosen && another.spiffeId !== chosen.spiffeId) {
    log.warn('There are several downstream entries for this node; name one with spiffe_id', {
      chosen: chosen.spiffeId,
    })
  }
  return chosen
}
