import type { EpochSeconds } from './clock.ts'

/** A source of tokens that are exchanged for SVIDs, as it is configured. */
export interface ExchangeSourceOptions {
  /** One segment of a SPIFFE ID's path: entries for it hang below `spiffe://<trust domain>/spire/exchange/<name>`. */
  readonly name: string
  /** `github_actions`, `gitlab_ci`, `k8s_psat`, `spiffe`, `aws`, `google`, `azure`, `fly`, `vercel`, `deno_deploy` or `oidc`. */
  readonly type: string
  /** The audience that tokens must be for, or that and `#` and the RFC 7638 thumbprint of the key they are bound to. */
  readonly audience: string
  /** As in the tokens' `iss`, to the letter. Default the platform's, where it has only one. */
  readonly issuer?: string | undefined
  /** Where the issuer's keys are; default by discovery. */
  readonly jwksUri?: string | undefined
  /** The issuer's keys themselves, for issuers that cannot be reached. */
  readonly jwks?: { readonly keys: readonly unknown[] } | undefined
  /** Type `spiffe`: the trust domain whose JWT-SVIDs are taken. Its bundle must be known here. */
  readonly trustDomain?: string | undefined
  /** Type `k8s_psat`: what the cluster is called in selectors. */
  readonly clusterName?: string | undefined
  /** Type `oidc`: claims that become selectors; `a.b` is the member `b` of the claim `a`. */
  readonly claims?: readonly string[] | undefined
  /** Selector keys with the values that tokens may have; each must be met. */
  readonly allow?: Readonly<Record<string, readonly string[]>> | undefined
  /** How long SVIDs may live; default and most an hour. */
  readonly maxTtlSeconds?: number | undefined
  /** How long ago tokens may have been issued; default and most 15 minutes. */
  readonly maxTokenAgeSeconds?: number | undefined
  /** A token is good for one SVID (default), or for one of each type. */
  readonly use?: 'token' | 'svid_type' | undefined
  /** Only tokens that are bound to a key are taken; default false. */
  readonly requireBoundKey?: boolean | undefined
  /** Entries, and SPIFFE IDs, of administrators may be issued; default false. */
  readonly allowAdmin?: boolean | undefined
  /** Entries, and SPIFFE IDs, of servers below may be issued; default false. */
  readonly allowDownstream?: boolean | undefined
}

/** What a token must be beside being its issuer's. */
export interface TokenTerms {
  /** One of them must be among the token's audiences. */
  readonly audiences: readonly string[]
  /** Tokens issued longer ago are refused, whatever their `exp` says. Seconds; default: `exp` alone counts. */
  readonly maxAgeSeconds?: number
  /** Values of the header's `typ` that are taken, lower case; default `jwt` and none at all. */
  readonly types?: readonly string[]
}

export interface VerifiedToken {
  readonly claims: Readonly<Record<string, unknown>>
  readonly subject: string
  readonly audiences: readonly string[]
  readonly expiresAt: EpochSeconds
  /** What verified it, SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array
}

/** Verifies the tokens of one issuer. */
export interface TokenIssuer {
  readonly issuer: string
  /**
   * @throws StatusError UNAUTHENTICATED for a token that is not good, UNAVAILABLE while the issuer's keys cannot be had. Neither holds
   *   anything of the token but its key id
   */
  verify(token: string, terms: TokenTerms): Promise<VerifiedToken>
}
