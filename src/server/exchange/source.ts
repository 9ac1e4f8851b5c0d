import type { ExchangeSourceOptions, TokenIssuer } from '../../core/exchange.ts'
import { isJsonObject } from '../../core/json-object.ts'
import { isSecureUrl } from '../../core/secure-url.ts'
import { type SpiffeId, spiffeId } from '../../core/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../../core/trust-domain.ts'
import type { Claims, DerivedSelectors } from './claims.ts'
import { type ClaimSelector, SOURCE_TYPES, type SourceType } from './source-types.ts'

/** A source that was checked; every default is applied. */
export interface Source {
  readonly name: string
  readonly type: string
  /** The parent of the entries for it. */
  readonly parentId: SpiffeId
  readonly audience: string
  /** `iss` of its tokens; undefined for JWT-SVIDs, which say it by their subject. */
  readonly issuer: string | undefined
  readonly jwksUri: string | undefined
  readonly jwks: { readonly keys: readonly unknown[] } | undefined
  /** Whose JWT-SVIDs are taken, for type `spiffe`. */
  readonly trustDomain: TrustDomain | undefined
  readonly clusterName: string | undefined
  readonly types: readonly string[]
  readonly claimSelectors: readonly ClaimSelector[]
  readonly derive: ((claims: Claims) => DerivedSelectors) | undefined
  readonly allow: Readonly<Record<string, readonly string[]>>
  readonly maxTtlSeconds: number
  readonly maxTokenAgeSeconds: number
  readonly use: 'token' | 'svid_type'
  readonly requireBoundKey: boolean
  readonly allowAdmin: boolean
  readonly allowDownstream: boolean
}

/** A source and who verifies its tokens. */
export type VerifiableSource = Source & { readonly verifier: TokenIssuer }

const MAX_TTL_SECONDS = 3600
const MAX_TOKEN_AGE_SECONDS = 15 * 60

/**
 * Checks the configured sources.
 * @param ownIssuer `iss` of the server's own tokens
 * @throws Error that names the source and says what is wrong
 */
export function checkSources(
  trustDomain: TrustDomain,
  list: readonly ExchangeSourceOptions[],
  ownIssuer?: string,
): readonly Source[] {
  const names = new Set<string>()
  const checked: Source[] = []
  for (const options of list) {
    const fail: Fail = (complaint) => {
      throw new Error(`exchange ${JSON.stringify(options.name)}: ${complaint}`)
    }
    requireShape(options, fail)
    if (names.has(options.name)) fail('there are two sources of this name')
    names.add(options.name)
    const source = checkSource(trustDomain, options, fail)
    const { issuer, audience, use } = source
    if (issuer !== undefined && issuer === ownIssuer) fail('issuer must be another one than the own')
    // Else a token would be good for one SVID here, and for one of each type there.
    const other = checked.find(
      (one) =>
        one.issuer === issuer && one.trustDomain === source.trustDomain && one.audience === audience && one.use !== use,
    )
    if (other) fail(`use must be that of ${JSON.stringify(other.name)}, which takes the same tokens`)
    checked.push(source)
  }
  return checked
}

type Fail = (complaint: string) => never

/** Sources also come as JSON: a slip in a name must not leave one wider than it was meant to be. */
function requireShape(options: ExchangeSourceOptions, fail: Fail): void {
  for (const [name, value] of Object.entries(options)) {
    const shape = Object.hasOwn(SHAPE, name) ? SHAPE[name as keyof ExchangeSourceOptions] : undefined
    if (!shape) fail(`there is no option ${JSON.stringify(name)}`)
    else if (value !== undefined && !IS[shape](value)) fail(`${name} must be ${shape}`)
  }
  for (const name of ['name', 'type', 'audience'] as const) {
    if (options[name] === undefined) fail(`${name} must be configured`)
  }
}

const isTexts = (value: unknown) => Array.isArray(value) && value.every((one) => typeof one === 'string')

