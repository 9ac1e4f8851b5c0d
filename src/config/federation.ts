import { parseSpiffeId } from '../core/spiffe-id.ts'
import { parseTrustDomain } from '../core/trust-domain.ts'
import { type DecodedObject, decodeObject, type Fields, merged } from './decode.ts'
import { parseDuration } from './duration.ts'
import { ConfigError, type HclItem, prefixed } from './hcl.ts'

const ACME = { directory_url: 'string', domain_name: 'string', email: 'string', tos_accepted: 'bool' } as const

/** `federation { }`. */
export const FEDERATION = {
  bundle_endpoint: { address: 'string', port: 'int', refresh_hint: 'string', acme: ACME, profile: 'any' },
  federates_with: 'any',
} as const satisfies Fields

type Federation = DecodedObject<typeof FEDERATION>

const ENDPOINT_PROFILES = {
  https_web: {
    acme: ACME,
    serving_cert_file: { cert_file_path: 'string', key_file_path: 'string', file_sync_interval: 'string' },
  },
  https_spiffe: 'any',
} as const satisfies Fields

const FEDERATES_WITH = { bundle_endpoint_url: 'string', bundle_endpoint_profile: 'any' } as const satisfies Fields
const CLIENT_PROFILES = { https_web: 'any', https_spiffe: { endpoint_spiffe_id: 'string' } } as const satisfies Fields

/** The first look, before anything else is read. @throws ConfigError with SPIRE's texts */
export function checkFederationFields(federation: Federation | undefined): void {
  const acme = federation?.bundle_endpoint?.acme
  if (acme && !acme.domain_name) throw new ConfigError('federation.bundle_endpoint.acme.domain_name must be configured')
  if (acme && !acme.email) throw new ConfigError('federation.bundle_endpoint.acme.email must be configured')
  for (const { name, url } of relationships(federation)) {
    const key = `federation.federates_with["${name}"].bundle_endpoint_url`
    if (url === '') throw new ConfigError(`${key} must be configured`)
    if (!url.toLowerCase().startsWith('https://')) {
      throw new ConfigError(`${key} must use the HTTPS protocol; URL found: ${JSON.stringify(url)}`)
    }
  }
}

/** The profiles of the bundle endpoint and of the trust domains federated with. @throws ConfigError with SPIRE's texts */
export function checkFederationProfiles(federation: Federation | undefined): void {
  if (federation?.bundle_endpoint) checkEndpoint(federation.bundle_endpoint)
  for (const { name, profile } of relationships(federation)) {
    prefixed('', () => parseTrustDomain(name))
    if (profile === undefined) {
      throw new ConfigError(
        `federation configuration for trust domain ${JSON.stringify(name)}: missing bundle endpoint configuration`,
      )
    }
    prefixed(`error parsing federation relationship for trust domain ${JSON.stringify(name)}`, () =>
      checkClientProfile(profile),
    )
  }
}

function relationships(federation: Federation | undefined) {
  const path = 'root.server.federation.federates_with'
  if (federation?.federates_with === undefined) return []
  return merged(federation.federates_with, path).items.map((item) => {
    const name = item.keys[0]!.text
    const { keys, value } = item
    const inner = keys.length > 1 ? { keys: keys.slice(1), value } : item
    const fields = decodeObject(merged([inner], `${path}.${name}`), FEDERATES_WITH, { path: `${path}.${name}` })
    return { name, url: fields.bundle_endpoint_url ?? '', profile: fields.bundle_endpoint_profile }
  })
}

function checkEndpoint(endpoint: NonNullable<Federation['bundle_endpoint']>): void {
  const { refresh_hint: hint, acme, profile } = endpoint
  if (hint) prefixed(`could not parse refresh_hint ${JSON.stringify(hint)}`, () => parseDuration(hint))
  if (acme && profile) throw new ConfigError("either bundle endpoint 'acme' or 'profile' can be set, but not both")
  if (profile === undefined) return
  const { https_web, https_spiffe } = theProfile(profile, ENDPOINT_PROFILES)
  if (https_web) {
    if (https_web.acme) return
    if (!https_web.serving_cert_file) {
      throw new ConfigError("malformed https_web profile configuration: 'acme' or 'serving_cert_file' is required")
    }
    parseDuration(https_web.serving_cert_file.file_sync_interval ?? '')
  } else if (!https_spiffe) {
    throw new ConfigError(
      'unknown bundle endpoint profile configured; current supported profiles are "https_spiffe" and \'https_web"',
    )
  }
}

function checkClientProfile(profile: readonly HclItem[]): void {
  const { https_web, https_spiffe } = theProfile(profile, CLIENT_PROFILES)
  if (https_spiffe) {
    prefixed('could not get endpoint SPIFFE ID', () => parseSpiffeId(https_spiffe.endpoint_spiffe_id ?? ''))
  } else if (!https_web) {
    throw new ConfigError(
      'no bundle endpoint profile defined; current supported profiles are "https_spiffe" and \'https_web"',
    )
  }
}

function theProfile<F extends Fields>(items: readonly HclItem[], fields: F): DecodedObject<F> {
  const object = merged(items, 'root.profile')
  if (object.items.length !== 1) throw new ConfigError('exactly one bundle endpoint profile is expected')
  return decodeObject(object, fields, { path: 'root' })
}
