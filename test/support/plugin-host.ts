import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { ConnInfo, Empty as PluginEmpty } from '../../proto/hashicorp/plugin.ts'
import { ConfigureRequest, ConfigureResponse } from '../../proto/spire/service/common/config/v1.ts'
import { DeinitRequest, DeinitResponse, InitRequest, InitResponse } from '../../proto/spire/service/private/init/v1.ts'
import type { Log } from '../../src/core/log.ts'
import { silentLog } from '../../src/core/log.ts'
import type { PluginKind } from '../../src/plugin-sdk/kinds.ts'
import type { PluginProgram } from '../../src/plugin-sdk/program.ts'
import { type RunningPlugin, startPlugin } from '../../src/plugin-sdk/start.ts'
import { bindService } from '../../src/rpc/invoke.ts'
import type { Method } from '../../src/rpc/method.ts'
import { type BidiCall, type ClientMethod, connect, type GrpcChannel } from '../../src/transport/grpc-client.ts'
import { serveGrpc } from '../../src/transport/grpc-server.ts'
import type { ClientTls } from '../../src/transport/tls-client.ts'
import { listenUnix } from '../../src/transport/unix-socket.ts'

export interface HostOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly log?: Log
  /** Methods of host services. */
  readonly services?: readonly Method<undefined>[]
  /** For calls to the plugin, by the certificate that its line has. */
  readonly tls?: (line: string) => ClientTls
  /** Puts something between a connection of the plugin and the host's services. */
  readonly door?: (serve: (stream: Duplex) => void) => (socket: Socket) => void
}

/** A plugin in this process under a host as SPIRE is one, over real sockets. */
export interface HostedPlugin extends AsyncDisposable {
  readonly plugin: RunningPlugin
  readonly channel: GrpcChannel
  /** What the plugin says it serves. */
  readonly services: readonly string[]
  configure(data: string, trustDomain?: string): Promise<void>
  call<Req, Res>(method: ClientMethod<Req, Res>, request: Req): Promise<Res>
  deinit(): Promise<void>
  shutdown(): Promise<void>
  /** Closes the connection as one who dies. */
  leave(): void
}

const unary = <Req, Res>(
  path: string,
  request: ClientMethod<Req, Res>['request'],
  response: ClientMethod<Req, Res>['response'],
): ClientMethod<Req, Res> => ({ path, request, response })

export async function hostPlugin<K extends PluginKind, Config>(
  program: PluginProgram<K, Config>,
  options: HostOptions = {},
): Promise<HostedPlugin> {
  const log = options.log ?? silentLog
  const plugin = await startPlugin(program, { env: options.env ?? {}, log })
  const address = plugin.line.split('|')[3]!
  const tls = options.tls?.(plugin.line)
  const channel = await connect({ target: `unix:${address}`, ...(tls && { tls }) })

  const folder = mkdtempSync(join(tmpdir(), 'host'))
  const service = bindService(options.services ?? [], undefined, {
    authorize: () => ({ caller: { kind: 'local' }, as: 'local', via: 'transport' }),
    limiterOf: () => undefined,
    auditEnabled: false,
    log,
    newRequestId: randomUUID,
  })
  const server = serveGrpc({ service, log })
  const serve = (stream: Duplex): void => server.accept(stream, { via: 'local' })
  const listener = await listenUnix({
    path: join(folder, 'socket'),
    mode: 0o600,
    onConnection: options.door?.(serve) ?? serve,
  })
  const stream: BidiCall<ConnInfo, ConnInfo> = channel.bidi({
    path: '/plugin.GRPCBroker/StartStream',
    request: ConnInfo,
    response: ConnInfo,
  })
  const reading = (async () => {
    for await (const _ of stream.messages) throw new Error('a plugin offers nothing')
  })().catch(() => {})
  await stream.send({ serviceId: 1, network: 'unix', address: listener.address, knock: undefined })

  const { pluginServiceNames } = await channel.unary(
    unary('/spire.service.private.init.v1.Init/Init', InitRequest, InitResponse),
    { hostServiceNames: [...service.services] },
  )
  const leave = (): void => {
    stream.cancel()
    channel.close()
  }
  return {
    leave,
    plugin,
    channel,
    services: pluginServiceNames,
    async configure(data, trustDomain = 'example.org') {
      await channel.unary(
        unary('/spire.service.common.config.v1.Config/Configure', ConfigureRequest, ConfigureResponse),
        { coreConfiguration: { trustDomain }, hclConfiguration: data },
      )
    },
    call: (method, request) => channel.unary(method, request),
    async deinit() {
      await channel.unary(unary('/spire.service.private.init.v1.Init/Deinit', DeinitRequest, DeinitResponse), {})
    },
    async shutdown() {
      await channel.unary(unary('/plugin.GRPCController/Shutdown', PluginEmpty, PluginEmpty), {})
    },
    async [Symbol.asyncDispose]() {
      leave()
      await reading
      await plugin.stop()
      await listener.close()
      await server.close(0)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
