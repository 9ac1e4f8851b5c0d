import { StatusError } from './error.ts'
import { parseTrustDomainName, type TrustDomain } from './trust-domain.ts'

/** A valid SPIFFE ID as text, `spiffe://<trust domain>[/path]`. Only the functions here make one. */
export type SpiffeId = string & { readonly brand: 'SpiffeId' }

const SCHEME = 'spiffe://'
const MAX_LENGTH = 2048
const PATH_SEGMENT = /^[a-zA-Z0-9._-]+$/

/**
 * Parses the text of a SPIFFE ID.
 *
 * @throws StatusError INVALID_ARGUMENT with go-spiffe's texts
 * @see SPIFFE-ID 2
 */
export function parseSpiffeId(text: string): SpiffeId {
  if (text === '') throw invalid('cannot be empty')
  if (!text.startsWith(SCHEME)) throw invalid('scheme is missing or invalid')
  if (text.length > MAX_LENGTH) throw invalid(`SPIFFE ID is longer than ${MAX_LENGTH} bytes`)
  const slash = text.indexOf('/', SCHEME.length)
  const name = slash < 0 ? text.slice(SCHEME.length) : text.slice(SCHEME.length, slash)
  parseTrustDomainName(name)
  if (slash >= 0) checkPath(text.slice(slash))
  return text as SpiffeId
}

/**
 * Puts a SPIFFE ID together from its parts.
 *
 * @param path empty, or a path with leading slash
 * @throws StatusError INVALID_ARGUMENT if the path is malformed
 */
export function spiffeId(trustDomain: TrustDomain, path: string): SpiffeId {
  checkPath(path)
  const text = `${SCHEME}${trustDomain}${path}`
  if (text.length > MAX_LENGTH) throw invalid(`SPIFFE ID is longer than ${MAX_LENGTH} bytes`)
  return text as SpiffeId
}

/** The trust domain of an ID. */
export function trustDomainOf(id: SpiffeId): TrustDomain {
  const slash = id.indexOf('/', SCHEME.length)
  return (slash < 0 ? id.slice(SCHEME.length) : id.slice(SCHEME.length, slash)) as TrustDomain
}

/** The path of an ID with its leading slash; empty for the ID of a trust domain. */
export function pathOf(id: SpiffeId): string {
  const slash = id.indexOf('/', SCHEME.length)
  return slash < 0 ? '' : id.slice(slash)
}

/** `spiffe://<td>`, the ID of a trust domain itself. */
export function trustDomainId(trustDomain: TrustDomain): SpiffeId {
  return `${SCHEME}${trustDomain}` as SpiffeId
}

/** `spiffe://<td>/spire/server`, the identity every server of a trust domain presents. */
export function serverId(trustDomain: TrustDomain): SpiffeId {
  return `${SCHEME}${trustDomain}/spire/server` as SpiffeId
}

/** True for IDs in the namespace of agents, `/spire/agent/...`. */
function isAgentId(id: SpiffeId): boolean {
  return pathOf(id).startsWith('/spire/agent/')
}

/**
 * Requires an ID of a trust domain, with a path.
 * @throws StatusError INVALID_ARGUMENT
 */
export function requireMember(id: SpiffeId, trustDomain: TrustDomain): SpiffeId {
  if (trustDomainOf(id) !== trustDomain) throw invalid(`"${id}" is not a member of trust domain "${trustDomain}"`)
  if (pathOf(id) === '') throw invalid(`"${id}" is not a member of trust domain "${trustDomain}"; path is empty`)
  return id
}

/**
 * Requires the ID of an agent of a trust domain.
 * @throws StatusError INVALID_ARGUMENT
 */
export function requireAgentId(id: SpiffeId, trustDomain: TrustDomain): SpiffeId {
  if (trustDomainOf(id) !== trustDomain) throw invalid(`"${id}" is not a member of trust domain "${trustDomain}"`)
  const complaint = `"${id}" is not an agent in trust domain "${trustDomain}"`
  if (pathOf(id) === '') throw invalid(`${complaint}; path is empty`)
  if (!isAgentId(id)) throw invalid(`${complaint}; path is not in the agent namespace`)
  return id
}

/**
 * Requires the ID of a workload of a trust domain: any path outside the reserved `/spire`.
 * @throws StatusError INVALID_ARGUMENT
 */
export function requireWorkloadId(id: SpiffeId, trustDomain: TrustDomain): SpiffeId {
  if (trustDomainOf(id) !== trustDomain) throw invalid(`"${id}" is not a member of trust domain "${trustDomain}"`)
  const complaint = `"${id}" is not a workload in trust domain "${trustDomain}"`
  const path = pathOf(id)
  if (path === '') throw invalid(`${complaint}; path is empty`)
  if (path === '/spire' || path.startsWith('/spire/')) throw invalid(`${complaint}; path is in the reserved namespace`)
  return id
}

function checkPath(path: string): void {
  if (path === '') return
  if (!path.startsWith('/')) throw invalid('path must have a leading slash')
  const segments = path.slice(1).split('/')
  for (const [index, segment] of segments.entries()) {
    if (segment === '') {
      throw invalid(
        index === segments.length - 1 ? 'path cannot have a trailing slash' : 'path cannot contain empty segments',
      )
    }
    if (segment === '.' || segment === '..') throw invalid('path cannot contain dot segments')
    if (!PATH_SEGMENT.test(segment)) {
      throw invalid('path segment characters are limited to letters, numbers, dots, dashes, and underscores')
    }
  }
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
