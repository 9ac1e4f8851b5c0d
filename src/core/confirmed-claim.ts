/**
 * What a token says of a claim that its issuer may have confirmed, as `email_verified` does of `email`. Some issuers write the truth value
 * as text, or leave out what is false: only `true` itself confirms.
 * @returns undefined if it says nothing
 */
export function isConfirmed(claims: Readonly<Record<string, unknown>>, by: string): boolean | undefined {
  return Object.hasOwn(claims, by) ? claims[by] === true : undefined
}
