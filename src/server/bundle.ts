import type * as api from '../../proto/spire/api/server/bundle/v1.ts'
import { type BundleMask, Bundle as WireBundle } from '../../proto/spire/api/types.ts'
import type { Bundle as CoreBundle } from '../core/bundle.ts'
import type { BundleDeletion } from '../core/store.ts'
import { parseTrustDomain, type TrustDomain } from '../core/trust-domain.ts'
import { failure } from '../rpc/failure.ts'
import { type Call, EncodedMessage } from '../rpc/method.ts'
import { runItem } from './batch.ts'
import {
  bundleFromWire,
  bundleMaskKey,
  bundleToWire,
  jwtKeysFromWire,
  keyToWire,
  pageFromWire,
  x509AuthoritiesFromWire,
} from './convert.ts'
import type { ServerDeps } from './deps.ts'
import { codeOf, limited, orInternal, orInvalid } from './outcome.ts'

/** The own bundle, for anybody. Its bytes are made once per version. */
export async function getBundle(deps: ServerDeps, request: api.GetBundleRequest, call: Call): Promise<EncodedMessage> {
  if (call.audited) call.auditRequest({ trust_domain_id: deps.trustDomain })
  let bundle: CoreBundle | undefined
  try {
    bundle = await deps.bundle.get()
  } catch (error) {
    throw failure(call.log, 'INTERNAL', 'failed to fetch bundle', error)
  }
  if (bundle === undefined) throw failure(call.log, 'NOT_FOUND', 'bundle not found')
  const found = bundle
  const mask = request.outputMask
  const bytes = deps.bundle.encoded(found, bundleMaskKey(mask), () =>
    WireBundle.encode(bundleToWire(found, mask)).finish(),
  )
  call.audit({})
  return new EncodedMessage(bytes)
}

export async function countBundles(deps: ServerDeps, _: api.CountBundlesRequest, call: Call) {
  const count = await orInternal(call, 'failed to count bundles', () => deps.store.bundles.count())
  call.audit({})
  return { count }
}

export async function appendBundle(deps: ServerDeps, request: api.AppendBundleRequest, call: Call) {
  if (call.audited) call.auditRequest({ trust_domain_id: deps.trustDomain })
  if (request.jwtAuthorities.length === 0 && request.x509Authorities.length === 0) {
    throw failure(call.log, 'INVALID_ARGUMENT', 'no authorities to append')
  }
  const jwtAuthorities = orInvalid(call, 'failed to convert JWT authority', () =>
    jwtKeysFromWire(request.jwtAuthorities),
  )
  const x509Authorities = orInvalid(call, 'failed to convert X.509 authority', () =>
    x509AuthoritiesFromWire(request.x509Authorities),
  )
  const bundle = await orInternal(call, 'failed to append bundle', () =>
    deps.store.bundles.append({ trustDomain: deps.trustDomain, x509Authorities, jwtAuthorities }),
  )
  deps.bundleChanged?.(bundle)
  call.audit({})
  return bundleToWire(bundle, request.outputMask)
}

export async function publishJwtAuthority(deps: ServerDeps, request: api.PublishJWTAuthorityRequest, call: Call) {
  if (call.audited && request.jwtAuthority) call.auditRequest({ jwt_authority_key_id: request.jwtAuthority.keyId })
  await limited(call, 1, 'rejecting request due to key publishing rate limiting')
  const authority = request.jwtAuthority
  if (authority === undefined) throw failure(call.log, 'INVALID_ARGUMENT', 'missing JWT authority')
  const [key] = orInvalid(call, 'invalid JWT authority', () => jwtKeysFromWire([authority]))
  const keys = await orInternal(call, 'failed to publish JWT key', () => deps.publishJwtKey(key!))
  call.audit({})
  return { jwtAuthorities: keys.map(keyToWire) }
}

/** SPIRE answers as if it were switched off, always. */
export async function publishWitAuthority(deps: ServerDeps, request: api.PublishWITAuthorityRequest, call: Call) {
  if (!deps.witSvidsEnabled) {
    throw failure(call.log, 'UNIMPLEMENTED', 'WIT-SVID functionality is not yet implemented')
  }
  if (call.audited && request.witAuthority) call.auditRequest({ wit_authority_key_id: request.witAuthority.keyId })
  await limited(call, 1, 'rejecting request due to key publishing rate limiting')
  const authority = request.witAuthority
  if (authority === undefined) throw failure(call.log, 'INVALID_ARGUMENT', 'missing WIT authority')
  const [key] = orInvalid(call, 'invalid WIT authority', () => jwtKeysFromWire([authority]))
  const keys = await orInternal(call, 'failed to publish WIT key', () => deps.publishWitKey(key!))
  call.audit({})
  return { witAuthorities: keys.map(keyToWire) }
}

/** All bundles but the own one, which still takes a place of its page, as in SPIRE. */
export async function listFederatedBundles(deps: ServerDeps, request: api.ListFederatedBundlesRequest, call: Call) {
  const page = await orInternal(call, 'failed to list bundles', () => deps.store.bundles.list(pageFromWire(request)))
  call.audit({})
  return {
    bundles: page.items
      .filter((bundle) => bundle.trustDomain !== deps.trustDomain)
      .map((bundle) => bundleToWire(bundle, request.outputMask)),
    nextPageToken: page.nextToken,
  }
}

