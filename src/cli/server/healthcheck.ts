import * as health from '../../../proto/grpc/health/v1.ts'
import { apiClient } from '../client.ts'
import { defineCommand } from '../command.ts'
import { CommandError } from '../failure.ts'
import { boolean } from '../flags.ts'
import { HEALTH_CHECK } from '../health-method.ts'
import { absoluteTarget, SERVER_SOCKET, socketPath } from '../socket.ts'
import { ERROR_PREFIX, SOCKET_FLAGS } from './server-command.ts'

/** `healthcheck`: asks the server's health service; exit code 1 if it is not serving. */
export const command = defineCommand({
  name: 'healthcheck',
  flags: {
    ...SOCKET_FLAGS,
    shallow: boolean('Perform a less stringent health check'),
    verbose: boolean('Print verbose information'),
  },
  errorPrefix: ERROR_PREFIX,
  async run(flags, { env, stdout, stderr }) {
    const api = apiClient(absoluteTarget(socketPath(SERVER_SOCKET, flags, env)))
    if (flags.verbose) stdout('Checking server health...\n')
    let response: health.HealthCheckResponse
    try {
      response = await api.call(HEALTH_CHECK, { service: '' })
    } catch (error) {
      if (!(error instanceof CommandError)) throw error
      if (flags.verbose) stderr(`Failed to check health: ${error.message}\n`)
      throw new CommandError('server is unhealthy: unable to determine health', { cause: error })
    }
    const serving = health.HealthCheckResponse_ServingStatus.SERVING
    if (response.status !== serving) {
      throw new CommandError(`server is unhealthy: server returned status "${statusName(response.status)}"`)
    }
    stdout('Server is healthy.\n')
  },
})

function statusName(status: number): string {
  const found = Object.entries(health.HealthCheckResponse_ServingStatus).find(([, value]) => value === status)
  return found?.[0] ?? String(status)
}
