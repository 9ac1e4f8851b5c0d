import { Empty as Nothing } from '../../proto/google/protobuf/empty.ts'
import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus,
} from '../../proto/grpc/health/v1.ts'
import { ConnInfo, Empty, StdioData } from '../../proto/hashicorp/plugin.ts'
import { DeinitRequest, DeinitResponse, InitRequest, InitResponse } from '../../proto/spire/service/private/init/v1.ts'
import { StatusError } from '../core/error.ts'
import { bidi, type Method, serverStream, unary } from '../rpc/method.ts'
import type { Broker } from './broker.ts'
import type { PrintedOutput } from './output.ts'

/** What a host does with a plugin of whatever kind. */
export interface HostedPlugin {
  readonly broker: Pick<Broker, 'take' | 'outgoing'>
  readonly output: PrintedOutput
  /** @returns the services that the plugin has */
  init(hostServices: readonly string[]): Promise<readonly string[]>
  deinit(): Promise<void>
  /** The answer still goes out. */
  shutdown(): void
}

/** The services that go-plugin and SPIRE's plugin SDK put beside those of a plugin. */
export function goPluginMethods(plugin: HostedPlugin): readonly Method<undefined>[] {
  return [
    bidi({
      path: '/plugin.GRPCBroker/StartStream',
      request: ConnInfo,
      response: ConnInfo,
      async *handle(_, said, { signal }) {
        const heard = async (): Promise<void> => {
          for await (const info of said) plugin.broker.take(info)
        }
        // It fails when the call does.
        heard().catch(() => {})
        yield* plugin.broker.outgoing(signal)
      },
    }),
    serverStream({
      path: '/plugin.GRPCStdio/StreamStdio',
      request: Nothing,
      response: StdioData,
      handle: (_, _request, call) => plugin.output.read(call.signal),
    }),
    unary({
      path: '/plugin.GRPCController/Shutdown',
      request: Empty,
      response: Empty,
      async handle() {
        plugin.shutdown()
        return {}
      },
    }),
    unary({
      path: '/spire.service.private.init.v1.Init/Init',
      request: InitRequest,
      response: InitResponse,
      handle: async (_, { hostServiceNames }) => ({ pluginServiceNames: [...(await plugin.init(hostServiceNames))] }),
    }),
    unary({
      path: '/spire.service.private.init.v1.Init/Deinit',
      request: DeinitRequest,
      response: DeinitResponse,
      async handle() {
        await plugin.deinit()
        return {}
      },
    }),
    unary({
      path: '/grpc.health.v1.Health/Check',
      request: HealthCheckRequest,
      response: HealthCheckResponse,
      async handle(_, { service }) {
        if (!isServing(service)) throw new StatusError('NOT_FOUND', 'unknown service')
        return { status: HealthCheckResponse_ServingStatus.SERVING }
      },
    }),
    serverStream({
      path: '/grpc.health.v1.Health/Watch',
      request: HealthCheckRequest,
      response: HealthCheckResponse,
      async *handle(_, { service }, { signal }) {
        const { SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus
        yield { status: isServing(service) ? SERVING : SERVICE_UNKNOWN }
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
      },
    }),
  ]
}

/** A plugin is named `plugin` whatever its kind, and the server as a whole by nothing. */
function isServing(service: string): boolean {
  return service === 'plugin' || service === ''
}