export async function getFederatedBundle(deps: ServerDeps, request: api.GetFederatedBundleRequest, call: Call) {
  if (call.audited) call.auditRequest({ trust_domain_id: request.trustDomain })
  const trustDomain = foreignTrustDomain(
    deps,
    call,
    request.trustDomain,
    "getting a federated bundle for the server's own trust domain is not allowed",
  )
  const bundle = await orInternal(call, 'failed to fetch bundle', () => deps.store.bundles.get(trustDomain))
  if (bundle === undefined) throw failure(call.log, 'NOT_FOUND', 'bundle not found')
  call.audit({})
  return bundleToWire(bundle, request.outputMask)
}

type Write = (bundle: CoreBundle) => Promise<CoreBundle>

async function writeEach(
  deps: ServerDeps,
  bundles: readonly WireBundle[],
  outputMask: BundleMask | undefined,
  call: Call,
  verb: string,
  write: Write,
) {
  const results: api.BatchCreateFederatedBundleResponse_Result[] = []
  for (const bundle of bundles) {
    const { status, value } = await runItem(
      call,
      () => ({ trust_domain_id: bundle.trustDomain }),
      async () => {
        foreignTrustDomain(
          deps,
          call,
          bundle.trustDomain,
          `${verb} a federated bundle for the server's own trust domain is not allowed`,
        )
        return write(orInvalid(call, 'failed to convert bundle', () => bundleFromWire(bundle)))
      },
    )
    results.push({ status, bundle: value && bundleToWire(value, outputMask) })
  }
  return { results }
}

export function batchCreateFederatedBundle(
  deps: ServerDeps,
  request: api.BatchCreateFederatedBundleRequest,
  call: Call,
) {
  return writeEach(deps, request.bundle, request.outputMask, call, 'creating', async (bundle) => {
    try {
      return await deps.store.bundles.create(bundle)
    } catch (error) {
      if (codeOf(error) === 'ALREADY_EXISTS') throw failure(call.log, 'ALREADY_EXISTS', 'bundle already exists')
      throw failure(call.log, 'INTERNAL', 'unable to create bundle', error)
    }
  })
}

export function batchUpdateFederatedBundle(
  deps: ServerDeps,
  request: api.BatchUpdateFederatedBundleRequest,
  call: Call,
) {
  const mask = request.inputMask
  return writeEach(deps, request.bundle, request.outputMask, call, 'updating', async (bundle) => {
    try {
      if (mask === undefined) return await deps.store.bundles.update(bundle)
      return await deps.store.bundles.change(bundle.trustDomain, (stored) => ({
        ...stored,
        ...(mask.x509Authorities && { x509Authorities: bundle.x509Authorities }),
        ...(mask.jwtAuthorities && { jwtAuthorities: bundle.jwtAuthorities }),
        ...(mask.refreshHint && { refreshHintSeconds: bundle.refreshHintSeconds }),
        ...(mask.sequenceNumber && { sequenceNumber: bundle.sequenceNumber }),
      }))
    } catch (error) {
      if (codeOf(error) === 'NOT_FOUND') throw failure(call.log, 'NOT_FOUND', 'bundle not found')
      throw failure(call.log, 'INTERNAL', 'failed to update bundle', error)
    }
  })
}

export function batchSetFederatedBundle(deps: ServerDeps, request: api.BatchSetFederatedBundleRequest, call: Call) {
  return writeEach(deps, request.bundle, request.outputMask, call, 'setting', (bundle) =>
    orInternal(call, 'failed to set bundle', () => deps.store.bundles.set(bundle)),
  )
}

const DELETIONS: readonly BundleDeletion[] = ['restrict', 'delete', 'dissociate']

export async function batchDeleteFederatedBundle(
  deps: ServerDeps,
  request: api.BatchDeleteFederatedBundleRequest,
  call: Call,
) {
  const mode = DELETIONS[request.mode]
  if (mode === undefined) {
    throw failure(
      call.log,
      'INVALID_ARGUMENT',
      'failed to parse deletion mode',
      new Error(`unhandled delete mode "${request.mode}"`),
    )
  }
  const results: api.BatchDeleteFederatedBundleResponse_Result[] = []
  for (const trustDomain of request.trustDomains) {
    const { status } = await runItem(
      call,
      () => ({ trust_domain_id: trustDomain, mode }),
      async () => {
        const foreign = foreignTrustDomain(
          deps,
          call,
          trustDomain,
          'removing the bundle for the server trust domain is not allowed',
        )
        try {
          await deps.store.bundles.delete(foreign, mode)
        } catch (error) {
          const code = codeOf(error)
          if (code === 'NOT_FOUND') throw failure(call.log, 'NOT_FOUND', 'bundle not found')
          throw failure(
            call.log,
            code === 'FAILED_PRECONDITION' ? code : 'INTERNAL',
            'failed to delete federated bundle',
            error,
          )
        }
      },
    )
    results.push({ status, trustDomain })
  }
  return { results }
}

function foreignTrustDomain(deps: ServerDeps, call: Call, text: string, complaint: string): TrustDomain {
  const trustDomain = orInvalid(call, 'trust domain argument is not valid', () => parseTrustDomain(text))
  if (trustDomain === deps.trustDomain) throw failure(call.log, 'INVALID_ARGUMENT', complaint)
  return trustDomain
}
