import {
  JWTBundlesRequest,
  JWTBundlesResponse,
  JWTSVIDRequest,
  JWTSVIDResponse,
  ValidateJWTSVIDRequest,
  ValidateJWTSVIDResponse,
  WITBundlesRequest,
  WITBundlesResponse,
  WITSVIDRequest,
  WITSVIDResponse,
  X509BundlesRequest,
  X509BundlesResponse,
  X509SVIDRequest,
  X509SVIDResponse,
} from '../proto/spiffe/workload.ts'
import type { Bundle } from '../src/core/bundle.ts'
import { workloadJwks } from '../src/core/bundle-document.ts'
import { type Clock, epochSeconds } from '../src/core/clock.ts'
import type { CountedLog } from '../src/core/counted-log.ts'
import { concat } from '../src/core/der.ts'
import { errorMessage, StatusError } from '../src/core/error.ts'
import { validateJwtSvid } from '../src/core/jwt-svid.ts'
import type { Log } from '../src/core/log.ts'
import type { VerifySignature } from '../src/core/public-key.ts'
import { parseSpiffeId, trustDomainId, trustDomainOf } from '../src/core/spiffe-id.ts'
import type { TrustDomain } from '../src/core/trust-domain.ts'
import { type Call, EncodedMessage, type Method, serverStream, unary } from '../src/rpc/method.ts'
import { type AgentEntry, dropDuplicateHints } from './entry.ts'
import type { JwtCache } from './jwt-cache.ts'
import { OutdatedError } from './outdated.ts'
import type { SvidCache, WorkloadUpdate } from './svid-cache.ts'

/** What the Workload API answers from. Nothing here calls the server except a JWT that is not in the cache. */
export interface WorkloadApi {
  readonly trustDomain: TrustDomain
  readonly cache: SvidCache
  readonly jwts: JwtCache
  /** Brings the agent in step with its server; resolves when it is. */
  resync(): Promise<void>
  /** Selectors of the process behind a call. @throws StatusError UNAVAILABLE */
  attest(call: Call): Promise<readonly string[]>
  readonly allowUnauthenticatedVerifiers: boolean
  /** Claims of tokens from other trust domains that are passed on besides sub, exp and aud. */
  readonly allowedForeignJwtClaims: ReadonlySet<string>
  /** Selectors that may be logged when a workload gets nothing: prefixes, whole or up to a colon. */
  readonly logSelectors: readonly string[]
  readonly verify: VerifySignature
  readonly clock: Clock
  readonly log: Log
  /** For lines that a caller can have written as often as they ask. */
  readonly refusals: CountedLog
}

const SERVICE = '/SpiffeWorkloadAPI'

/**
 * The SPIFFE Workload API.
 * @see SPIFFE Workload API 5 and 6, agent.md 12
 */
export const WORKLOAD_API: readonly Method<WorkloadApi>[] = [
  serverStream({
    path: `${SERVICE}/FetchX509SVID`,
    request: X509SVIDRequest,
    response: X509SVIDResponse,
    handle: fetchX509Svid,
  }),
  serverStream({
    path: `${SERVICE}/FetchX509Bundles`,
    request: X509BundlesRequest,
    response: X509BundlesResponse,
    handle: (api: WorkloadApi, _: X509BundlesRequest, call: Call) =>
      bundles(api, call, 'FetchX509Bundles', encodedX509Bundles),
  }),
  unary({ path: `${SERVICE}/FetchJWTSVID`, request: JWTSVIDRequest, response: JWTSVIDResponse, handle: fetchJwtSvid }),
  serverStream({
    path: `${SERVICE}/FetchJWTBundles`,
    request: JWTBundlesRequest,
    response: JWTBundlesResponse,
    handle: (api: WorkloadApi, _: JWTBundlesRequest, call: Call) =>
      bundles(api, call, 'FetchJWTBundles', encodedJwtBundles),
  }),
  unary({
    path: `${SERVICE}/ValidateJWTSVID`,
    request: ValidateJWTSVIDRequest,
    response: ValidateJWTSVIDResponse,
    handle: validateJwt,
  }),
  serverStream<WorkloadApi, WITSVIDRequest, WITSVIDResponse>({
    path: `${SERVICE}/FetchWITSVID`,
    request: WITSVIDRequest,
    response: WITSVIDResponse,
    handle: () => unimplemented('fetching WIT-SVIDs is not implemented'),
  }),
  serverStream<WorkloadApi, WITBundlesRequest, WITBundlesResponse>({
    path: `${SERVICE}/FetchWITBundles`,
    request: WITBundlesRequest,
    response: WITBundlesResponse,
    handle: () => unimplemented('fetching WIT bundles is not implemented'),
  }),
]

