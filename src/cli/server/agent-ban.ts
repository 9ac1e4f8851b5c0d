import { serverCommand } from '../api-command.ts'
import { text } from '../flags.ts'
import { requiredAgentId } from './agent-flags.ts'
import { agents } from './agent-methods.ts'

/** `agent ban`: removes an agent and refuses it for good. */
export const command = serverCommand({
  name: 'agent ban',
  flags: { spiffeID: text('The SPIFFE ID of the agent to ban (agent identity)') },
  async run(flags, { api, print, stdout }) {
    const id = requiredAgentId(flags.spiffeID)
    print(await api.call(agents.ban, { id }), () => stdout('Agent banned successfully\n'))
  },
})
