import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../proto/grpc/health/v1.ts'
import { type ApiClient, CallError } from './client.ts'
import { CommandError } from './failure.ts'

/** The health check of gRPC, which server and agent answer. */
const CHECK = {
  path: '/grpc.health.v1.Health/Check',
  request: HealthCheckRequest,
  response: HealthCheckResponse,
}

/**
 * Asks for the health of a whole program.
 * @param who `server` or `agent`, for the complaint
 * @param explain gets one more line when the call itself fails
 * @throws CommandError if the answer is anything but SERVING
 */
export async function requireServing(api: ApiClient, who: string, explain: (text: string) => void): Promise<void> {
  let status: number
  try {
    status = (await api.call(CHECK, { service: '' })).status
  } catch (error) {
    if (!(error instanceof CallError)) throw error
    explain(`Failed to check health: ${error.message}\n`)
    throw new CommandError('unable to determine health', { cause: error })
  }
  if (status === ServingStatus.SERVING) return
  const name = Object.entries(ServingStatus).find(([, value]) => value === status)?.[0] ?? status
  throw new CommandError(`${who} returned status "${name}"`)
}
