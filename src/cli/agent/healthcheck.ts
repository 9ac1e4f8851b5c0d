import { defineCommand } from '../command.ts'
import { boolean } from '../flags.ts'
import { requireServing } from '../health.ts'
import { agentClient, agentSocketFlags } from './workload-command.ts'

/** `healthcheck`: asks the agent's health service; exit code 1 if it is not serving. */
export const command = defineCommand({
  name: 'health',
  flags: {
    ...agentSocketFlags('socket'),
    shallow: boolean('Perform a less stringent health check'),
    verbose: boolean('Print verbose information'),
  },
  helpEnd: '',
  errorPrefix: 'Agent is unhealthy: ',
  async run(flags, { env, stdout, stderr }) {
    if (flags.verbose) stdout('Checking agent health...\n')
    const api = agentClient(flags, env)
    await requireServing(api, 'agent', (text) => {
      if (flags.verbose) stderr(text)
    })
    stdout('Agent is healthy.\n')
  },
})
