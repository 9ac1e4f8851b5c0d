import { fromBase64Url } from '../../core/base64.ts'
import { rfc3339 } from '../../core/rfc3339.ts'
import type { CommandContext } from '../command.ts'

/** Says so where a token ends before it was asked to. @param ttl seconds */
export function warnOfLifetime(
  kind: 'JWT-SVID' | 'WIT-SVID',
  token: string,
  ttl: number,
  { stderr, now }: Pick<CommandContext, 'stderr' | 'now'>,
): void {
  const expiry = expiryOf(token)
  if (expiry === undefined) stderr(`Unable to determine ${kind} lifetime: no expiry claim\n`)
  else if (expiry - now() / 1000 < ttl) {
    stderr(`${kind} lifetime was capped shorter than specified ttl; expires "${rfc3339(expiry)}"\n`)
  }
}

/** The moment in the token's claims; undefined if the server sent something else than a token with one. */
function expiryOf(token: string): number | undefined {
  try {
    const claims: unknown = JSON.parse(new TextDecoder().decode(fromBase64Url(token.split('.')[1] ?? '')))
    const expiry = (claims as { exp?: unknown } | null)?.exp
    return typeof expiry === 'number' && Number.isSafeInteger(expiry) ? expiry : undefined
  } catch {
    return undefined
  }
}
