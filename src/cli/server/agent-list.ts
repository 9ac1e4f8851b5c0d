import type { Agent } from '../../../proto/spire/api/types.ts'
import { serverCommand } from '../api-command.ts'
import { counted } from '../output.ts'
import { agentBlock } from './agent-block.ts'
import { AGENT_FILTER_FLAGS, agentFilter } from './agent-flags.ts'
import { agents } from './agent-methods.ts'

const PAGE_SIZE = 1000

/** `agent list`: all attested agents that pass the filters. */
export const command = serverCommand({
  name: 'agent list',
  flags: AGENT_FILTER_FLAGS,
  async run(flags, { api, print, stdout, env }) {
    const filter = agentFilter(flags)
    const found: Agent[] = []
    let pageToken = ''
    do {
      const page = await api.call(agents.list, { filter, outputMask: undefined, pageSize: PAGE_SIZE, pageToken })
      for (const agent of page.agents) found.push(agent)
      pageToken = page.nextPageToken
    } while (pageToken !== '')
    print({ agents: found, nextPageToken: '' }, () => {
      if (found.length === 0) stdout('No attested agents found\n')
      else {
        const blocks = found.map((agent) => agentBlock(agent, env)).join('')
        stdout(`Found ${counted(found.length, 'attested agent', 'attested agents')}:\n\n${blocks}`)
      }
    })
  },
})
