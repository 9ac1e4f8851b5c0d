import { fromBase64Url } from '../../core/base64.ts'

/** The moment in the token's claims; undefined if the server sent something else than a token with one. */
export function expiryOf(token: string): number | undefined {
  try {
    const claims: unknown = JSON.parse(new TextDecoder().decode(fromBase64Url(token.split('.')[1] ?? '')))
    const expiry = (claims as { exp?: unknown } | null)?.exp
    return typeof expiry === 'number' && Number.isSafeInteger(expiry) ? expiry : undefined
  } catch {
    return undefined
  }
}
