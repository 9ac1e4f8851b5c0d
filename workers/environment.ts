import type { ExchangeSourceOptions } from '../src/core/exchange.ts'
import { isJsonObject } from '../src/core/json-object.ts'
import type { LogLevel } from '../src/core/log.ts'
import type { WrappingKey } from '../src/plugins/keymanager/database/edge.ts'
import { x509pop } from '../src/plugins/nodeattestor/x509pop/edge.ts'
import type { OidcAdminOptions } from '../src/plugins/oidc/admins.ts'
import { consoleLog } from './console-log.ts'
import type { TurretOptions } from './options.ts'

/** Settings as variables: of a Worker, a function, a process. Lists are separated by white space or commas. */
export interface Environment {
  /** `example.org` */
  readonly TRUST_DOMAIN?: string
  /** The URLs that agents and operators use. */
  readonly AUDIENCES?: string
  /** Secret. A key-encryption key, 32 bytes in hex or base64; while it is replaced `2:<new> 1:<old>`. */
  readonly KEK?: string
  /** `https://...`, for OIDC discovery and the `iss` of tokens. */
  readonly ISSUER?: string
  /** SPIFFE IDs that may administrate. */
  readonly ADMIN_IDS?: string
  /** RFC 7638 thumbprints of operator keys; `turret-server operator keygen` makes one. */
  readonly OPERATOR_KEYS?: string
  /** JSON: `[{ "issuer", "audience", "claims": { "<claim>": ["<value>"] } }]`. Whose OIDC tokens make an administrator. */
  readonly OIDC_ADMINS?: string
  /** JSON: `[{ "name", "type", "audience", "allow": { "<key>": ["<value>"] } }]` and what else docs/agentless.md names. Whose tokens are exchanged. */
  readonly EXCHANGE?: string
  /** PEM: nodes attest with certificates that lead to these CAs. `spiffe`: with SVIDs of this trust domain. */
  readonly X509POP_CA_BUNDLE?: string
  /** Seconds; default a day. */
  readonly CA_TTL?: string
  /** `debug`, `info`, `warning` or `error`; default info. */
  readonly LOG_LEVEL?: string
  /** `off`: no limits of calls per address. */
  readonly RATE_LIMITS?: string
}

/** Options from variables, without the store. @throws Error that names the variable */
export function optionsFrom(env: Environment): Omit<TurretOptions, 'store'> {
  const { ISSUER, X509POP_CA_BUNDLE: nodes, CA_TTL } = env
  return {
    trustDomain: required(env, 'TRUST_DOMAIN'),
    audiences: words(required(env, 'AUDIENCES')),
    keys: wrappingKeys(required(env, 'KEK')),
    adminIds: words(env.ADMIN_IDS),
    operatorKeys: words(env.OPERATOR_KEYS),
    ...(env.OIDC_ADMINS ? { oidcAdmins: oidcAdminsOf(env.OIDC_ADMINS) } : {}),
    ...(env.EXCHANGE ? { exchange: sourcesOf(env.EXCHANGE) } : {}),
    nodeAttestors: nodes ? [x509pop(nodes === 'spiffe' ? {} : { caBundle: nodes })] : [],
    ...(ISSUER ? { issuer: ISSUER } : {}),
    ...(CA_TTL ? { caTtlSeconds: Number(CA_TTL) } : {}),
    rateLimits: env.RATE_LIMITS !== 'off',
    log: consoleLog((env.LOG_LEVEL || 'info') as LogLevel),
  }
}

/** `2:<key> 1:<key>`, newest first; a key alone is version 1. */
function wrappingKeys(text: string): readonly WrappingKey[] {
  return words(text).map((word) => {
    const [version, key] = word.includes(':') ? word.split(':', 2) : ['1', word]
    return { version: version!, key: key! }
  })
}

function oidcAdminsOf(text: string): readonly OidcAdminOptions[] {
  const isText = (value: unknown) => typeof value === 'string' && value !== ''
  const isTexts = (values: unknown) => Array.isArray(values) && values.length > 0 && values.every(isText)
  const isAdmin = ({ issuer, audience, claims }: Partial<OidcAdminOptions>) =>
    isText(issuer) && isText(audience) && isJsonObject(claims) && Object.values(claims).every(isTexts)
  const example = '[{ "issuer": "https://...", "audience": "...", "claims": { "email": ["..."] } }]'
  return objectsIn(text, isAdmin, `OIDC_ADMINS must be JSON: ${example}`) as readonly OidcAdminOptions[]
}

/** What the sources mean is checked by the server, which names the source and the option. */
function sourcesOf(text: string): readonly ExchangeSourceOptions[] {
  const example = '[{ "name": "...", "type": "...", "audience": "...", "allow": { } }]'
  return objectsIn(text, () => true, `EXCHANGE must be JSON: ${example}`) as readonly ExchangeSourceOptions[]
}

/** @throws Error with the complaint */
function objectsIn(text: string, isOne: (value: object) => boolean, complaint: string): readonly object[] {
  let values: unknown
  try {
    values = JSON.parse(text)
  } catch {
    // Said below.
  }
  if (!Array.isArray(values) || !values.every((value) => isJsonObject(value) && isOne(value)))
    throw new Error(complaint)
  return values
}

function required(env: Environment, name: 'TRUST_DOMAIN' | 'AUDIENCES' | 'KEK'): string {
  const value = env[name]
  if (!value) throw new Error(`${name} must be set`)
  return value
}

function words(text: string | undefined): readonly string[] {
  return (text ?? '').split(/[\s,]+/).filter((word) => word !== '')
}
