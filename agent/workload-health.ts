import { HealthCheckRequest, HealthCheckResponse, HealthCheckResponse_ServingStatus } from '../proto/grpc/health/v1.ts'
import { StatusError } from '../src/core/error.ts'
import { type Method, serverStream, unary } from '../src/rpc/method.ts'
import type { WorkloadApi } from './workload-api.ts'

/** `grpc.health.v1.Health` of the public socket: serving once workloads can be served. */
export const WORKLOAD_HEALTH: readonly Method<WorkloadApi>[] = [
  unary<WorkloadApi, HealthCheckRequest, HealthCheckResponse>({
    path: '/grpc.health.v1.Health/Check',
    request: HealthCheckRequest,
    response: HealthCheckResponse,
    async handle(api, request) {
      if (request.service !== '') throw new StatusError('INVALID_ARGUMENT', 'per-service health is not supported')
      const serving = api.cache.bundle(api.trustDomain) !== undefined
      const { SERVING, NOT_SERVING } = HealthCheckResponse_ServingStatus
      return { status: serving ? SERVING : NOT_SERVING }
    },
  }),
  serverStream<WorkloadApi, HealthCheckRequest, HealthCheckResponse>({
    path: '/grpc.health.v1.Health/Watch',
    request: HealthCheckRequest,
    response: HealthCheckResponse,
    // biome-ignore lint/correctness/useYield: a stream that refuses has nothing to yield.
    async *handle() {
      throw new StatusError('UNIMPLEMENTED', 'method Watch not implemented')
    },
  }),
]
