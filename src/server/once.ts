import { POLICY } from './authorize.ts'

const READS = /\/(Get|List|Count)[A-Z]\w*$|Health\//

/**
 * What a copy would do harm with: bury a renewal, bring back a key that was revoked, or get whoever sends it a fresh token, which is good in
 * any hands.
 */
const CHANGES = /\/(RenewAgent|NewDownstreamX509CA|NewJWTSVID|Publish(JWT|WIT)Authority)$/

/**
 * True for methods that must not be done again by a copy of a request: renewal, what a server below publishes, tokens, and whatever an
 * administrator changes or mints. Not attestation: who may come without a signature needs no copy of one, and would only fill the store.
 * A copy of the others (certificates and WITs for an agent, reports) gives what the original
 * gave, for the same key, and is not worth a write.
 */
export function isOnce(path: string): boolean {
  if (CHANGES.test(path)) return true
  const who = POLICY.get(path)
  return who !== undefined && (who.has('admin') || who.has('local')) && !READS.test(path)
}
