import type * as api from '../../proto/spire/api/server/trustdomain/v1.ts'
import type { FederationRelationship, FederationRelationshipMask } from '../../proto/spire/api/types.ts'
import type { Bundle } from '../core/bundle.ts'
import { StatusError } from '../core/error.ts'
import { parseSpiffeId } from '../core/spiffe-id.ts'
import type { FederationRelationship as Relationship } from '../core/store.ts'
import { parseTrustDomain, type TrustDomain } from '../core/trust-domain.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'
import { runItem } from './batch.ts'
import { bundleFromWire, bundleToWire, pageFromWire, prefixed } from './convert.ts'
import type { ServerDeps } from './deps.ts'
import { parseEndpointUrl } from './endpoint-url.ts'
import { codeOf, orInternal, orInvalid } from './outcome.ts'

const UNPARSED = 'failed to parse trust domain'

export async function listFederationRelationships(
  deps: ServerDeps,
  request: api.ListFederationRelationshipsRequest,
  call: Call,
): Promise<api.ListFederationRelationshipsResponse> {
  const page = await orInternal(call, 'failed to list federation relationships', () =>
    deps.store.relationships.list(pageFromWire(request)),
  )
  const federationRelationships = await Promise.all(
    page.items.map((relationship) => relationshipToWire(deps, relationship, request.outputMask, call)),
  )
  call.audit({})
  return { federationRelationships, nextPageToken: page.nextToken }
}

export async function getFederationRelationship(
  deps: ServerDeps,
  request: api.GetFederationRelationshipRequest,
  call: Call,
): Promise<FederationRelationship> {
  if (call.audited) call.auditRequest({ trust_domain_id: request.trustDomain })
  const trustDomain = orInvalid(call, UNPARSED, () => parseTrustDomain(request.trustDomain))
  const relationship = await orInternal(call, 'failed to fetch federation relationship', () =>
    deps.store.relationships.get(trustDomain),
  )
  if (relationship === undefined) throw failure(call.log, 'NOT_FOUND', 'federation relationship does not exist')
  call.audit({})
  return relationshipToWire(deps, relationship, request.outputMask, call)
}

export async function batchCreateFederationRelationship(
  deps: ServerDeps,
  request: api.BatchCreateFederationRelationshipRequest,
  call: Call,
): Promise<api.BatchCreateFederationRelationshipResponse> {
  return writeEach(request.federationRelationships, request.outputMask, call, async (relationship, bundle) => {
    if (relationship.trustDomain === deps.trustDomain) {
      throw failure(call.log, 'INVALID_ARGUMENT', 'unable to create federation relationship for server trust domain')
    }
    await orInternal(call, 'failed to create federation relationship', () =>
      deps.store.relationships.create(relationship, bundle),
    )
    // A bundle that was there before is not shown, as in SPIRE.
    return { relationship, bundle }
  })
}

export async function batchUpdateFederationRelationship(
  deps: ServerDeps,
  request: api.BatchUpdateFederationRelationshipRequest,
  call: Call,
): Promise<api.BatchUpdateFederationRelationshipResponse> {
  const mask = request.inputMask
  return writeEach(request.federationRelationships, request.outputMask, call, (relationship, bundle) =>
    orInternal(call, 'failed to update federation relationship', async () => {
      const stored = await deps.store.relationships.get(relationship.trustDomain)
      const updated = {
        trustDomain: relationship.trustDomain,
        bundleEndpointUrl:
          stored && mask && !mask.bundleEndpointUrl ? stored.bundleEndpointUrl : relationship.bundleEndpointUrl,
        profile: stored && mask && !mask.bundleEndpointProfile ? stored.profile : relationship.profile,
      }
      await deps.store.relationships.update(updated, mask && !mask.trustDomainBundle ? undefined : bundle)
      return { relationship: updated, bundle: await storedBundle(deps, updated.trustDomain, call) }
    }),
  )
}

export async function batchDeleteFederationRelationship(
  deps: ServerDeps,
  request: api.BatchDeleteFederationRelationshipRequest,
  call: Call,
): Promise<api.BatchDeleteFederationRelationshipResponse> {
  const results: api.BatchDeleteFederationRelationshipResponse_Result[] = []
  for (const text of request.trustDomains) {
    const { status } = await runItem(
      call,
      () => ({ trust_domain_id: text }),
      async () => {
        if (text === '') throw failure(call.log, 'INVALID_ARGUMENT', 'missing trust domain')
        const trustDomain = orInvalid(call, UNPARSED, () => parseTrustDomain(text))
        try {
          await deps.store.relationships.delete(trustDomain)
        } catch (error) {
          if (codeOf(error) === 'NOT_FOUND') {
            throw failure(call.log, 'NOT_FOUND', 'federation relationship not found')
          }
          throw failure(call.log, 'INTERNAL', 'failed to delete federation relationship', error)
        }
      },
    )
    results.push({ status, trustDomain: text })
  }
  return { results }
}