async function* fetchX509Svid(api: WorkloadApi, _: X509SVIDRequest, call: Call): AsyncGenerator<EncodedMessage> {
  const selectors = await api.attest(call)
  let sent: Uint8Array | undefined
  for await (const update of api.cache.subscribe(selectors, call.signal)) {
    if (update.identities.length === 0) throw noIdentity(api, call, 'FetchX509SVID', selectors)
    const message = encodedX509Svids(api, update)
    // Many changes of the cache concern what a workload does not see.
    if (sent && sameBytes(sent, message.bytes)) continue
    sent = message.bytes
    if (api.log.debugEnabled) logFetched(api, call, update)
    yield message
  }
}

async function* bundles(
  api: WorkloadApi,
  call: Call,
  method: string,
  encode: (update: WorkloadUpdate, withFederated: boolean) => EncodedMessage,
): AsyncGenerator<EncodedMessage> {
  const selectors = await api.attest(call)
  let sent: Uint8Array | undefined
  for await (const update of api.cache.subscribe(selectors, call.signal)) {
    const known = update.identities.length > 0
    if (!known && !api.allowUnauthenticatedVerifiers) throw noIdentity(api, call, method, selectors)
    const message = encode(update, known)
    if (sent && sameBytes(sent, message.bytes)) continue
    sent = message.bytes
    yield message
  }
}

async function fetchJwtSvid(api: WorkloadApi, request: JWTSVIDRequest, call: Call): Promise<JWTSVIDResponse> {
  if (request.audience.length === 0) throw new StatusError('INVALID_ARGUMENT', 'audience must be specified')
  const wanted = request.spiffeId === '' ? undefined : requestedId(request.spiffeId)
  const selectors = await api.attest(call)
  const tokens = async (): Promise<JWTSVIDResponse> => {
    const entries = visible(api, api.cache.matching(selectors), (entry) => entry).filter(
      (entry) => wanted === undefined || entry.spiffeId === wanted,
    )
    if (entries.length === 0) throw noIdentity(api, call, 'FetchJWTSVID', selectors)
    const svids = await Promise.all(
      entries.map(async (entry) => {
        try {
          const { token, expiresAt } = await api.jwts.fetch(entry, request.audience)
          if (api.log.debugEnabled)
            api.log.debug('Fetched JWT SVID', {
              ...callFields(call, 'FetchJWTSVID'),
              registered: true,
              spiffe_id: entry.spiffeId,
              ttl: expiresAt - epochSeconds(api.clock),
            })
          return { spiffeId: entry.spiffeId, svid: token, hint: entry.hint }
        } catch (error) {
          throw new StatusError('UNAVAILABLE', `could not fetch JWT-SVID: ${errorMessage(error)}`, { cause: error })
        }
      }),
    )
    return { svids }
  }
  try {
    return await tokens()
  } catch (error) {
    if (!(error instanceof StatusError && error.cause instanceof OutdatedError)) throw error
    // The entry was changed on the server a moment ago: what the caller is entitled to now is known after a sync.
    await inTime(api.resync(), RESYNC_PATIENCE_MS, call.signal)
    return await tokens()
  }
}

const RESYNC_PATIENCE_MS = 5_000

/** Waits for work, but no longer than that, and no longer than the caller. */
function inTime(work: Promise<void>, patienceMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, patienceMs)
    signal.addEventListener('abort', () => resolve(), { once: true })
    if (signal.aborted) resolve()
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

function requestedId(text: string) {
  try {
    return parseSpiffeId(text)
  } catch (error) {
    throw new StatusError('INVALID_ARGUMENT', `invalid requested SPIFFE ID: ${errorMessage(error)}`, { cause: error })
  }
}

async function validateJwt(
  api: WorkloadApi,
  request: ValidateJWTSVIDRequest,
  call: Call,
): Promise<ValidateJWTSVIDResponse> {
  if (request.audience === '') throw new StatusError('INVALID_ARGUMENT', 'audience must be specified')
  if (request.svid === '') throw new StatusError('INVALID_ARGUMENT', 'svid must be specified')
  const selectors = await api.attest(call)
  const known = new Map<TrustDomain, Bundle>()
  const { bundle, federatedBundles } = api.cache.current(selectors)
  for (const one of [bundle, ...federatedBundles]) known.set(one.trustDomain, one)
  const fields = () => ({ ...callFields(call, 'ValidateJWTSVID'), audience: request.audience })
  const { spiffeId, claims } = await validateJwtSvid({
    token: request.svid,
    audience: [request.audience],
    authoritiesOf: (trustDomain) => known.get(trustDomain)?.jwtAuthorities,
    at: epochSeconds(api.clock),
    verify: api.verify,
  }).catch((error) => {
    api.refusals
      .of({ caller_uid: uidOf(call) })
      .warn('Failed to validate JWT', { ...fields(), error: errorMessage(error) })
    throw error
  })
  if (api.log.debugEnabled) api.log.debug('Successfully validated JWT', { ...fields(), spiffe_id: spiffeId })
  const own = trustDomainOf(spiffeId) === api.trustDomain
  return { spiffeId, claims: own ? { ...claims } : foreignClaims(claims, api.allowedForeignJwtClaims) }
}

