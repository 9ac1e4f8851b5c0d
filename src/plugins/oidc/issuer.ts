import type { JwtAuthority } from '../../core/bundle.ts'
import { type Clock, epochSeconds } from '../../core/clock.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { TokenIssuer } from '../../core/exchange.ts'
import { spkiOfJwk } from '../../core/jwk.ts'
import { fitsJws, type ParsedJws, parseJwt, verifiesJwt } from '../../core/jwt-svid.ts'
import type { Log } from '../../core/log.ts'
import { parsePublicKey, type VerifySignature } from '../../core/public-key.ts'
import { fetchJson } from './fetch-json.ts'

export interface OidcIssuerOptions {
  /** As in `iss` of its tokens, to the letter. */
  readonly issuer: string
  /** Where its keys are, for issuers without discovery. */
  readonly jwksUri?: string
  /** Its keys themselves, for issuers that cannot be reached. */
  readonly jwks?: { readonly keys: readonly unknown[] }
  readonly verify: VerifySignature
  readonly clock: Clock
  /** Told where keys were looked for and what went wrong: whoever sends a token may be anybody. */
  readonly log: Log
  /** Default the runtime's own. */
  readonly fetch?: typeof fetch
}

const MAX_TOKEN_LENGTH = 16 * 1024
const MAX_KEYS = 100
const LEEWAY_SECONDS = 30
/** Keys are looked at anew after this long, */
const FRESH_MS = 10 * 60_000
/** and are still good for this long if that fails. */
const STALE_MS = 24 * 3600_000
/** A key that is not known makes us look at most this often: made-up ones cost the issuer nothing. */
const COOL_DOWN_MS = 60_000

/** A key of an issuer, and the one algorithm that it is for if the issuer says so. */
interface IssuerKey {
  readonly authority: JwtAuthority
  readonly algorithm: string | undefined
}

interface KeySet {
  readonly keys: ReadonlyMap<string, IssuerKey>
  readonly fetchedAtMs: number
}

/**
 * Trusts one issuer. Discovery and keys come over HTTPS (plain HTTP only from this machine), without redirects, with limits on size, time and
 * how often; algorithms are those of SPIFFE, so neither `none` nor HMAC; a key only works with its own algorithm.
 *
 * @see OpenID Connect Discovery 1.0 4, RFC 8725
 */
export function oidcIssuer(options: OidcIssuerOptions): TokenIssuer {
  const { issuer, verify, clock, log } = options
  const send = options.fetch ?? fetch
  let known: KeySet | undefined = options.jwks && {
    keys: readKeys(options.jwks),
    fetchedAtMs: Number.POSITIVE_INFINITY,
  }
  let lookedAtMs = Number.NEGATIVE_INFINITY
  let looking: Promise<KeySet> | undefined

  async function fetchKeys(): Promise<KeySet> {
    const uri = options.jwksUri ?? (await discover(issuer, send))
    return { keys: readKeys(await fetchJson(uri, 'the keys of the issuer', send)), fetchedAtMs: clock.nowMs() }
  }

  /** One look for all who wait. */
  function look(): Promise<KeySet> {
    looking ??= fetchKeys()
      .then((found) => {
        known = found
        return found
      })
      .catch((error) => {
        log.error('Could not fetch the keys of an issuer', { issuer, error: errorMessage(error) })
        throw new StatusError('UNAVAILABLE', `the keys of the issuer ${JSON.stringify(issuer)} could not be fetched`)
      })
      .finally(() => {
        lookedAtMs = clock.nowMs()
        looking = undefined
      })
    return looking
  }

  async function keyOf(keyId: string): Promise<IssuerKey | undefined> {
    const nowMs = clock.nowMs()
    const mayLook = nowMs - lookedAtMs >= COOL_DOWN_MS
    const age = known ? nowMs - known.fetchedAtMs : Number.POSITIVE_INFINITY
    const isKnown = known?.keys.has(keyId) ?? false
    if (options.jwks || (isKnown && age < FRESH_MS) || (known && !isKnown && !mayLook)) return known?.keys.get(keyId)
    if (looking === undefined && !mayLook) {
      if (known && age < STALE_MS) return known.keys.get(keyId)
      throw new StatusError('UNAVAILABLE', `the keys of the issuer ${JSON.stringify(issuer)} could not be fetched`)
    }
    try {
      return (await look()).keys.get(keyId)
    } catch (error) {
      if (known && age < STALE_MS) return known.keys.get(keyId)
      throw error
    }
  }

  return {
    issuer,
    async verify(token, { audiences, maxAgeSeconds, types = ['jwt'] }) {
      if (token.length > MAX_TOKEN_LENGTH) throw refused('the token is too long')
      const parsed = parse(token)
      const { iss, sub, exp, nbf, iat } = parsed.claims
      // The issuer first: a key is fetched for nobody else's tokens.
      if (iss !== issuer) throw refused('the token is of another issuer')
      if (parsed.type !== undefined && !types.includes(parsed.type.toLowerCase())) {
        throw refused('the token is of another type')
      }
      const now = epochSeconds(clock)
      if (typeof exp !== 'number' || !Number.isFinite(exp)) throw refused('the token has no end')
      if (exp + LEEWAY_SECONDS <= now) throw refused('the token has expired')
      if (nbf !== undefined && !(typeof nbf === 'number' && nbf - LEEWAY_SECONDS <= now)) {
        throw refused('the token is not valid yet')
      }
      if (typeof iat !== 'number' || !Number.isFinite(iat)) throw refused('the token does not say when it was issued')
      if (iat - LEEWAY_SECONDS > now) throw refused('the token was issued in the future')
      if (maxAgeSeconds !== undefined && iat + maxAgeSeconds + LEEWAY_SECONDS < now)
        throw refused('the token is too old')
      const named = audiencesOf(parsed.claims.aud)
      if (!named.some((name) => audiences.includes(name))) throw refused('the token is for another audience')
      if (typeof sub !== 'string' || sub === '' || sub.length > 1024) throw refused('the token has no subject')
      const key = await keyOf(parsed.keyId)
      if (!key) throw refused(`the issuer has no key ${JSON.stringify(parsed.keyId.slice(0, 128))}`)
      if (!(await isSignedBy(parsed, key, verify))) throw refused('the signature of the token does not verify')
      const { publicKey } = key.authority
      return { claims: parsed.claims, subject: sub, audiences: named, expiresAt: Math.floor(exp), publicKey }
    },
  }
}

