import { isOfThisMachine, parseIpNetwork } from '../core/ip-address.ts'
import { isSecureUrl } from '../core/secure-url.ts'
import { type DecodedObject, type Fields, merged } from './decode.ts'
import { type ExchangeSourceConfig, readExchange } from './exchange.ts'
import { ConfigError, type HclItem } from './hcl.ts'
import { HTTP_PATH, readNamed } from './named-block.ts'
import { type PlainValue, plainObject } from './plain.ts'

/** Keys of `experimental { http { } }`: the API over HTTP with signed requests, and the public documents. */
export const HTTP = {
  bind_address: 'string',
  bind_port: 'int',
  audiences: 'strings',
  issuer: 'string',
  operator_keys: 'strings',
  oidc_admins: 'any',
  exchange: 'any',
  fronts: 'any',
  plain_join_tokens: 'bool',
} as const satisfies Fields

export interface HttpOptions {
  readonly bindAddress: string
  readonly bindPort: number
  /** Names under which requests may address this server. */
  readonly audiences: readonly string[]
  /** `https://...` in the OIDC discovery document; undefined: none is served. */
  readonly issuer: string | undefined
  /** RFC 7638 thumbprints of keys whose holders are administrators. */
  readonly operatorKeys: readonly string[]
  readonly oidcAdmins: readonly OidcAdminOptions[]
  /** Whose tokens are exchanged for SVIDs. */
  readonly exchange: readonly ExchangeSourceConfig[]
  readonly fronts: readonly FrontOptions[]
  /** Agents may send a join token itself, not only proof of it. */
  readonly plainJoinTokens: boolean
}

/** `fronts "<name>" { }`: whose word on the certificates of clients is taken. */
export interface FrontOptions {
  readonly name: string
  readonly carrier: (typeof CARRIERS)[number]
  /** At least one of `secret` and `addresses` is there. */
  readonly secret: string | undefined
  readonly secretHeader: string | undefined
  readonly addresses: readonly string[] | undefined
  readonly addressHeader: string | undefined
}

/** `oidc_admins "<name>" { }`: whose OIDC tokens make an administrator. */
export interface OidcAdminOptions {
  readonly name: string
  readonly issuer: string
  /** undefined: by discovery. */
  readonly jwksUri: string | undefined
  readonly audience: string
  /** At least one; each must have one of the values. */
  readonly claims: Readonly<Record<string, readonly string[]>>
}

const ADMIN = {
  issuer: 'string',
  jwks_uri: 'string',
  audience: 'string',
  claims: 'any',
} as const satisfies Fields

const CARRIERS = ['rfc9440', 'aws_alb_passthrough', 'aws_alb_verify', 'cloudflare', 'none'] as const
const FRONT = {
  carrier: 'string',
  secret: 'string',
  secret_header: 'string',
  addresses: 'strings',
  address_header: 'string',
} as const satisfies Fields

/** @throws ConfigError */
export function readHttp(fields: DecodedObject<typeof HTTP>, jwtIssuer: string | undefined): HttpOptions {
  if (!fields.bind_port) throw new ConfigError('experimental.http.bind_port must be configured')
  if (!fields.audiences?.length)
    throw new ConfigError('experimental.http.audiences must name the URLs that clients know this server by')
  for (const key of fields.operator_keys ?? []) {
    if (!/^[A-Za-z0-9_-]{43}$/.test(key)) {
      throw new ConfigError(
        `experimental.http.operator_keys: ${JSON.stringify(key)} is no thumbprint; "turret-server operator keygen" prints one`,
      )
    }
  }
  return {
    bindAddress: fields.bind_address || '127.0.0.1',
    bindPort: fields.bind_port,
    audiences: fields.audiences,
    issuer: fields.issuer || jwtIssuer || undefined,
    operatorKeys: fields.operator_keys ?? [],
    oidcAdmins: fields.oidc_admins
      ? merged(fields.oidc_admins, `${HTTP_PATH}.oidc_admins`).items.map((item) => readOidcAdmin(item))
      : [],
    exchange: fields.exchange ? readExchange(fields.exchange) : [],
    fronts: fields.fronts ? merged(fields.fronts, `${HTTP_PATH}.fronts`).items.map((item) => readFront(item)) : [],
    plainJoinTokens: fields.plain_join_tokens ?? false,
  }
}

function readFront(item: HclItem): FrontOptions {
  const { name, where, fields } = readNamed(item, 'fronts', FRONT)
  const carrier = CARRIERS.find((one) => one === fields.carrier)
  if (!carrier) throw new ConfigError(`${where}: carrier must be one of ${CARRIERS.join(', ')}`)
  const { secret, addresses } = fields
  if (!secret && !addresses?.length) {
    // Anybody could say what certificate they have.
    throw new ConfigError(`${where}: secret or addresses must be configured, so that the front can be told from others`)
  }
  if (secret && (secret.length < 32 || !/^[!-~]+$/.test(secret)))
    throw new ConfigError(`${where}: secret must have at least 32 printable characters`)
  for (const text of addresses ?? []) {
    if (!parseIpNetwork(text))
      throw new ConfigError(`${where}: ${JSON.stringify(text)} is no address or network such as "10.0.0.0/8"`)
    if (!secret && fields.carrier !== 'none' && isOfThisMachine(text))
      throw new ConfigError(
        `${where}: secret must be configured, since every process of this machine has ${JSON.stringify(text)}`,
      )
  }
  for (const key of ['secret_header', 'address_header'] as const) {
    if (fields[key] && !/^[A-Za-z0-9-]+$/.test(fields[key]))
      throw new ConfigError(`${where}: ${key} must be the name of a header`)
  }
  return {
    name,
    carrier,
    secret: secret || undefined,
    secretHeader: fields.secret_header || undefined,
    addresses: addresses?.length ? addresses : undefined,
    addressHeader: fields.address_header || undefined,
  }
}

function readOidcAdmin(item: HclItem): OidcAdminOptions {
  const { name, path, where, fields } = readNamed(item, 'oidc_admins', ADMIN)
  const issuer = fields.issuer ?? ''
  if (!isIssuer(issuer)) throw new ConfigError(`${where}: issuer must be a https:// URL`)
  if (fields.jwks_uri && !isIssuer(fields.jwks_uri)) throw new ConfigError(`${where}: jwks_uri must be a https:// URL`)
  if (!fields.audience) throw new ConfigError(`${where}: audience must be configured`)
  const claims = fields.claims ? claimsOf(plainObject(merged(fields.claims, `${path}.claims`)), where) : {}
  if (Object.keys(claims).length === 0) {
    // Whoever the issuer has a token for would be an administrator.
    throw new ConfigError(`${where}: claims must name at least one claim that a token needs`)
  }
  return { name, issuer, jwksUri: fields.jwks_uri || undefined, audience: fields.audience, claims }
}

function claimsOf(block: Readonly<Record<string, PlainValue>>, where: string): Record<string, readonly string[]> {
  const claims: Record<string, readonly string[]> = {}
  for (const [name, value] of Object.entries(block)) {
    const values = Array.isArray(value) ? value : [value]
    if (values.length === 0 || !values.every((one) => typeof one === 'string' && one !== '')) {
      throw new ConfigError(`${where}: claims.${name} must be a text or a list of texts`)
    }
    claims[name] = values as string[]
  }
  return claims
}

/** Plain HTTP is for issuers on this machine. */
function isIssuer(text: string): boolean {
  const url = URL.parse(text)
  return url !== null && isSecureUrl(url)
}
