import { POLICY } from './authorize.ts'

const READS = /\/(Get|List|Count)[A-Z]\w*$|Health\//

/**
 * True for methods that must not be done again by a copy of a request: attestation, and whatever an administrator changes or mints. A copy
 * of the others (renewals, signing for an agent, reports) gives what the original gave, for the same key, and is not worth a write.
 */
export function isOnce(path: string): boolean {
  if (path === '/spire.api.server.agent.v1.Agent/AttestAgent') return true
  const who = POLICY.get(path)
  return who !== undefined && (who.has('admin') || who.has('local')) && !READS.test(path)
}
