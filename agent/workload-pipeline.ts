import { StatusError } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import type { Pipeline, Verdict } from '../src/rpc/invoke.ts'
import type { WorkloadApi } from './workload-api.ts'

const HEADER = 'workload.spiffe.io'
const LOCAL: Verdict = { caller: { kind: 'local' }, as: 'workload', via: 'transport' }

/**
 * The pipeline of the public socket: anybody on this machine may call, but Workload API calls must carry the security header, which
 * browsers and proxies cannot be tricked into sending.
 * @see SPIFFE Workload Endpoint 5
 */
export function workloadPipeline(log: Log, newUuid: () => string): Pipeline<WorkloadApi> {
  return {
    authorize(_, path, call) {
      if (path.startsWith('/SpiffeWorkloadAPI/')) {
        const values = call.header(HEADER)
        if (values.length !== 1 || values[0] !== 'true') {
          throw new StatusError('INVALID_ARGUMENT', 'security header missing from request')
        }
      }
      return LOCAL
    },
    limiterOf: () => undefined,
    auditEnabled: false,
    log: log.child({ subsystem_name: 'endpoints' }),
    newRequestId: newUuid,
  }
}
