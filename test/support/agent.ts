import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent } from '../../agent/agent.ts'
import { StateFile } from '../../agent/state.ts'
import { parseCertificate } from '../../src/core/certificate.ts'
import { utf8 } from '../../src/core/der.ts'
import { type Log, silentLog } from '../../src/core/log.ts'
import type { KeyManager } from '../../src/core/plugin.ts'
import { parseSpiffeId } from '../../src/core/spiffe-id.ts'
import { serialDecimal } from '../../src/core/x509-svid.ts'
import { memoryKeyManager } from '../../src/plugins/keymanager/memory.ts'
import { generateSigner, nodeVerifier } from '../../src/plugins/signer.ts'
import { inProcessChannel } from './in-process-channel.ts'
import { ANONYMOUS, TD, type TestServer } from './server.ts'

/** Who a test agent is once it attested. */
export const AGENT_ID = parseSpiffeId('spiffe://example.org/spire/agent/join_token/token')

export interface TestAgentOptions {
  /** Done after the agent sent a message and before the server sees it. */
  readonly onTheWay?: (path: string) => Promise<void>
  readonly signal?: AbortSignal
  /** Default true. */
  readonly useSyncAuthorizedEntries?: boolean
  /** What an earlier run left. */
  readonly state?: StateFile
  readonly keyManager?: KeyManager
  /** What the agent has to ask before it believes a server; default: it is believed. */
  readonly judge?: (roots: readonly Uint8Array[] | undefined) => void
  readonly log?: Log
}

/** State of an agent that was never there; it is kept in memory. */
export async function emptyState(): Promise<StateFile> {
  const folder = mkdtempSync(join(tmpdir(), 'turret-agent-'))
  try {
    return await StateFile.open(folder, async () => {})
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** An agent of a server in this process, attested by join token. Nothing runs by itself: tests say when it syncs and signs. */
export async function startAgent(server: TestServer, options: TestAgentOptions = {}): Promise<Agent> {
  const { store, clock, service } = server
  const { onTheWay, signal = new AbortController().signal } = options
  if (!options.state) await store.joinTokens.create({ value: 'token', expiresAt: clock.ms / 1000 + 600 })
  return Agent.start(
    {
      options: {
        trustDomain: TD,
        version: '1',
        insecureBootstrap: true,
        syncIntervalMs: 5_000,
        useSyncAuthorizedEntries: options.useSyncAuthorizedEntries ?? true,
        x509CacheSize: 100,
        jwtCacheSize: 100,
        jwtHitTimeoutMs: 1_000,
        availabilityTargetSeconds: 0,
        workloadKeyType: 'ec-p256',
      },
      state: options.state ?? (await emptyState()),
      keyManager: options.keyManager ?? memoryKeyManager(),
      nodeAttestor: {
        name: 'join_token',
        begin: async () => ({ payload: utf8('token'), respond: () => Promise.reject(new Error('no challenge')) }),
      },
      bootstrapRoots: () => Promise.reject(new Error('not asked for')),
      newWorkloadKey: generateSigner,
      connect: async ({ identity, roots }) => {
        options.judge?.(roots())
        const leaf = identity && parseCertificate(identity.chain[0]!)
        return inProcessChannel(service, {
          peer: () =>
            leaf
              ? {
                  via: 'x509',
                  address: '192.0.2.2:1',
                  spiffeId: parseSpiffeId(leaf.uris[0]!),
                  serialNumber: serialDecimal(leaf.serial),
                  expiresAt: leaf.notAfter,
                }
              : ANONYMOUS,
          ...(onTheWay ? { onTheWay } : {}),
        })
      },
      verify: nodeVerifier(),
      clock,
      random: () => 0.5,
      log: options.log ?? silentLog,
    },
    signal,
  )
}