const IS = {
  text: (value: unknown) => typeof value === 'string',
  'a list of texts': isTexts,
  'lists of texts by name': (value: unknown) => isJsonObject(value) && Object.values(value).every(isTexts),
  'a number': (value: unknown) => typeof value === 'number',
  'true or false': (value: unknown) => typeof value === 'boolean',
  'a JWKS': (value: unknown) => isJsonObject(value) && Array.isArray(value.keys),
  '"token" or "svid_type"': (value: unknown) => value === 'token' || value === 'svid_type',
} as const

const SHAPE: Readonly<Record<keyof ExchangeSourceOptions, keyof typeof IS>> = {
  name: 'text',
  type: 'text',
  audience: 'text',
  issuer: 'text',
  jwksUri: 'text',
  jwks: 'a JWKS',
  trustDomain: 'text',
  clusterName: 'text',
  claims: 'a list of texts',
  allow: 'lists of texts by name',
  maxTtlSeconds: 'a number',
  maxTokenAgeSeconds: 'a number',
  use: '"token" or "svid_type"',
  requireBoundKey: 'true or false',
  allowAdmin: 'true or false',
  allowDownstream: 'true or false',
}

function checkSource(own: TrustDomain, options: ExchangeSourceOptions, fail: Fail): Source {
  const { name, type, audience } = options
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(name) || /^\.+$/.test(name))
    fail('a name is at most 64 letters, numbers, dots, dashes and underscores')
  const platform = Object.hasOwn(SOURCE_TYPES, type) ? SOURCE_TYPES[type]! : undefined
  if (!platform) return fail(`type ${JSON.stringify(type)} is none of ${Object.keys(SOURCE_TYPES).join(', ')}`)
  if (audience === '' || audience.includes('#')) fail('audience must be configured, and has no "#"')
  const claimSelectors = [...platform.selectors, ...configuredClaims(options, fail)].map(claimSelector)
  const issuer = issuerOf(options, platform, fail)
  return {
    name,
    type,
    parentId: spiffeId(own, `/spire/exchange/${name}`),
    audience,
    issuer,
    jwksUri: jwksUriOf(options, fail),
    jwks: options.jwks,
    trustDomain: trustDomainOf(own, options, fail),
    clusterName: clusterNameOf(options, fail),
    types: platform.types ?? ['jwt'],
    claimSelectors,
    derive: platform.derive,
    allow: allowOf(options, platform, issuer, claimSelectors, fail),
    maxTtlSeconds: seconds('max_ttl', options.maxTtlSeconds, MAX_TTL_SECONDS, fail),
    maxTokenAgeSeconds: seconds('max_token_age', options.maxTokenAgeSeconds, MAX_TOKEN_AGE_SECONDS, fail),
    use: options.use ?? 'token',
    requireBoundKey: options.requireBoundKey ?? false,
    allowAdmin: options.allowAdmin ?? false,
    allowDownstream: options.allowDownstream ?? false,
  }
}

function issuerOf(options: ExchangeSourceOptions, platform: SourceType, fail: Fail): string | undefined {
  const issuer = options.issuer ?? platform.issuer
  if (options.type === 'spiffe') {
    return issuer === undefined
      ? undefined
      : fail('issuer has no meaning for JWT-SVIDs; trust_domain says whose are taken')
  }
  if (issuer === undefined) return fail(`issuer must be configured: with ${options.type} each customer has another`)
  return isHttps(issuer) ? issuer : fail('issuer must be a https:// URL')
}

function jwksUriOf({ jwksUri, jwks, type }: ExchangeSourceOptions, fail: Fail): string | undefined {
  if (jwksUri === undefined && jwks === undefined) return undefined
  if (type === 'spiffe') fail('the keys of a trust domain are those of its bundle; jwks_uri and jwks have no meaning')
  if (jwksUri !== undefined && jwks !== undefined) fail('either jwks_uri or jwks can be configured')
  if (jwksUri !== undefined && !isHttps(jwksUri)) fail('jwks_uri must be a https:// URL')
  return jwksUri
}

