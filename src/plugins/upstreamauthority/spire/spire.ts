import {
  GetBundleRequest,
  PublishJWTAuthorityRequest,
  PublishJWTAuthorityResponse,
  PublishWITAuthorityRequest,
  PublishWITAuthorityResponse,
} from '../../../../proto/spire/api/server/bundle/v1.ts'
import { NewDownstreamX509CARequest, NewDownstreamX509CAResponse } from '../../../../proto/spire/api/server/svid/v1.ts'
import { Bundle as WireBundle } from '../../../../proto/spire/api/types.ts'
import { PollRequest, PollResponse, WatchRequest, WatchResponse } from '../../../../proto/turret/changes/v1.ts'
import type { JwtAuthority } from '../../../core/bundle.ts'
import { equalBytes } from '../../../core/der.ts'
import { errorMessage, StatusError } from '../../../core/error.ts'
import type { Log } from '../../../core/log.ts'
import type { UpstreamAuthority, UpstreamBundle, UpstreamX509Ca } from '../../../core/plugin.ts'
import { ABSENT_FEED_MS, changeFeed, endedOfAge, POLL_TIMEOUT_MS } from '../../../rpc/change-feed.ts'
import type { MessageType } from '../../../rpc/method.ts'

interface RemoteMethod<Req, Res> {
  readonly path: string
  readonly request: MessageType<Req>
  readonly response: MessageType<Res>
}

