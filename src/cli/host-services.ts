import { Empty } from '../../proto/google/protobuf/empty.ts'
import type { Log } from '../core/log.ts'
import { bindService } from '../rpc/invoke.ts'
import type { Method } from '../rpc/method.ts'
import type { BoundService } from '../rpc/service.ts'

/** There are no metrics yet: what plugins count is taken, not read, and dropped. */
const ANYTHING = { encode: () => ({ finish: () => new Uint8Array(0) }), decode: () => ({}) }

/** What plugins out of process of either side may call. */
const COMMON_METHODS: readonly Method<unknown>[] = [
  'SetGauge',
  'EmitKey',
  'IncrCounter',
  'AddSample',
  'MeasureSince',
].map((name) => ({
  path: `/spire.hostservice.common.metrics.v1.Metrics/${name}`,
  kind: 'unary',
  request: ANYTHING,
  response: Empty,
  handle: async () => ({}),
}))

/** Makes what plugins may call ready to be served. Whoever reaches the socket, which is in a directory of ours, is the plugin. */
export function hostServices<Deps>(methods: readonly Method<Deps>[], deps: Deps, log: Log): BoundService {
  return bindService<Deps>([...COMMON_METHODS, ...methods], deps, {
    authorize: () => ({ caller: { kind: 'local' }, as: 'plugin', via: 'socket' }),
    limiterOf: () => undefined,
    auditEnabled: false,
    log,
    newRequestId: () => '',
  })
}