function trustDomainOf(own: TrustDomain, options: ExchangeSourceOptions, fail: Fail): TrustDomain | undefined {
  if (options.type !== 'spiffe') {
    return options.trustDomain === undefined ? undefined : fail('trust_domain is for type "spiffe" alone')
  }
  if (!options.trustDomain) return fail('trust_domain must be configured')
  let trustDomain: TrustDomain
  try {
    trustDomain = parseTrustDomain(options.trustDomain)
  } catch {
    return fail(`trust_domain ${JSON.stringify(options.trustDomain)} is none`)
  }
  // One identity of the own domain would turn itself into others.
  return trustDomain === own ? fail('trust_domain must be another one than the own') : trustDomain
}

function clusterNameOf({ clusterName, type }: ExchangeSourceOptions, fail: Fail): string | undefined {
  if (type === 'k8s_psat') return clusterName || fail('cluster_name must be configured')
  return clusterName === undefined ? undefined : fail('cluster_name is for type "k8s_psat" alone')
}

function configuredClaims({ claims, type }: ExchangeSourceOptions, fail: Fail): readonly string[] {
  if (type !== 'oidc') return claims === undefined ? [] : fail('claims is for type "oidc" alone')
  if (!claims?.length) return fail('claims must name the claims that become selectors')
  const bad = claims.find((claim) => !/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(claim))
  return bad === undefined ? claims : fail(`claims: ${JSON.stringify(bad)} is not a name, or names joined by dots`)
}

/** An address that nobody confirmed is whatever its holder typed. */
function claimSelector(row: string | ClaimSelector): ClaimSelector {
  if (typeof row !== 'string') return row
  return { key: row, path: row.split('.'), ...(row === 'email' ? { verifiedBy: 'email_verified' } : {}) }
}

function allowOf(
  { allow = {}, type }: ExchangeSourceOptions,
  platform: SourceType,
  issuer: string | undefined,
  rows: readonly ClaimSelector[],
  fail: Fail,
): Readonly<Record<string, readonly string[]>> {
  const known = new Set([...rows.map(({ key }) => key), ...(platform.derived ?? [])])
  const isKnown = (key: string) =>
    known.has(key) || [...known].some((one) => one.endsWith('.*') && key.startsWith(one.slice(0, -1)))
  for (const [key, values] of Object.entries(allow)) {
    if (!isKnown(key)) fail(`allow: ${type} has no ${JSON.stringify(key)}; it has ${[...known].join(', ')}`)
    if (values.length === 0 || values.includes('')) fail(`allow.${key} must have at least one value, and no empty one`)
    const pattern = values.find((value) => value.includes('*'))
    if (pattern !== undefined)
      fail(`allow.${key}: ${JSON.stringify(pattern)} is a pattern; values are compared as they are`)
  }
  const owners = type === 'oidc' ? [...known] : platform.owners
  const isOwn = type === 'spiffe' || (issuer !== undefined && platform.ownIssuer?.test(issuer))
  if (!isOwn && !owners.some((key) => Object.hasOwn(allow, key))) {
    // Whoever the issuer has a token for could apply.
    fail(`allow must name whose tokens are taken: ${owners.join(' or ')}`)
  }
  return allow
}

function seconds(name: string, value: number | undefined, most: number, fail: Fail): number {
  if (value === undefined) return most
  if (!Number.isInteger(value) || value < 1 || value > most) fail(`${name} must be between 1 and ${most} seconds`)
  return value
}

/** Plain HTTP is for issuers on this machine. */
function isHttps(text: string): boolean {
  const url = URL.parse(text)
  if (url?.username !== '' || url.password !== '' || url.hash !== '' || url.search !== '') return false
  return isSecureUrl(url)
}