/** The `iss` of a token, to choose who verifies it; nothing is checked. */
export function claimedIssuer(token: string): string | undefined {
  if (token.length > MAX_TOKEN_LENGTH) return undefined
  try {
    const { iss } = parseJwt(token).claims
    return typeof iss === 'string' ? iss : undefined
  } catch {
    return undefined
  }
}

async function discover(issuer: string, send: typeof fetch): Promise<string> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
  const document = (await fetchJson(url, 'the discovery document of the issuer', send)) as Record<string, unknown>
  if (document.issuer !== issuer) throw new Error('the discovery document is of another issuer')
  if (typeof document.jwks_uri !== 'string') throw new Error('the discovery document has no jwks_uri')
  // What listens on this machine is nothing that an issuer elsewhere may send us to.
  if (!document.jwks_uri.startsWith('https:') && issuer.startsWith('https:'))
    throw new Error('the jwks_uri of the issuer must be fetched over https://')
  return document.jwks_uri
}

/** Whether a token is signed by a key of an issuer, with the algorithm that the key is for. RFC 7517 4.4 */
export async function isSignedBy(jws: ParsedJws, key: IssuerKey, verify: VerifySignature): Promise<boolean> {
  if (key.algorithm !== undefined && key.algorithm !== jws.algorithm) return false
  return verifiesJwt(jws, key.authority, verify)
}

/** Keys of a JWKS by name. Those that cannot verify anything here, and all but the first of a name, are left out. */
export function readKeys(document: unknown): ReadonlyMap<string, IssuerKey> {
  const list = (document as { keys?: unknown } | null)?.keys
  if (!Array.isArray(list)) throw new Error('the keys of the issuer are no JWKS')
  if (list.length > MAX_KEYS) throw new Error(`the issuer has more than ${MAX_KEYS} keys`)
  const keys = new Map<string, IssuerKey>()
  for (const jwk of list) {
    if (typeof jwk !== 'object' || jwk === null) continue
    const { kid, use, alg, key_ops: operations } = jwk as Readonly<Record<string, unknown>>
    if (typeof kid !== 'string' || kid === '' || keys.has(kid) || (use !== undefined && use !== 'sig')) continue
    if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) continue
    try {
      const publicKey = spkiOfJwk(jwk as Readonly<Record<string, unknown>>)
      const algorithm = typeof alg === 'string' ? alg : undefined
      if (algorithm !== undefined && !fitsJws(parsePublicKey(publicKey), algorithm)) continue
      keys.set(kid, { authority: { keyId: kid, publicKey, expiresAt: 0, tainted: false }, algorithm })
    } catch {
      // Of a type that we have no use for.
    }
  }
  return keys
}

function parse(token: string) {
  try {
    return parseJwt(token)
  } catch {
    throw refused('the token is malformed')
  }
}

function audiencesOf(aud: unknown): readonly string[] {
  if (typeof aud === 'string') return [aud]
  return Array.isArray(aud) && aud.every((name) => typeof name === 'string') ? aud : []
}

function refused(message: string): StatusError {
  return new StatusError('UNAUTHENTICATED', message)
}
