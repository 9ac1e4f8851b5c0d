import { base64, fromBase64 } from './base64.ts'
import type { Bundle, JwtAuthority, X509Authority } from './bundle.ts'
import { parseCertificate } from './certificate.ts'
import { errorMessage, StatusError } from './error.ts'
import { isJsonObject, parseJson } from './json-object.ts'
import { type Jwk, jwkOf, spkiOfJwk } from './jwk.ts'
import type { TrustDomain } from './trust-domain.ts'

const MAX_DOCUMENT = 4 * 1024 * 1024
const MAX_KEYS = 4096

/**
 * The SPIFFE bundle document of a bundle: all roots, all JWT keys, all WIT keys, tainted ones too.
 * Indented by 4 spaces; zero numbers are left out.
 *
 * @param refreshHintSeconds instead of the stored hint
 * @see SPIFFE Trust Domain and Bundle 4
 */
export function bundleDocument(bundle: Bundle, refreshHintSeconds = bundle.refreshHintSeconds): string {
  const roots = bundle.x509Authorities.map(({ der }) => ({
    use: 'x509-svid',
    ...jwkOf(parseCertificate(der).spki),
    x5c: [base64(der)],
  }))
  const keysFor = (use: string, authorities: readonly JwtAuthority[]) =>
    authorities.map(({ publicKey, keyId }) => ({ use, ...jwkOf(publicKey, keyId) }))
  return JSON.stringify(
    {
      keys: [...roots, ...keysFor('jwt-svid', bundle.jwtAuthorities), ...keysFor('wit-svid', bundle.witAuthorities)],
      ...(bundle.sequenceNumber > 0 ? { spiffe_sequence: bundle.sequenceNumber } : {}),
      ...(refreshHintSeconds > 0 ? { spiffe_refresh_hint: refreshHintSeconds } : {}),
    },
    undefined,
    4,
  )
}

/** The JWKS that the Workload API hands out for one trust domain: keys without `use`, indented by 4 spaces. */
export function workloadJwks(bundle: Bundle): string {
  const keys: Jwk[] = bundle.jwtAuthorities.map(({ publicKey, keyId }) => jwkOf(publicKey, keyId))
  return JSON.stringify({ keys }, undefined, 4)
}

/**
 * Reads a SPIFFE bundle document.
 * @throws StatusError INVALID_ARGUMENT with the texts of SPIRE (`missing use for key entry 0`, ...)
 */
export function parseBundleDocument(trustDomain: TrustDomain, text: string): Bundle {
  const document = objectOf(text)
  if (!Array.isArray(document.keys)) throw invalid('no authorities found')
  if (document.keys.length > MAX_KEYS) throw invalid('bundle has too many keys')
  const x509Authorities: X509Authority[] = []
  const jwtAuthorities: JwtAuthority[] = []
  const witAuthorities: JwtAuthority[] = []
  for (const [index, key] of document.keys.entries()) {
    if (typeof key !== 'object' || key === null) throw invalid(`key entry ${index} is not an object`)
    const entry = key as Record<string, unknown>
    if (entry.use === 'x509-svid') x509Authorities.push(readRoot(entry, index))
    else if (entry.use === 'jwt-svid') jwtAuthorities.push(readKey(entry, index, 'jwt-svid'))
    else if (entry.use === 'wit-svid') witAuthorities.push(readKey(entry, index, 'wit-svid'))
    else if (entry.use === undefined || entry.use === '') throw invalid(`missing use for key entry ${index}`)
    else throw invalid(`unrecognized use ${JSON.stringify(entry.use)} for key entry ${index}`)
  }
  return {
    trustDomain,
    x509Authorities,
    jwtAuthorities,
    witAuthorities,
    refreshHintSeconds: countOf(document.spiffe_refresh_hint, 'spiffe_refresh_hint'),
    sequenceNumber: countOf(document.spiffe_sequence, 'spiffe_sequence'),
  }
}

function readRoot(entry: Record<string, unknown>, index: number): X509Authority {
  const chain = Array.isArray(entry.x5c) ? entry.x5c : []
  if (chain.length !== 1 || typeof chain[0] !== 'string') {
    throw invalid(`expected a single certificate in x509-svid entry ${index}; got ${chain.length}`)
  }
  const der = fromBase64(chain[0])
  parseCertificate(der)
  return { der, tainted: false }
}

function readKey(entry: Record<string, unknown>, index: number, use: string): JwtAuthority {
  if (typeof entry.kid !== 'string' || entry.kid === '') throw invalid(`missing key ID in ${use} entry ${index}`)
  return { keyId: entry.kid, publicKey: spkiOfJwk(entry), expiresAt: 0, tainted: false }
}

function countOf(value: unknown, name: string): number {
  if (value === undefined) return 0
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw invalid(`${name} is not a number`)
  return value as number
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  if (text.length > MAX_DOCUMENT) throw invalid('bundle document is too large')
  try {
    const value: unknown = parseJson(text)
    if (isJsonObject(value)) return value
  } catch (error) {
    throw invalid(errorMessage(error))
  }
  throw invalid('a JSON object is expected')
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