function foreignClaims(
  claims: Readonly<Record<string, unknown>>,
  allowed: ReadonlySet<string>,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(claims).filter(([name]) => ['sub', 'exp', 'aud'].includes(name) || allowed.has(name)),
  )
}

function visible<T>(api: WorkloadApi, items: readonly T[], entryOf: (item: T) => AgentEntry): readonly T[] {
  return dropDuplicateHints(items, entryOf, (entry) =>
    api.refusals.of({}).warn('Ignoring entry with duplicate hint', { entry: entry.id, hint: entry.hint }),
  )
}

/** Messages by what they were made from: one encoding serves all streams with the same selectors. */
const x509Messages = new WeakMap<WorkloadUpdate, EncodedMessage>()

function encodedX509Svids(api: WorkloadApi, update: WorkloadUpdate): EncodedMessage {
  let message = x509Messages.get(update)
  if (!message) {
    const bundle = rootsOf(update.bundle)
    message = new EncodedMessage(
      X509SVIDResponse.encode({
        svids: visible(api, update.identities, (identity) => identity.entry).map(({ entry, svid }) => ({
          spiffeId: entry.spiffeId,
          x509Svid: concat(svid.chain),
          x509SvidKey: svid.privateKey,
          bundle,
          hint: entry.hint,
        })),
        crl: [],
        federatedBundles: bundleMap(update.federatedBundles, rootsOf),
      }).finish(),
    )
    x509Messages.set(update, message)
  }
  return message
}

function encodedX509Bundles(update: WorkloadUpdate, withFederated: boolean): EncodedMessage {
  const bundles = bundleMap([update.bundle, ...(withFederated ? update.federatedBundles : [])], rootsOf)
  return new EncodedMessage(X509BundlesResponse.encode({ crl: [], bundles }).finish())
}

function encodedJwtBundles(update: WorkloadUpdate, withFederated: boolean): EncodedMessage {
  const bundles = bundleMap([update.bundle, ...(withFederated ? update.federatedBundles : [])], jwksOf)
  return new EncodedMessage(JWTBundlesResponse.encode({ bundles }).finish())
}

function bundleMap(bundles: readonly Bundle[], encode: (bundle: Bundle) => Uint8Array): Record<string, Uint8Array> {
  return Object.fromEntries(bundles.map((bundle) => [trustDomainId(bundle.trustDomain), encode(bundle)]))
}

/** Encoded forms of a bundle, which all updates share until it changes. */
const roots = new WeakMap<Bundle, Uint8Array>()
const keySets = new WeakMap<Bundle, Uint8Array>()

function rootsOf(bundle: Bundle): Uint8Array {
  return remembered(roots, bundle, () => concat(bundle.x509Authorities.map((root) => root.der)))
}

function jwksOf(bundle: Bundle): Uint8Array {
  return remembered(keySets, bundle, () => new TextEncoder().encode(workloadJwks(bundle)))
}

function remembered(memory: WeakMap<Bundle, Uint8Array>, bundle: Bundle, make: () => Uint8Array): Uint8Array {
  let bytes = memory.get(bundle)
  if (!bytes) {
    bytes = make()
    memory.set(bundle, bytes)
  }
  return bytes
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || Buffer.compare(a, b) === 0
}

function noIdentity(api: WorkloadApi, call: Call, method: string, selectors: readonly string[]): StatusError {
  const fields = callFields(call, method)
  if (fields.pid !== process.pid) {
    const shown = selectors.filter((text) =>
      api.logSelectors.some((prefix) => text === prefix || text.startsWith(`${prefix}:`)),
    )
    api.refusals.of({ caller_uid: uidOf(call) }).error('No identity issued', {
      ...fields,
      registered: false,
      ...(shown.length > 0 ? { selectors: shown.sort().join(',') } : {}),
    })
  }
  return new StatusError('PERMISSION_DENIED', 'no identity issued')
}

/** Who calls what, as SPIRE's lines say it. */
function callFields(call: Call, method: string) {
  const pid = call.peer.via === 'local' ? call.peer.process?.pid : undefined
  return { method, pid, service: 'WorkloadAPI' }
}

function uidOf(call: Call): number | undefined {
  return call.peer.via === 'local' ? call.peer.process?.uid : undefined
}

function logFetched(api: WorkloadApi, call: Call, update: WorkloadUpdate): void {
  const fields = callFields(call, 'FetchX509SVID')
  for (const { entry, svid } of update.identities) {
    api.log.debug('Fetched X.509 SVID', {
      ...fields,
      count: update.identities.length,
      registered: true,
      spiffe_id: entry.spiffeId,
      ttl: svid.notAfter - epochSeconds(api.clock),
    })
  }
}

// biome-ignore lint/correctness/useYield: a stream that refuses has nothing to yield.
async function* unimplemented(message: string): AsyncGenerator<never> {
  throw new StatusError('UNIMPLEMENTED', message)
}
