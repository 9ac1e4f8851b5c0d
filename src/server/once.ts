import { POLICY } from './authorize.ts'

const READS = /\/(Get|List|Count)[A-Z]\w*$|Health\//

/** What agents and servers below do seldom, and what a copy would do harm with: bury a renewal, bring back a key that was revoked. */
const CHANGES = /\/(AttestAgent|RenewAgent|NewDownstreamX509CA|Publish(JWT|WIT)Authority)$/

/**
 * True for methods that must not be done again by a copy of a request: attestation and renewal, what a server below publishes, and whatever
 * an administrator changes or mints. A copy of the others (signing for an agent, reports) gives what the original gave, for the same key, and
 * is not worth a write.
 */
export function isOnce(path: string): boolean {
  if (CHANGES.test(path)) return true
  const who = POLICY.get(path)
  return who !== undefined && (who.has('admin') || who.has('local')) && !READS.test(path)
}