/** The upstream server, called with the SVID that our own agent gave us. */
export interface UpstreamServer {
  unary<Req, Res>(
    method: RemoteMethod<Req, Res>,
    request: Req,
    options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<Res>
  serverStream<Req, Res>(
    method: RemoteMethod<Req, Res>,
    request: Req,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<Res>
  /** True over HTTP: see changeFeed. */
  readonly pollOnly: boolean
  close(): Promise<void>
}

export interface SpireUpstreamDeps {
  readonly server: UpstreamServer
  /** Waits that long, less if the signal aborts. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>
  /** Between two looks at the upstream's bundle; SPIRE's is 5000. */
  readonly pollIntervalMs: number
  readonly log: Log
}

const TIMEOUT = { timeoutMs: 30_000 }
const NEW_DOWNSTREAM_CA = {
  path: '/spire.api.server.svid.v1.SVID/NewDownstreamX509CA',
  request: NewDownstreamX509CARequest,
  response: NewDownstreamX509CAResponse,
}
const PUBLISH_JWT_AUTHORITY = {
  path: '/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority',
  request: PublishJWTAuthorityRequest,
  response: PublishJWTAuthorityResponse,
}
const PUBLISH_WIT_AUTHORITY = {
  path: '/spire.api.server.bundle.v1.Bundle/PublishWITAuthority',
  request: PublishWITAuthorityRequest,
  response: PublishWITAuthorityResponse,
}
const GET_BUNDLE = {
  path: '/spire.api.server.bundle.v1.Bundle/GetBundle',
  request: GetBundleRequest,
  response: WireBundle,
}
const WATCH = { path: '/turret.changes.v1.Changes/Watch', request: WatchRequest, response: WatchResponse }
const POLL = { path: '/turret.changes.v1.Changes/Poll', request: PollRequest, response: PollResponse }

/**
 * The upstream authority that is another server of the trust domain: it signs our CA, takes our JWT keys and tells us its bundle.
 * @see server.md 8.2
 */
export function spireUpstreamAuthority(deps: SpireUpstreamDeps): UpstreamAuthority {
  const { server, wait, pollIntervalMs, log } = deps
  let lookNow = () => {}

  async function mintX509Ca(csr: Uint8Array, preferredTtlSeconds: number): Promise<UpstreamX509Ca> {
    const reply = await server
      .unary(NEW_DOWNSTREAM_CA, { csr, preferredTtl: preferredTtlSeconds }, TIMEOUT)
      .catch((error) => fail('unable to request a new Downstream X509CA', error))
    return {
      caChain: reply.caCertChain,
      upstreamRoots: reply.x509Authorities.map((der) => ({ der, tainted: false })),
    }
  }

  async function publishJwtKey(key: JwtAuthority): Promise<readonly JwtAuthority[]> {
    const jwtAuthority = { publicKey: key.publicKey, keyId: key.keyId, expiresAt: key.expiresAt, tainted: key.tainted }
    const reply = await server
      .unary(PUBLISH_JWT_AUTHORITY, { jwtAuthority }, TIMEOUT)
      .catch((error) => fail('failed to push JWT authority', error))
    lookNow()
    return reply.jwtAuthorities.map((one) => ({ ...one }))
  }

  async function publishWitKey(key: JwtAuthority): Promise<readonly JwtAuthority[] | undefined> {
    try {
      const reply = await server.unary(PUBLISH_WIT_AUTHORITY, { witAuthority: { ...key } }, TIMEOUT)
      lookNow()
      return reply.witAuthorities.map((one) => ({ ...one }))
    } catch (error) {
      // SPIRE, or one of ours without the feature flag.
      if (error instanceof StatusError && error.code === 'UNIMPLEMENTED') return undefined
      return fail('failed to push WIT authority', error)
    }
  }

  /** Told by the upstream when its bundle changed, if it can tell; looks by itself from time to time in any case. */
  async function* follow(signal: AbortSignal): AsyncGenerator<UpstreamBundle> {
    let known: UpstreamBundle | undefined
    void listen(signal)
    while (!signal.aborted) {
      const news = new AbortController()
      lookNow = () => news.abort()
      try {
        const bundle = await server.unary(GET_BUNDLE, { outputMask: undefined }, TIMEOUT)
        const fresh: UpstreamBundle = {
          x509Authorities: bundle.x509Authorities.map(({ asn1, tainted }) => ({ der: asn1, tainted })),
          jwtAuthorities: bundle.jwtAuthorities.map((key) => ({ ...key })),
          witAuthorities: bundle.witAuthorities.map((key) => ({ ...key })),
        }
        if (!known || !same(known, fresh)) {
          known = fresh
          yield fresh
        }
      } catch (error) {
        log.error('Failed to fetch the bundle of the upstream server', { error: errorMessage(error) })
      }
      await wait(pollIntervalMs, AbortSignal.any([signal, news.signal]))
    }
  }

  async function listen(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let opened = false
      try {
        const calls = {
          watch: (until: AbortSignal) => server.serverStream(WATCH, {}, { signal: until }),
          poll: (request: PollRequest, until: AbortSignal) =>
            server.unary(POLL, request, { timeoutMs: POLL_TIMEOUT_MS, signal: until }),
        }
        const feed = changeFeed(calls, { pollOnly: server.pollOnly, wait, signal })
        for await (const change of feed) {
          opened = true
          if (change.bundle) lookNow()
        }
      } catch (error) {
        // A SPIRE server does not know this call: then polling is all there is, until it is another server.
        if (error instanceof StatusError && error.code === 'UNIMPLEMENTED') {
          await wait(ABSENT_FEED_MS, signal)
          continue
        }
        if (!signal.aborted && !endedOfAge(error, opened))
          log.debug('The feed of the upstream server ended', { error: errorMessage(error) })
      }
      await wait(pollIntervalMs, signal)
    }
  }

  return { name: 'spire', mintX509Ca, publishJwtKey, publishWitKey, follow, close: () => server.close() }
}

function same(a: UpstreamBundle, b: UpstreamBundle): boolean {
  return (
    a.x509Authorities.length === b.x509Authorities.length &&
    a.x509Authorities.every(
      (root, index) =>
        root.tainted === b.x509Authorities[index]!.tainted && equalBytes(root.der, b.x509Authorities[index]!.der),
    ) &&
    sameKeys(a.jwtAuthorities, b.jwtAuthorities) &&
    sameKeys(a.witAuthorities ?? [], b.witAuthorities ?? [])
  )
}

function sameKeys(a: readonly JwtAuthority[], b: readonly JwtAuthority[]): boolean {
  return (
    a.length === b.length &&
    a.every((key, index) => {
      const other = b[index]!
      return (
        key.keyId === other.keyId &&
        key.tainted === other.tainted &&
        key.expiresAt === other.expiresAt &&
        equalBytes(key.publicKey, other.publicKey)
      )
    })
  )
}

function fail(message: string, error: unknown): never {
  const code = error instanceof StatusError ? error.code : 'INTERNAL'
  throw new StatusError(code, `upstreamauthority(spire): ${message}: ${errorMessage(error)}`, { cause: error })
}
