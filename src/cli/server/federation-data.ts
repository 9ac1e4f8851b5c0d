import type { Bundle, FederationRelationship } from '../../../proto/spire/api/types.ts'
import { complaining, idMessage, readInput } from '../arguments.ts'
import { CommandError } from '../failure.ts'
import { type FlagTable, type FlagValues, text } from '../flags.ts'
import { type JsonObject, jsonObject } from '../json-input.ts'
import { type BundleFormat, bundleFromText } from './bundle-text.ts'

/** What `federation create` and `federation update` say of a relationship. */
export const RELATIONSHIP_FLAGS = {
  data: text(
    "Path to a file containing federation relationships in JSON format (optional). If set to '-', read the JSON from stdin.",
  ),
  trustDomain: text('Name of the trust domain to federate with (e.g., example.org)'),
  bundleEndpointURL: text(
    'URL of the SPIFFE bundle endpoint that provides the trust bundle (must use the HTTPS protocol)',
  ),
  bundleEndpointProfile: text('Endpoint profile type (either "https_web" or "https_spiffe")'),
  endpointSpiffeID: text("SPIFFE ID of the SPIFFE bundle endpoint server. Only used for 'spiffe' profile."),
  trustDomainBundlePath: text('Path to the trust domain bundle data (optional).'),
  trustDomainBundleFormat: text('The format of the bundle data (optional). Either "pem" or "spiffe".', 'pem'),
} as const satisfies FlagTable

/** A relationship before it is checked, wherever it comes from. */
interface Wanted {
  readonly trustDomain: string
  readonly url: string
  readonly profile: string
  readonly endpointId: string
  /** Reads the bundle, if one is given; its keys belong to this trust domain. */
  bundle(trustDomain: string): Promise<Bundle | undefined>
}

/**
 * The relationships that the flags describe, or their file.
 * @throws CommandError in the order SPIRE checks
 */
export async function relationshipsOf(
  flags: FlagValues<typeof RELATIONSHIP_FLAGS>,
  context: { stdin(): Uint8Array },
): Promise<FederationRelationship[]> {
  if (flags.data === '') return [await relationship(fromFlags(flags))]
  const { data: _, trustDomainBundleFormat: format, ...others } = flags
  if (format !== 'pem' || OWN_FLAGS.some((name) => others[name] !== '')) {
    throw new CommandError("cannot use other flags to specify relationship fields when 'data' flag is set")
  }
  const bytes = readInput(flags.data, context)
  const file = complaining('failed to parse JSON', () =>
    jsonObject(bytes, 'federationRelationships').objects('federationRelationships'),
  )
  const found: FederationRelationship[] = []
  for (const [i, json] of file.entries()) {
    const item = relationship(fromJson(json))
    found.push(
      await item.catch((error: unknown) => {
        throw new CommandError(`could not parse item ${i}: ${(error as Error).message}`, { cause: error })
      }),
    )
  }
  return found
}

const OWN_FLAGS = [
  'trustDomain',
  'bundleEndpointURL',
  'bundleEndpointProfile',
  'endpointSpiffeID',
  'trustDomainBundlePath',
] as const

async function relationship(wanted: Wanted): Promise<FederationRelationship> {
  const { trustDomain, url, profile, endpointId } = wanted
  if (trustDomain === '') throw new CommandError('trust domain is required')
  if (url === '') throw new CommandError('bundle endpoint URL is required')
  if (profile === 'https_web') {
    const trustDomainBundle = await wanted.bundle(trustDomain)
    return { trustDomain, bundleEndpointUrl: url, httpsWeb: {}, trustDomainBundle }
  }
  if (profile !== 'https_spiffe') {
    throw new CommandError(`unknown bundle endpoint profile type: ${JSON.stringify(profile)}`)
  }
  if (endpointId === '') {
    throw new CommandError("endpoint SPIFFE ID is required if 'https_spiffe' endpoint profile is set")
  }
  const id = complaining('cannot parse bundle endpoint SPIFFE ID', () => idMessage(endpointId))
  return {
    trustDomain,
    bundleEndpointUrl: url,
    httpsSpiffe: { endpointSpiffeId: endpointId },
    // SPIRE names the bundle after the endpoint's trust domain; the server refuses one of another name.
    trustDomainBundle: await wanted.bundle(id.trustDomain),
  }
}

function fromFlags(flags: FlagValues<typeof RELATIONSHIP_FLAGS>): Wanted {
  return {
    trustDomain: flags.trustDomain,
    url: flags.bundleEndpointURL,
    profile: flags.bundleEndpointProfile,
    endpointId: flags.endpointSpiffeID,
    async bundle(trustDomain) {
      const path = flags.trustDomainBundlePath
      if (path === '') return undefined
      const bytes = complaining('cannot read bundle file', () => readInput(path, { stdin: () => NOTHING }))
      const format: BundleFormat = flags.trustDomainBundleFormat === 'pem' ? 'pem' : 'spiffe'
      return bundleFromText(bytes, format, trustDomain).catch((error: unknown) => {
        throw new CommandError(`cannot parse bundle file: ${(error as Error).message}`, { cause: error })
      })
    },
  }
}

const NOTHING = new Uint8Array(0)

function fromJson(json: JsonObject): Wanted {
  return {
    trustDomain: json.string('trustDomain'),
    url: json.string('bundleEndpointURL'),
    profile: json.string('bundleEndpointProfile'),
    endpointId: json.string('endpointSPIFFEID'),
    async bundle(trustDomain) {
      const value = json.value('trustDomainBundle')
      if (value === undefined || value === null) return undefined
      const format = json.string('trustDomainBundleFormat')
      try {
        if (format !== 'pem' && format !== 'spiffe') {
          throw new CommandError(`bundle format ${JSON.stringify(format)} is unsupported`)
        }
        const content = format === 'pem' ? json.string('trustDomainBundle') : JSON.stringify(value)
        return await bundleFromText(new TextEncoder().encode(content), format, trustDomain)
      } catch (error) {
        throw new CommandError(`cannot parse bundle raw message: ${(error as Error).message}`, { cause: error })
      }
    },
  }
}
