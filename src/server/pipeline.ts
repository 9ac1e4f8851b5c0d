import { Reader } from '../../proto/reader.ts'
import type { Clock } from '../core/clock.ts'
import type { Log } from '../core/log.ts'
import type { Pipeline } from '../rpc/invoke.ts'
import { RateLimiter, type Wait } from '../rpc/rate-limit.ts'
import { authorize, isForAll } from './authorize.ts'
import type { ServerDeps } from './deps.ts'

export interface PipelineOptions {
  readonly log: Log
  readonly clock: Clock
  readonly wait: Wait
  readonly newUuid: () => string
  /** Default false. */
  readonly auditEnabled?: boolean
  /** `ratelimit.attestation`, default true. */
  readonly limitAttestation?: boolean
  /** `ratelimit.signing`, default true. */
  readonly limitSigning?: boolean
}

const SVID = '/spire.api.server.svid.v1.SVID/'
const AGENT = '/spire.api.server.agent.v1.Agent/'
const EXCHANGE = '/turret.exchange.v1.Exchange/'
const BUNDLE = '/spire.api.server.bundle.v1.Bundle/'

/** Buckets: calls per second and address, and the methods that share them. */
const LIMITS = [
  // Behind one address may be a proxy: a queue that one of them fills must not be what all others wait in.
  { perSecond: 1, switch: 'limitAttestation', longestWaitMs: 5_000, paths: [`${AGENT}AttestAgent`] },
  {
    perSecond: 500,
    switch: 'limitSigning',
    paths: [`${SVID}BatchNewX509SVID`, `${SVID}NewDownstreamX509CA`, `${AGENT}RenewAgent`],
  },
  { perSecond: 500, switch: 'limitSigning', paths: [`${SVID}NewJWTSVID`] },
  { perSecond: 500, switch: 'limitSigning', paths: [`${SVID}BatchNewWITSVID`] },
  {
    // From behind one address come whole clusters of build machines; a verification costs less than a signature.
    perSecond: 50,
    switch: 'limitAttestation',
    // Strangers with large requests: few of them may wait.
    longestWaitMs: 2_000,
    paths: [`${EXCHANGE}ExchangeX509`, `${EXCHANGE}ExchangeJWT`, `${EXCHANGE}ExchangeWIT`],
  },
  { perSecond: 500, switch: undefined, paths: [`${BUNDLE}PublishJWTAuthority`, `${BUNDLE}PublishWITAuthority`] },
  { perSecond: 10, switch: undefined, paths: [`${AGENT}PostStatus`] },
] as const

/** Longer than any message of an agent that attests: a chain of sixteen certificates with RSA keys, or the token of a platform. */
const STRANGERS_MESSAGE_BYTES = 64 * 1024

/** The pipeline of the server's methods; both listeners share one, and so the rate limits. */
export function serverPipeline(options: PipelineOptions): Pipeline<ServerDeps> {
  const { clock, wait, newUuid } = options
  const limiters = new Map<string, RateLimiter>()
  for (const limit of LIMITS) {
    if (limit.switch !== undefined && options[limit.switch] === false) continue
    const limiter = new RateLimiter({
      perSecond: limit.perSecond,
      clock,
      wait,
      ...('longestWaitMs' in limit ? { longestWaitMs: limit.longestWaitMs } : {}),
    })
    for (const path of limit.paths) limiters.set(path, limiter)
  }
  return {
    authorize,
    requestLimit: (path, peer) => (peer.via !== 'anonymous' ? undefined : isForAll(path) ? STRANGERS_MESSAGE_BYTES : 0),
    // Administrators may send as much as a message holds: whole files of entries.
    reader: (bytes, { kind }) =>
      kind === 'local' || kind === 'admin' ? bytes : new Reader(bytes, kind === 'anonymous' ? 2048 : 200_000),
    limiterOf: (path) => limiters.get(path),
    auditEnabled: options.auditEnabled ?? false,
    log: options.log.child({ subsystem_name: 'api' }),
    newRequestId: newUuid,
  }
}
