import { serverCommand } from '../api-command.ts'
import { CallError, explained } from '../client.ts'
import { boolean, duration } from '../flags.ts'
import { counted, goJson, idText } from '../output.ts'
import { agents } from './agent-methods.ts'

const THIRTY_DAYS_SECONDS = 30 * 24 * 3600

interface ExpiredAgent {
  readonly agent_id: string
  readonly deleted: boolean
  readonly error?: string
}

/** `agent purge`: removes the agents that could attest again and whose SVID expired long ago. Failures end with 0, too. */
export const command = serverCommand({
  name: 'agent purge',
  flags: {
    expiredFor: duration(
      "Amount of time that has passed since the agent's SVID has expired. It is used to determine which agents to purge.",
      THIRTY_DAYS_SECONDS,
    ),
    dryRun: boolean(
      'Indicates that the command will not perform any action, but will print the agents that would be purged.',
    ),
  },
  async run(flags, { api, json, stdout, now }) {
    const listed = await explained('failed to list agents', api.call(agents.list, EXPIRY_OF_REATTESTABLE))
    const expired: ExpiredAgent[] = []
    for (const { id, x509svidExpiresAt } of listed.agents) {
      if (now() / 1000 - x509svidExpiresAt <= flags.expiredFor) continue
      const agent_id = idText(id)
      if (flags.dryRun) expired.push({ agent_id, deleted: false })
      else {
        try {
          await api.call(agents.delete, { id })
          expired.push({ agent_id, deleted: true })
        } catch (error) {
          if (!(error instanceof CallError)) throw error
          expired.push({ agent_id, deleted: false, error: error.message })
        }
      }
    }
    stdout(json ? `${goJson({ expired_agents: expired })}\n` : purgeText(expired, flags.dryRun))
  },
})

/** One page: SPIRE asks for no more. */
const EXPIRY_OF_REATTESTABLE = {
  filter: {
    byAttestationType: '',
    bySelectorMatch: undefined,
    byBanned: undefined,
    byCanReattest: true,
    byExpiresBefore: '',
  },
  outputMask: {
    attestationType: false,
    x509svidSerialNumber: false,
    x509svidExpiresAt: true,
    selectors: false,
    banned: false,
    canReattest: false,
    agentVersion: false,
  },
  pageSize: 0,
  pageToken: '',
}

function purgeText(expired: readonly ExpiredAgent[], dryRun: boolean): string {
  if (expired.length === 0) return 'No agents to purge.\n'
  const head = `Found ${counted(expired.length, 'expired agent', 'expired agents')}\n\n`
  const line = ({ agent_id }: ExpiredAgent): string => `SPIFFE ID         : ${agent_id}\n`
  if (dryRun) return `${head}\nAgents that can be purged:\n${expired.map(line).join('')}`
  const purged = expired.filter((agent) => agent.deleted)
  const kept = expired.filter((agent) => !agent.deleted)
  return (
    head +
    (purged.length === 0 ? '' : `Agents purged:\n${purged.map(line).join('')}`) +
    (kept.length === 0
      ? ''
      : `Agents not purged:\n${kept.map((agent) => `${line(agent)}Error             : ${agent.error}\n`).join('')}`)
  )
}
