import type { Agent } from '../../../proto/spire/api/types.ts'
import { idText } from '../output.ts'
import { localTimeText } from '../time.ts'

/** An attested agent for reading: a line a value, an empty line at the end. Times are in the zone of `env`. */
export function agentBlock(agent: Agent, env: Readonly<Record<string, string | undefined>>): string {
  const lines = [
    `SPIFFE ID         : ${idText(agent.id)}`,
    `Attestation type  : ${agent.attestationType}`,
    `Expiration time   : ${localTimeText(agent.x509svidExpiresAt, env)}`,
    // A banned agent has no serial number.
    agent.banned ? 'Banned            : true' : `Serial number     : ${agent.x509svidSerialNumber}`,
    `Can re-attest     : ${agent.canReattest}`,
  ]
  if (agent.agentVersion !== '') lines.push(`Agent version     : ${agent.agentVersion}`)
  return `${lines.join('\n')}\n\n`
}
