import { isConfirmed } from '../../core/confirmed-claim.ts'
import { StatusError } from '../../core/error.ts'
import type { TokenIssuer } from '../../core/exchange.ts'
import { claimedIssuer, type OidcIssuerOptions, oidcIssuer } from './issuer.ts'

/** A token that is older is refused, however long its issuer lets it live. */
const MAX_AGE_SECONDS = 24 * 3600

/** Whose OIDC tokens make an administrator. */
export interface OidcAdminOptions {
  /** `https://...`, as in `iss` to the letter. */
  readonly issuer: string
  /** Where its keys are; undefined: by discovery. */
  readonly jwksUri?: string | undefined
  readonly audience: string
  /** Each must be in the token, with one of the values; a claim that is a list must hold one of them. At least one. */
  readonly claims: Readonly<Record<string, readonly string[]>>
}

/**
 * Maps OIDC tokens to administrators. The function that comes back names the one whose token it got, by issuer and subject.
 * @throws StatusError UNAUTHENTICATED for a token that is not good, PERMISSION_DENIED for one of somebody else
 */
export function oidcAdmins(
  admins: readonly OidcAdminOptions[],
  parts: Pick<OidcIssuerOptions, 'verify' | 'clock' | 'log' | 'fetch'>,
): (token: string) => Promise<string> {
  const known = admins.map(({ issuer, jwksUri, ...rest }) => ({
    ...rest,
    issuer: oidcIssuer({ issuer, ...(jwksUri === undefined ? {} : { jwksUri }), ...parts }),
  }))
  return adminsOf(known, claimedIssuer)
}

/** The same with issuers that are there already. @param issuerOf reads the claimed issuer of a token */
export function adminsOf(
  admins: readonly (Omit<OidcAdminOptions, 'issuer'> & { readonly issuer: TokenIssuer })[],
  issuerOf: (token: string) => string | undefined,
): (token: string) => Promise<string> {
  return async (token) => {
    const claimed = issuerOf(token)
    const candidates = admins.filter(({ issuer }) => issuer.issuer === claimed)
    if (candidates.length === 0) {
      throw new StatusError('UNAUTHENTICATED', 'the token is malformed or of an issuer that is not known')
    }
    let refusal: unknown
    for (const { issuer, audience, claims } of candidates) {
      try {
        const verified = await issuer.verify(token, { audiences: [audience], maxAgeSeconds: MAX_AGE_SECONDS })
        // Whoever else it is for has seen it, and could come with it. OpenID Connect Core 3.1.3.7
        if (verified.audiences.some((name) => name !== audience))
          throw new StatusError('UNAUTHENTICATED', 'the token is for other audiences, too')
        if (hasAll(verified.claims, claims)) return `${issuer.issuer} ${verified.subject}`
        refusal = new StatusError('PERMISSION_DENIED', 'the token does not make its holder an administrator')
      } catch (error) {
        refusal ??= error
      }
    }
    throw refusal
  }
}

function hasAll(claims: Readonly<Record<string, unknown>>, wanted: OidcAdminOptions['claims']): boolean {
  return Object.entries(wanted).every(([name, values]) => {
    // An address that was never confirmed is whatever its holder typed.
    if (name === 'email' && isConfirmed(claims, 'email_verified') === false) return false
    const value = Object.hasOwn(claims, name) ? claims[name] : undefined
    const held: readonly unknown[] = Array.isArray(value) ? value : [value]
    return held.some((one) => typeof one === 'string' && values.includes(one))
  })
}
