import type { Node } from '../proto/envoy/config/core/v3.ts'
import {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
  DiscoveryRequest,
  DiscoveryResponse,
} from '../proto/envoy/service/discovery/v3.ts'
import type { Any } from '../proto/google/protobuf/any.ts'
import type { CountedLog } from '../src/core/counted-log.ts'
import { errorMessage, StatusError } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import { bidi, type Call, type Method, unary } from '../src/rpc/method.ts'
import { type SdsOptions, secretsOf } from './sds-secrets.ts'
import type { SvidCache, WorkloadUpdate } from './svid-cache.ts'

/** What Envoy's secret discovery service answers from. */
export interface SdsApi {
  readonly cache: SvidCache
  /** Selectors of the process behind a call. @throws StatusError UNAVAILABLE */
  attest(call: Call): Promise<readonly string[]>
  readonly sds: SdsOptions
  readonly log: Log
  /** For lines that a caller can have written as often as they ask. */
  readonly refusals: CountedLog
}

const SERVICE = '/envoy.service.secret.v3.SecretDiscoveryService'

/**
 * Envoy's secret discovery service, version 3: certificates and validation contexts of the workload that asks.
 * @see agent.md 13, Envoy's xDS protocol
 */
export const SDS: readonly Method<SdsApi>[] = [
  bidi({
    path: `${SERVICE}/StreamSecrets`,
    request: DiscoveryRequest,
    response: DiscoveryResponse,
    handle: streamSecrets,
  }),
  unary({
    path: `${SERVICE}/FetchSecrets`,
    request: DiscoveryRequest,
    response: DiscoveryResponse,
    handle: fetchSecrets,
  }),
  bidi<SdsApi, DeltaDiscoveryRequest, DeltaDiscoveryResponse>({
    path: `${SERVICE}/DeltaSecrets`,
    request: DeltaDiscoveryRequest,
    response: DeltaDiscoveryResponse,
    // biome-ignore lint/correctness/useYield: a stream that refuses has nothing to yield.
    handle: async function* () {
      throw new StatusError('UNIMPLEMENTED', 'Method is not implemented')
    },
  }),
]

async function fetchSecrets(api: SdsApi, request: DiscoveryRequest, call: Call): Promise<DiscoveryResponse> {
  const selectors = await api.attest(call)
  const { resourceNames, node, typeUrl } = request
  const resources = secretsOf(resourceNames, node, api.cache.current(selectors), api.sds)
  api.log.debug('Sending FetchSecrets response', { resource_names: resourceNames.join(','), count: resources.length })
  return { versionInfo: '', resources, canary: false, typeUrl, nonce: '', controlPlane: undefined }
}

/** A request, an update of the cache, or the end of either. */
type Event =
  | { readonly kind: 'request'; readonly step: IteratorResult<DiscoveryRequest> }
  | { readonly kind: 'update'; readonly step: IteratorResult<WorkloadUpdate, void> }

/**
 * Answers the first request, each that asks for other names, and each change of what those names stand for. Envoy confirms or refuses
 * every answer by its nonce; a refusal may ask for other names, too.
 */
async function* streamSecrets(
  api: SdsApi,
  requests: AsyncIterable<DiscoveryRequest>,
  call: Call,
): AsyncGenerator<DiscoveryResponse> {
  const log = api.refusals.of({ caller_uid: call.peer.via === 'local' ? call.peer.process?.uid : undefined })
  const selectors = await api.attest(call)
  const stream = new SecretStream(api, log)
  const reader = requests[Symbol.asyncIterator]()
  const stop = new AbortController()
  const updates = api.cache.subscribe(selectors, AbortSignal.any([call.signal, stop.signal]))
  const nextRequest = (): Promise<Event> => awaited(reader.next().then((step) => ({ kind: 'request', step })))
  const nextUpdate = (): Promise<Event> => awaited(updates.next().then((step) => ({ kind: 'update', step })))
  let request = nextRequest()
  let update = nextUpdate()
  try {
    for (;;) {
      const event = await Promise.race([request, update])
      if (event.step.done) return
      const response = event.kind === 'request' ? stream.onRequest(event.step.value) : stream.onUpdate(event.step.value)
      if (event.kind === 'request') request = nextRequest()
      else update = nextUpdate()
      if (response === undefined) continue
      log.debug('Sending StreamSecrets response', {
        version_info: response.versionInfo,
        nonce: response.nonce,
        count: response.resources.length,
      })
      yield response
    }
  } catch (error) {
    if (!call.signal.aborted) log.error('Error building stream secrets response', { error: errorMessage(error) })
    throw error
  } finally {
    stop.abort()
  }
}

