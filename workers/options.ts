import type { Clock } from '../src/core/clock.ts'
import type { ExchangeSourceOptions } from '../src/core/exchange.ts'
import type { KeyType } from '../src/core/key-type.ts'
import type { Log } from '../src/core/log.ts'
import type { KeyManager, NodeAttestor, UpstreamAuthority } from '../src/core/plugin.ts'
import type { VerifySignature } from '../src/core/public-key.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import type { Store } from '../src/core/store.ts'
import { parseTrustDomain, type TrustDomain } from '../src/core/trust-domain.ts'
import type { DistinguishedName } from '../src/core/x509-name.ts'
import type { WrappingKey } from '../src/plugins/keymanager/database/edge.ts'
import type { OidcAdminOptions } from '../src/plugins/oidc/admins.ts'
import type { ServerSettings } from '../src/server/server.ts'
import type { Trust } from '../src/server/trust.ts'
import { type FrontOptions, frontsOf } from '../src/transport/front.ts'

/** What a turret is told. Names mean what they mean in the configuration of `turret-server`. */
export interface TurretOptions {
  /** `example.org` */
  readonly trustDomain: string
  /** Opens the data store; called when it is first needed, and again after it failed. */
  readonly store: (log: Log) => Promise<Store>
  /**
   * The key-encryption keys under which the authorities' private keys lie in the data store, newest first. Or a key manager of your own.
   */
  readonly keys: readonly WrappingKey[] | ((host: TurretHost, store: Store) => Promise<KeyManager>)
  /** Names under which requests may address this server: the URLs that agents are configured with, and nothing taken from a request. */
  readonly audiences: readonly string[]
  /** `https://...` where this is reached: served as OIDC discovery, and the `iss` of tokens. Default: neither. */
  readonly issuer?: string
  /** Path under which it is mounted in an app of yours, such as `/identity`; default the root. */
  readonly basePath?: string
  /** SPIFFE IDs that may administrate; default nobody. */
  readonly adminIds?: readonly string[]
  /** RFC 7638 thumbprints of keys whose holders may administrate; `turret-server operator keygen` makes one. Default none. */
  readonly operatorKeys?: readonly string[]
  /** Whose OIDC tokens make an administrator; default nobody's. */
  readonly oidcAdmins?: readonly OidcAdminOptions[]
  /** Platforms whose tokens are exchanged for SVIDs; default none. */
  readonly exchange?: readonly ExchangeSourceOptions[]
  /**
   * Whose word on the certificates of clients is taken; default nobody's. On Workers `{ name, carrier: 'cloudflare' }` is the platform, which
   * needs no secret; all others need one, or addresses.
   */
  readonly fronts?: readonly FrontOptions[]
  /** Agents may send a join token itself, not only proof of it; default false. */
  readonly plainJoinTokens?: boolean
  /** Beside join tokens, which are always taken. */
  readonly nodeAttestors?: readonly ((host: TurretHost) => NodeAttestor)[]
  /** Who signs the CA; default itself. */
  readonly upstream?: (host: TurretHost) => UpstreamAuthority
  /** Default one day. */
  readonly caTtlSeconds?: number
  /** Default one hour. */
  readonly x509SvidTtlSeconds?: number
  /** Default five minutes. */
  readonly jwtSvidTtlSeconds?: number
  /** Default `x509SvidTtlSeconds`. */
  readonly agentTtlSeconds?: number
  /** Default `ec-p256`. RSA keys take long to make where CPU time is short. */
  readonly caKeyType?: KeyType
  /** Default `caKeyType`. */
  readonly jwtKeyType?: KeyType
  /** Default true. */
  readonly witSvids?: boolean
  /** Default C=US, O=SPIFFE. */
  readonly caSubject?: DistinguishedName
  /** Attested nodes that ended this long ago are forgotten; default never. */
  readonly pruneAttestedNodesExpiredForSeconds?: number
  /** A line for each call; default false. */
  readonly auditLog?: boolean
  /** Calls per second and address are limited, in each isolate by itself; default true. */
  readonly rateLimits?: boolean
  /** 32 bytes that seal unfinished attestations where `keys` is a key manager; default random, which only one process can open again. */
  readonly sealSecret?: Uint8Array
  /** Default JSON lines on the console. */
  readonly log?: Log
  /** Default the system's. */
  readonly clock?: Clock
}

/** What plugins get from the server around them. */
export interface TurretHost {
  readonly trustDomain: TrustDomain
  /** The roots of the own bundle at this moment. */
  readonly roots: () => ReturnType<Trust['roots']>
  readonly verify: VerifySignature
  readonly clock: Clock
  readonly log: Log
}

const DAY = 24 * 3600

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string' && one !== '')
}

/** Checks the options and applies the defaults. @throws Error that names the option */
export function settingsOf(options: TurretOptions): ServerSettings {
  const { audiences, issuer, basePath = '', x509SvidTtlSeconds = 3600, caKeyType = 'ec-p256' } = options
  // Of a text, too, a part would be "included".
  if (!isTexts(audiences)) throw new Error('audiences must name the URLs that clients know this server by')
  if (issuer !== undefined && !/^https?:\/\/[^/]+(\/.*[^/])?$/.test(issuer))
    throw new Error('issuer must be an https:// URL that does not end in a slash')
  if (basePath !== '' && !/^(\/[A-Za-z0-9._~-]+)+$/.test(basePath))
    throw new Error('basePath must be a path like "/identity"')
  for (const key of options.operatorKeys ?? []) {
    if (!/^[A-Za-z0-9_-]{43}$/.test(key)) throw new Error(`operatorKeys: ${JSON.stringify(key)} is no thumbprint`)
  }
  for (const { claims } of options.oidcAdmins ?? []) {
    const values = Object.values(claims)
    if (values.length === 0 || !values.every(isTexts))
      throw new Error('oidcAdmins: claims must name at least one claim, each with a list of values')
  }
  frontsOf(options.fronts ?? [])
  for (const [name, value] of Object.entries(options)) {
    if (/Seconds$/.test(name) && value !== undefined && !(Number.isInteger(value) && value > 0))
      throw new Error(`${name} must be a whole number of seconds above 0`)
  }
  return {
    trustDomain: parseTrustDomain(options.trustDomain),
    adminIds: (options.adminIds ?? []).map(parseSpiffeId),
    caTtlSeconds: options.caTtlSeconds ?? DAY,
    x509SvidTtlSeconds,
    jwtSvidTtlSeconds: options.jwtSvidTtlSeconds ?? 300,
    agentTtlSeconds: options.agentTtlSeconds ?? x509SvidTtlSeconds,
    caKeyType,
    jwtKeyType: options.jwtKeyType ?? caKeyType,
    witKeyType: (options.witSvids ?? true) ? 'ec-p256' : undefined,
    caSubject: options.caSubject ?? { country: ['US'], organization: ['SPIFFE'] },
    jwtIssuer: issuer,
    // None: WIT-SVID 3.7 wants no `iss` under which OIDC relying parties would find keys and take the token for a bearer's.
    witIssuer: undefined,
    disableJwtSvids: false,
    auditLogEnabled: options.auditLog ?? false,
    rateLimitAttestation: options.rateLimits ?? true,
    rateLimitSigning: options.rateLimits ?? true,
    agentSpiffeIdAsSelector: false,
    pruneAttestedNodesExpiredForSeconds: options.pruneAttestedNodesExpiredForSeconds,
    pruneAttestedNodesBatchSize: 500,
    pruneTofuNodes: false,
  }
}
