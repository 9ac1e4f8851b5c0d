import { serverCommand } from '../api-command.ts'
import { text } from '../flags.ts'
import { requiredAgentId } from './agent-flags.ts'
import { agents } from './agent-methods.ts'

/** `agent evict`: removes an agent; it may attest again. */
export const command = serverCommand({
  name: 'agent evict',
  flags: { spiffeID: text('The SPIFFE ID of the agent to evict (agent identity)') },
  async run(flags, { api, print, stdout }) {
    const id = requiredAgentId(flags.spiffeID)
    print(await api.call(agents.delete, { id }), () => stdout('Agent evicted successfully\n'))
  },
})
