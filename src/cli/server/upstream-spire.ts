import { type Clock, epochSeconds } from '../../core/clock.ts'
import type { Log } from '../../core/log.ts'
import type { UpstreamAuthority } from '../../core/plugin.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import { spireUpstreamAuthority } from '../../server/upstream-spire.ts'
import { pause } from '../periodic.ts'
import { requireServer } from '../require-server.ts'
import { channelTo } from '../server-connections.ts'
import { followAttestation } from './attested-identity.ts'
import { UpstreamIdentity } from './upstream-identity.ts'
import type { UpstreamSpireConfig } from './upstream-spire-config.ts'
import { followWorkloadApi } from './workload-identity.ts'

export interface UpstreamSpireOptions extends UpstreamSpireConfig {
  /** Aborts when the server stops, which may be before it has started. */
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly verify: VerifySignature
  readonly log: Log
}

const POLL_INTERVAL_MS = 5_000

/**
 * The upstream authority `spire`: takes this server's SVID from the agent beside it or attests by itself, keeps it fresh, and calls the
 * server above with it.
 */
export async function connectUpstreamSpire(options: UpstreamSpireOptions): Promise<UpstreamAuthority> {
  const { server, source, log, clock, verify } = options
  const stop = new AbortController()
  const untilEnd = AbortSignal.any([options.signal, stop.signal])
  const identity = new UpstreamIdentity(untilEnd)
  const following =
    source.kind === 'workload_api'
      ? followWorkloadApi(source.socket, identity, log, untilEnd)
      : followAttestation({ server, source, clock, verify, log }, identity, untilEnd)
  const channel = await channelTo(server, {
    identity: () => identity.current,
    credential: () => identity.signing,
    verifyServer: (chain) =>
      requireServer(server.trustDomain, { chain, rootsOf: () => identity.roots, at: epochSeconds(clock), verify }),
    verify,
    clock,
  })
  return spireUpstreamAuthority({
    server: {
      async unary(method, request, call) {
        await identity.ready()
        return channel.unary(method, request, call)
      },
      async *serverStream(method, request, call) {
        await identity.ready()
        yield* channel.serverStream(method, request, call)
      },
      pollOnly: channel.overHttp ?? false,
      async close() {
        stop.abort()
        channel.close()
        await following
      },
    },
    wait: pause,
    pollIntervalMs: POLL_INTERVAL_MS,
    log,
  })
}
