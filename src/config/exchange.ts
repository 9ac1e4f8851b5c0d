import type { ExchangeSourceOptions } from '../core/exchange.ts'
import { type DecodedObject, type Fields, merged } from './decode.ts'
import { parseDuration } from './duration.ts'
import { ConfigError, type HclItem, prefixed } from './hcl.ts'
import { HTTP_PATH, readNamed } from './named-block.ts'
import { plainObject } from './plain.ts'

/** A source as the file has it: its keys may lie in a file beside it. */
export type ExchangeSourceConfig = Omit<ExchangeSourceOptions, 'jwks'> & {
  /** File with the issuer's JWKS; undefined: the issuer is asked. */
  readonly jwksPath: string | undefined
}

const SOURCE = {
  type: 'string',
  audience: 'string',
  issuer: 'string',
  jwks_uri: 'string',
  jwks_path: 'string',
  trust_domain: 'string',
  cluster_name: 'string',
  claims: 'strings',
  allow: 'any',
  max_ttl: 'string',
  max_token_age: 'string',
  use: 'string',
  require_bound_key: 'bool',
  allow_admin: 'bool',
  allow_downstream: 'bool',
} as const satisfies Fields

/**
 * Reads `exchange { "<name>" { } }`. What a source means is checked where it is put to use; here it is only read, but every key must be one
 * that is known: a slip in a name must not leave a source wider than it was meant to be.
 * @throws ConfigError
 */
export function readExchange(items: readonly HclItem[]): readonly ExchangeSourceConfig[] {
  return merged(items, `${HTTP_PATH}.exchange`).items.map((item) => {
    const { name, where, fields } = readNamed(item, 'exchange', SOURCE)
    return sourceOf(name, fields, where)
  })
}

function sourceOf(name: string, fields: DecodedObject<typeof SOURCE>, where: string): ExchangeSourceConfig {
  const { use } = fields
  if (use !== undefined && use !== 'token' && use !== 'svid_type')
    throw new ConfigError(`${where}: use must be "token" or "svid_type"`)
  if (fields.jwks_uri && fields.jwks_path)
    throw new ConfigError(`${where}: either jwks_uri or jwks_path can be configured`)
  return {
    name,
    type: fields.type ?? '',
    audience: fields.audience ?? '',
    issuer: fields.issuer,
    jwksUri: fields.jwks_uri,
    jwksPath: fields.jwks_path,
    trustDomain: fields.trust_domain,
    clusterName: fields.cluster_name,
    claims: fields.claims,
    allow: fields.allow && allowOf(fields.allow, where),
    maxTtlSeconds: duration(fields.max_ttl, `${where}: max_ttl`),
    maxTokenAgeSeconds: duration(fields.max_token_age, `${where}: max_token_age`),
    use,
    requireBoundKey: fields.require_bound_key,
    allowAdmin: fields.allow_admin,
    allowDownstream: fields.allow_downstream,
  }
}

function allowOf(items: readonly HclItem[], where: string): Readonly<Record<string, readonly string[]>> {
  const out: Record<string, readonly string[]> = {}
  for (const [key, value] of Object.entries(plainObject(merged(items, where)))) {
    const list = Array.isArray(value) ? value : [value]
    // A number is the id that somebody forgot to put in quotes.
    if (!list.every((one) => typeof one === 'string' || typeof one === 'number'))
      throw new ConfigError(`${where}: allow.${key} must be a text or a list of texts`)
    out[key] = list.map(String)
  }
  return out
}

function duration(text: string | undefined, where: string): number | undefined {
  return text === undefined ? undefined : prefixed(where, () => parseDuration(text))
}
