import { Empty } from '../../proto/google/protobuf/empty.ts'
import {
  AddSampleRequest,
  EmitKeyRequest,
  IncrCounterRequest,
  MeasureSinceRequest,
  SetGaugeRequest,
} from '../../proto/spire/hostservice/common/metrics/v1.ts'
import { GetAgentInfoRequest, GetAgentInfoResponse } from '../../proto/spire/hostservice/server/agentstore/v1.ts'
import {
  FetchX509IdentityRequest,
  FetchX509IdentityResponse,
} from '../../proto/spire/hostservice/server/identityprovider/v1.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { ClientMethod, GrpcChannel } from '../transport/grpc-client.ts'

export type MetricLabels = Readonly<Record<string, string>>

/** Numbers that go into the host's metrics. A host without metrics, and one that fails to take them, harms nothing. */
export interface Metrics {
  setGauge(key: readonly string[], value: number, labels?: MetricLabels): void
  incrCounter(key: readonly string[], value: number, labels?: MetricLabels): void
  addSample(key: readonly string[], value: number, labels?: MetricLabels): void
  emitKey(key: readonly string[], value: number): void
  /** @param startMs as Date.now() said it */
  measureSince(key: readonly string[], startMs: number, labels?: MetricLabels): void
}

/** Services of the host. */
export interface HostServices {
  readonly metrics: Metrics
  /**
   * The server's own X509-SVID, key and bundle; servers only.
   * @throws StatusError UNIMPLEMENTED if this host has none to give
   */
  fetchX509Identity(): Promise<FetchX509IdentityResponse>
  /**
   * Whether the server knows an attested agent; servers only.
   * @throws StatusError NOT_FOUND if it does not, UNIMPLEMENTED if this host does not tell
   */
  getAgentInfo(agentId: string): Promise<GetAgentInfoResponse>
}

const METRICS = 'spire.hostservice.common.metrics.v1.Metrics'
const IDENTITY = 'spire.hostservice.server.identityprovider.v1.IdentityProvider'
const AGENTS = 'spire.hostservice.server.agentstore.v1.AgentStore'

/**
 * Clients of the host's services.
 * @param names of services that the host said it has; asked at each call, since it says so late
 * @param channel connects when it is first called
 */
export function hostServices(
  names: () => readonly string[],
  channel: () => Promise<GrpcChannel>,
  log: Log,
): HostServices {
  async function call<Req, Res>(service: string, method: Omit<ClientMethod<Req, Res>, 'path'>, name: string, req: Req) {
    if (!names().includes(service)) throw new StatusError('UNIMPLEMENTED', `host has no service ${service}`)
    return (await channel()).unary({ ...method, path: `/${service}/${name}` }, req)
  }
  const report = <Req>(name: string, request: ClientMethod<Req, Empty>['request'], message: Req): void => {
    if (!names().includes(METRICS)) return
    call(METRICS, { request, response: Empty }, name, message).catch((error) =>
      log.debug('Failed to report a metric', { error: errorMessage(error) }),
    )
  }
  return {
    metrics: {
      setGauge: (key, val, labels) =>
        report('SetGauge', SetGaugeRequest, { key: [...key], val, labels: labelsOf(labels) }),
      incrCounter: (key, val, labels) =>
        report('IncrCounter', IncrCounterRequest, { key: [...key], val, labels: labelsOf(labels) }),
      addSample: (key, val, labels) =>
        report('AddSample', AddSampleRequest, { key: [...key], val, labels: labelsOf(labels) }),
      emitKey: (key, val) => report('EmitKey', EmitKeyRequest, { key: [...key], val }),
      measureSince: (key, startMs, labels) =>
        report('MeasureSince', MeasureSinceRequest, {
          key: [...key],
          time: startMs * 1_000_000,
          labels: labelsOf(labels),
        }),
    },
    fetchX509Identity: () =>
      call(
        IDENTITY,
        { request: FetchX509IdentityRequest, response: FetchX509IdentityResponse },
        'FetchX509Identity',
        {},
      ),
    getAgentInfo: (agentId) =>
      call(AGENTS, { request: GetAgentInfoRequest, response: GetAgentInfoResponse }, 'GetAgentInfo', { agentId }),
  }
}

function labelsOf(labels: MetricLabels = {}): { name: string; value: string }[] {
  return Object.entries(labels).map(([name, value]) => ({ name, value }))
}
