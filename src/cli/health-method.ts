import { HealthCheckRequest, HealthCheckResponse } from '../../proto/grpc/health/v1.ts'

/** The health check of gRPC, which server and agent answer. */
export const HEALTH_CHECK = {
  path: '/grpc.health.v1.Health/Check',
  request: HealthCheckRequest,
  response: HealthCheckResponse,
}
