import { serverCommand } from '../api-command.ts'
import { counted } from '../output.ts'
import { AGENT_FILTER_FLAGS, agentFilter } from './agent-flags.ts'
import { agents } from './agent-methods.ts'

/** `agent count`: how many attested agents pass the filters. */
export const command = serverCommand({
  name: 'agent count',
  flags: AGENT_FILTER_FLAGS,
  async run(flags, { api, print, stdout }) {
    const response = await api.call(agents.count, { filter: agentFilter(flags) })
    print(response, ({ count }) => stdout(`${counted(count, 'attested agent', 'attested agents')}\n`))
  },
})
