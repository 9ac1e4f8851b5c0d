import { type Clock, epochSeconds } from '../../core/clock.ts'
import type { Log } from '../../core/log.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import type { UpstreamSpireConfig } from '../../plugins/upstreamauthority/spire/config.ts'
import type { UpstreamServer } from '../../plugins/upstreamauthority/spire/spire.ts'
import { requireServer } from '../require-server.ts'
import { channelTo } from '../server-connections.ts'
import { followAttestation } from './attested-identity.ts'
import { UpstreamIdentity } from './upstream-identity.ts'

import { followWorkloadApi } from './workload-identity.ts'

export interface UpstreamOptions extends UpstreamSpireConfig {
  /** Aborts when the server stops, which may be before it has started. */
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly verify: VerifySignature
  readonly log: Log
}

/**
 * Calls the server above with an SVID of this server, which comes from the agent beside it or from attesting by itself, and is kept
 * fresh.
 */
export async function connectUpstream(options: UpstreamOptions): Promise<UpstreamServer> {
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
  return {
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
  }
}
