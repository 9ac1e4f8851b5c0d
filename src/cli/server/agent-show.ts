import { serverCommand } from '../api-command.ts'
import { text } from '../flags.ts'
import { agentBlock } from './agent-block.ts'
import { requiredAgentId } from './agent-flags.ts'
import { agents } from './agent-methods.ts'

/** `agent show`: one agent and its selectors. */
export const command = serverCommand({
  name: 'agent show',
  flags: { spiffeID: text('The SPIFFE ID of the agent to show (agent identity)') },
  async run(flags, { api, print, stdout, env }) {
    const id = requiredAgentId(flags.spiffeID)
    print(await api.call(agents.get, { id, outputMask: undefined }), (agent) => {
      const selectors = agent.selectors.map(({ type, value }) => `Selectors         : ${type}:${value}\n`).join('')
      stdout(`Found an attested agent given its SPIFFE ID\n\n${agentBlock(agent, env)}${selectors}`)
    })
  },
})
