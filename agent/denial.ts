import { PermissionDeniedDetails, PermissionDeniedDetails_Reason } from '../proto/spire/api/types.ts'
import { StatusError } from '../src/core/error.ts'

const TYPE_URL = 'type.googleapis.com/spire.api.types.PermissionDeniedDetails'
const MUST_REATTEST: ReadonlySet<PermissionDeniedDetails_Reason> = new Set([
  PermissionDeniedDetails_Reason.AGENT_EXPIRED,
  PermissionDeniedDetails_Reason.AGENT_NOT_ACTIVE,
  PermissionDeniedDetails_Reason.AGENT_NOT_ATTESTED,
  PermissionDeniedDetails_Reason.AGENT_MUST_REATTEST,
])

/**
 * What a refusal means for the agent as a whole: it must attest anew, it was banned, or nothing (an ordinary failure).
 * Told by the details of the status, here or in what it wraps; the code alone says nothing.
 */
export function denialOf(error: unknown): 'reattest' | 'banned' | undefined {
  for (let current = error; current instanceof StatusError; current = current.cause as unknown) {
    if (current.code !== 'PERMISSION_DENIED') continue
    const detail = current.details.find(({ typeUrl }) => typeUrl === TYPE_URL)
    if (!detail) continue
    const reason = reasonOf(detail.value)
    if (reason === PermissionDeniedDetails_Reason.AGENT_BANNED) return 'banned'
    return MUST_REATTEST.has(reason) ? 'reattest' : undefined
  }
  return undefined
}

/** Details that cannot be read say nothing. */
function reasonOf(details: Uint8Array): PermissionDeniedDetails_Reason {
  try {
    return PermissionDeniedDetails.decode(details).reason
  } catch {
    return PermissionDeniedDetails_Reason.UNKNOWN
  }
}
