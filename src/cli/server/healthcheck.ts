import { ERROR_PREFIX } from '../api-command.ts'
import { explained } from '../client.ts'
import { defineCommand } from '../command.ts'
import { boolean } from '../flags.ts'
import { requireServing } from '../health.ts'
import { SERVER_FLAGS, serverClient } from './server-client.ts'

/** `healthcheck`: asks the server's health service; exit code 1 if it is not serving. */
export const command = defineCommand({
  name: 'healthcheck',
  flags: {
    ...SERVER_FLAGS,
    shallow: boolean('Perform a less stringent health check'),
    verbose: boolean('Print verbose information'),
  },
  errorPrefix: ERROR_PREFIX,
  async run(flags, { env, stdout, stderr }) {
    const api = serverClient(flags, env)
    if (flags.verbose) stdout('Checking server health...\n')
    const check = requireServing(api, 'server', (text) => {
      if (flags.verbose) stderr(text)
    })
    await explained('server is unhealthy', check)
    stdout('Server is healthy.\n')
  },
})
