import { StatusError } from '../core/error.ts'
import { verifyX509Svid, type X509SvidInput } from '../core/path-validation.ts'
import { serverId } from '../core/spiffe-id.ts'
import type { TrustDomain } from '../core/trust-domain.ts'

/** Verifies that a chain is the server's of a trust domain. @throws StatusError */
export async function requireServer(trustDomain: TrustDomain, input: X509SvidInput): Promise<void> {
  const { spiffeId } = await verifyX509Svid(input)
  if (spiffeId !== serverId(trustDomain)) throw new StatusError('UNAUTHENTICATED', `unexpected ID "${spiffeId}"`)
}
