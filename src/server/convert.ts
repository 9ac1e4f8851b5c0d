import type * as wire from '../../proto/spire/api/types.ts'
import type { Bundle, JwtAuthority, X509Authority } from '../core/bundle.ts'
import { parseCertificates } from '../core/certificate.ts'
import { StatusError, wrapError } from '../core/error.ts'
import type { AttestedNode } from '../core/node.ts'
import { parsePublicKey } from '../core/public-key.ts'
import { normaliseSelectors, requireSelector, type Selector } from '../core/selector.ts'
import { pathOf, type SpiffeId, spiffeId, trustDomainOf } from '../core/spiffe-id.ts'
import type { MatchBehavior, Page } from '../core/store.ts'
import { parseTrustDomain } from '../core/trust-domain.ts'

/** A SPIFFE ID as its message. */
export function idToWire(id: SpiffeId): wire.SPIFFEID {
  return { trustDomain: trustDomainOf(id), path: pathOf(id) }
}

/**
 * Reads a SPIFFE ID message; its trust domain may be a name or an ID.
 * @throws StatusError INVALID_ARGUMENT
 */
export function idFromWire(id: wire.SPIFFEID | undefined): SpiffeId {
  if (id === undefined) throw new StatusError('INVALID_ARGUMENT', 'request must specify SPIFFE ID')
  return spiffeId(parseTrustDomain(id.trustDomain), id.path)
}

/**
 * Reads selectors, sorted and without repetitions.
 * @throws StatusError INVALID_ARGUMENT
 */
export function selectorsFromWire(selectors: readonly wire.Selector[]): Selector[] {
  return normaliseSelectors(selectors.map(requireSelector))
}

const MATCHES: readonly MatchBehavior[] = ['exact', 'subset', 'superset', 'any']

/**
 * @param of what is matched, for the text
 * @throws StatusError INTERNAL, with SPIRE's text, for a number that is none
 */
export function matchFromWire(match: number, of: '' | 'selectors ' | 'federates with '): MatchBehavior {
  const found = MATCHES[match]
  if (found === undefined) {
    throw new StatusError('INTERNAL', `datastore-sql: unhandled ${of}match behavior '${asCharacter(match)}'`)
  }
  return found
}

/** As Go quotes a number that it takes for a character. */
function asCharacter(number: number): string {
  if (number < 0 || number > 0x10ffff || (number >= 0xd800 && number < 0xe000)) return '\ufffd'
  if (number >= 7 && number <= 13) return `\\${'abtnvfr'[number - 7]}`
  if (number < 0x20 || number === 0x7f) return `\\x${number.toString(16).padStart(2, '0')}`
  return String.fromCodePoint(number)
}

/** What a list request asks for; a size below 1 is everything. */
export function pageFromWire(request: { readonly pageSize: number; readonly pageToken: string }): Page {
  return request.pageSize > 0 ? { size: request.pageSize, token: request.pageToken } : { size: 0, token: '' }
}

/** A bundle as its message; without mask, all of it. */
export function bundleToWire(bundle: Bundle, mask?: wire.BundleMask): wire.Bundle {
  return {
    trustDomain: bundle.trustDomain,
    x509Authorities: !mask || mask.x509Authorities ? bundle.x509Authorities.map(x509AuthorityToWire) : [],
    jwtAuthorities: !mask || mask.jwtAuthorities ? bundle.jwtAuthorities.map(keyToWire) : [],
    refreshHint: !mask || mask.refreshHint ? bundle.refreshHintSeconds : 0,
    sequenceNumber: !mask || mask.sequenceNumber ? bundle.sequenceNumber : 0,
    witAuthorities: !mask || mask.witAuthorities ? bundle.witAuthorities.map(keyToWire) : [],
  }
}

/** A number per mask, for caches of encoded bundles. */
export function bundleMaskKey(mask: wire.BundleMask | undefined): number {
  if (mask === undefined) return -1
  return (
    (mask.x509Authorities ? 1 : 0) |
    (mask.jwtAuthorities ? 2 : 0) |
    (mask.refreshHint ? 4 : 0) |
    (mask.sequenceNumber ? 8 : 0) |
    (mask.witAuthorities ? 16 : 0)
  )
}

function x509AuthorityToWire(authority: X509Authority): wire.X509Certificate {
  return { asn1: authority.der, tainted: authority.tainted }
}

export function keyToWire(key: JwtAuthority): wire.JWTKey {
  return { publicKey: key.publicKey, keyId: key.keyId, expiresAt: key.expiresAt, tainted: key.tainted }
}

/**
 * Reads a bundle. Tainted flags and WIT keys are dropped.
 * @throws StatusError INVALID_ARGUMENT
 */
export function bundleFromWire(bundle: wire.Bundle): Bundle {
  const trustDomain = prefixed('invalid trust domain', () => parseTrustDomain(bundle.trustDomain))
  const x509Authorities = prefixed('unable to parse X.509 authority', () =>
    x509AuthoritiesFromWire(bundle.x509Authorities),
  )
  const jwtAuthorities = prefixed('unable to parse JWT authority', () => jwtKeysFromWire(bundle.jwtAuthorities))
  if (bundle.refreshHint < 0) throw new StatusError('INVALID_ARGUMENT', 'refresh hint is negative')
  return {
    trustDomain,
    x509Authorities,
    jwtAuthorities,
    witAuthorities: [],
    refreshHintSeconds: bundle.refreshHint,
    sequenceNumber: bundle.sequenceNumber,
  }
}

/** @throws StatusError INVALID_ARGUMENT `x509: malformed certificate` */
export function x509AuthoritiesFromWire(authorities: readonly wire.X509Certificate[]): X509Authority[] {
  return authorities.flatMap((authority) =>
    parseCertificates(authority.asn1).map((certificate) => ({ der: certificate.der, tainted: false })),
  )
}

/** @throws StatusError INVALID_ARGUMENT */
export function jwtKeysFromWire(keys: readonly wire.JWTKey[]): JwtAuthority[] {
  return keys.map((key) => {
    parsePublicKey(key.publicKey)
    if (key.keyId === '') throw new StatusError('INVALID_ARGUMENT', 'missing key ID')
    return { keyId: key.keyId, publicKey: key.publicKey, expiresAt: key.expiresAt, tainted: false }
  })
}

/** An attested node as its message; without mask, all of it. */
export function agentToWire(node: AttestedNode, mask?: wire.AgentMask): wire.Agent {
  return {
    id: idToWire(node.id),
    attestationType: !mask || mask.attestationType ? node.attestationType : '',
    x509svidSerialNumber: !mask || mask.x509svidSerialNumber ? node.serialNumber : '',
    x509svidExpiresAt: !mask || mask.x509svidExpiresAt ? node.expiresAt : 0,
    selectors: !mask || mask.selectors ? [...node.selectors] : [],
    banned: !mask || mask.banned ? node.serialNumber === '' : false,
    canReattest: !mask || mask.canReattest ? node.canReattest : false,
    agentVersion: !mask || mask.agentVersion ? node.agentVersion : '',
  }
}

/** Runs a conversion, putting what was being read in front of what is wrong with it. */
export function prefixed<T>(message: string, convert: () => T): T {
  try {
    return convert()
  } catch (error) {
    throw wrapError('INVALID_ARGUMENT', message, error)
  }
}
