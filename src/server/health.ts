import type { HealthCheckRequest, HealthCheckResponse } from '../../proto/grpc/health/v1.ts'
import { HealthCheckResponse_ServingStatus as Serving } from '../../proto/grpc/health/v1.ts'
import { errorMessage } from '../core/error.ts'
import { failure } from '../rpc/failure.ts'
import type { Call } from '../rpc/method.ts'
import type { ServerDeps } from './deps.ts'

/** SERVING as soon as the bundle of the trust domain can be had. */
export async function check(deps: ServerDeps, request: HealthCheckRequest, call: Call): Promise<HealthCheckResponse> {
  if (request.service !== '') throw failure(call.log, 'INVALID_ARGUMENT', 'per-service health is not supported')
  let healthy = false
  try {
    healthy = (await deps.bundle.get()) !== undefined
    if (!healthy) call.log.warn('Health check failed', { reason: 'bundle is missing' })
  } catch (error) {
    call.log.warn('Health check failed', { reason: 'unable to fetch bundle', error: errorMessage(error) })
  }
  call.audit({})
  return { status: healthy ? Serving.SERVING : Serving.NOT_SERVING }
}