export async function refreshBundle(deps: ServerDeps, request: api.RefreshBundleRequest, call: Call) {
  if (call.audited) call.auditRequest({ trust_domain_id: request.trustDomain })
  const trustDomain = orInvalid(call, UNPARSED, () => parseTrustDomain(request.trustDomain))
  const known = await orInternal(call, 'failed to refresh bundle', async () => {
    if (deps.refreshBundle !== undefined) return deps.refreshBundle(trustDomain)
    if ((await deps.store.relationships.get(trustDomain)) === undefined) return false
    throw new Error('this server does not fetch bundles')
  })
  if (!known) throw failure(call.log, 'NOT_FOUND', `no relationship with trust domain "${trustDomain}"`)
  call.audit({})
  return {}
}

/** A relationship after a write, with the bundle that the answer shows. */
interface Written {
  readonly relationship: Relationship
  readonly bundle: Bundle | undefined
}

async function writeEach(
  relationships: readonly FederationRelationship[],
  outputMask: FederationRelationshipMask | undefined,
  call: Call,
  write: (relationship: Relationship, bundle: Bundle | undefined) => Promise<Written>,
) {
  const results: api.BatchCreateFederationRelationshipResponse_Result[] = []
  for (const message of relationships) {
    const { status, value } = await runItem(
      call,
      () => ({ trust_domain_id: message.trustDomain, bundle_endpoint_url: message.bundleEndpointUrl }),
      async () => {
        const { relationship, bundle } = orInvalid(call, 'failed to convert federation relationship', () =>
          relationshipFromWire(message),
        )
        const written = await write(relationship, bundle)
        return toWire(written.relationship, written.bundle, outputMask)
      },
    )
    results.push({ status, federationRelationship: value })
  }
  return { results }
}

function relationshipFromWire(message: FederationRelationship): {
  readonly relationship: Relationship
  readonly bundle: Bundle | undefined
} {
  const trustDomain = prefixed(UNPARSED, () => parseTrustDomain(message.trustDomain))
  const bundleEndpointUrl = parseEndpointUrl(message.bundleEndpointUrl)
  const profile = profileFromWire(message)
  const given = message.trustDomainBundle
  const bundle = given && prefixed('failed to parse bundle', () => bundleFromWire(given))
  if (bundle !== undefined && bundle.trustDomain !== trustDomain) {
    throw invalid(
      `trust domain bundle ("${given?.trustDomain}") must match the trust domain of the federation relationship ("${trustDomain}")`,
    )
  }
  return { relationship: { trustDomain, bundleEndpointUrl, profile }, bundle }
}

function profileFromWire({ httpsSpiffe, httpsWeb }: FederationRelationship): Relationship['profile'] {
  if (httpsSpiffe !== undefined) {
    const endpointSpiffeId = prefixed('failed to parse endpoint SPIFFE ID', () =>
      parseSpiffeId(httpsSpiffe.endpointSpiffeId),
    )
    return { type: 'https_spiffe', endpointSpiffeId }
  }
  if (httpsWeb !== undefined) return { type: 'https_web' }
  throw invalid('unsupported bundle endpoint profile type: <nil>')
}

async function relationshipToWire(
  deps: ServerDeps,
  relationship: Relationship,
  mask: FederationRelationshipMask | undefined,
  call: Call,
): Promise<FederationRelationship> {
  const withBundle = !mask || mask.trustDomainBundle
  return toWire(relationship, withBundle ? await storedBundle(deps, relationship.trustDomain, call) : undefined, mask)
}

function toWire(
  { trustDomain, bundleEndpointUrl, profile }: Relationship,
  bundle: Bundle | undefined,
  mask: FederationRelationshipMask | undefined,
): FederationRelationship {
  const withProfile = !mask || mask.bundleEndpointProfile
  return {
    trustDomain,
    bundleEndpointUrl: !mask || mask.bundleEndpointUrl ? bundleEndpointUrl : '',
    httpsWeb: withProfile && profile.type === 'https_web' ? {} : undefined,
    httpsSpiffe:
      withProfile && profile.type === 'https_spiffe' ? { endpointSpiffeId: profile.endpointSpiffeId } : undefined,
    trustDomainBundle: bundle && (!mask || mask.trustDomainBundle) ? bundleToWire(bundle) : undefined,
  }
}

function storedBundle(deps: ServerDeps, trustDomain: TrustDomain, call: Call): Promise<Bundle | undefined> {
  return orInternal(call, 'failed to fetch bundle', () => deps.store.bundles.get(trustDomain))
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