/** Of what comes while an Envoy is slow to read, or after it has gone, nobody may hear: it fails when somebody asks, if ever. */
function awaited<T>(event: Promise<T>): Promise<T> {
  event.catch(() => {})
  return event
}

/** What one Envoy asked for last, and what it was sent. */
class SecretStream {
  readonly #api: SdsApi
  readonly #log: Log
  #version = 0
  /** Of the answer sent last; empty: there was none. */
  #nonce = ''
  #node: Node | undefined
  #request: DiscoveryRequest | undefined
  #update: WorkloadUpdate | undefined
  #sent: readonly Any[] | undefined

  constructor(api: SdsApi, log: Log) {
    this.#api = api
    this.#log = log
  }

  /** @returns undefined if there is nothing new to say */
  onRequest(request: DiscoveryRequest): DiscoveryResponse | undefined {
    const log = this.#log
    const { resourceNames, versionInfo, responseNonce, errorDetail } = request
    log.debug('Received StreamSecrets request', {
      resource_names: resourceNames.join(','),
      version_info: versionInfo,
      nonce: responseNonce,
    })
    if (errorDetail !== undefined) {
      log.error('Envoy reported errors applying secrets', {
        resource_names: resourceNames.join(','),
        error: errorDetail.message,
      })
    }
    if (this.#nonce !== '') {
      if (responseNonce !== this.#nonce) {
        log.warn('Received unexpected nonce; ignoring request', { nonce: responseNonce, expect: this.#nonce })
        return undefined
      }
      if (versionInfo !== String(this.#version)) {
        log.error('Client rejected expected version and rolled back', {
          version_info: versionInfo,
          expect: String(this.#version),
        })
      }
    }
    // An Envoy says who it is once.
    this.#node = request.node ?? this.#node
    const before = this.#request
    this.#request = request
    if (before !== undefined && sameNames(before.resourceNames, resourceNames)) return undefined
    return this.#answer()
  }

  /** @returns undefined if nothing was asked for, or it changed nothing that was */
  onUpdate(update: WorkloadUpdate): DiscoveryResponse | undefined {
    this.#update = update
    const resources = this.#resources()
    if (resources !== undefined && this.#sent !== undefined && sameResources(this.#sent, resources)) return undefined
    this.#version += 1
    return this.#answer(resources)
  }

  #answer(resources = this.#resources()): DiscoveryResponse | undefined {
    if (resources === undefined || this.#request === undefined) return undefined
    this.#sent = resources
    this.#nonce = crypto.getRandomValues(Buffer.alloc(4)).toString('hex')
    return {
      versionInfo: String(this.#version),
      resources,
      canary: false,
      typeUrl: this.#request.typeUrl,
      nonce: this.#nonce,
      controlPlane: undefined,
    }
  }

  #resources(): Any[] | undefined {
    if (this.#request === undefined || this.#update === undefined) return undefined
    return secretsOf(this.#request.resourceNames, this.#node, this.#update, this.#api.sds)
  }
}

function sameNames(before: readonly string[], after: readonly string[]): boolean {
  const known = new Set(before)
  return before.length === after.length && after.every((name) => known.has(name))
}

function sameResources(before: readonly Any[], after: readonly Any[]): boolean {
  return (
    before.length === after.length &&
    before.every(({ value }, index) => Buffer.compare(value, after[index]!.value) === 0)
  )
}
