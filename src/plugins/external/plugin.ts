import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { Empty as NoMessage } from '../../../proto/google/protobuf/empty.ts'
import { ConnInfo, Empty, StdioData, StdioData_Channel } from '../../../proto/hashicorp/plugin.ts'
import {
  ConfigureRequest,
  ConfigureResponse,
  ValidateRequest,
  ValidateResponse,
} from '../../../proto/spire/service/common/config/v1.ts'
import {
  DeinitRequest,
  DeinitResponse,
  InitRequest,
  InitResponse,
} from '../../../proto/spire/service/private/init/v1.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import type { BoundService } from '../../rpc/service.ts'
import { connect, type GrpcChannel } from '../../transport/grpc-client.ts'
import { serveGrpc } from '../../transport/grpc-server.ts'
import { listenUnix } from '../../transport/unix-socket.ts'
import { type PluginCalls, pluginCalls } from './calls.ts'
import { logLines } from './log-line.ts'
import { readLines, startPlugin } from './process.ts'

const START_STREAM = { path: '/plugin.GRPCBroker/StartStream', request: ConnInfo, response: ConnInfo }
const STREAM_STDIO = { path: '/plugin.GRPCStdio/StreamStdio', request: NoMessage, response: StdioData }
const SHUTDOWN = { path: '/plugin.GRPCController/Shutdown', request: Empty, response: Empty }
const INIT = { path: '/spire.service.private.init.v1.Init/Init', request: InitRequest, response: InitResponse }
const DEINIT = { path: '/spire.service.private.init.v1.Init/Deinit', request: DeinitRequest, response: DeinitResponse }
const CONFIG = 'spire.service.common.config.v1.Config'
const CONFIGURE = { path: `/${CONFIG}/Configure`, request: ConfigureRequest, response: ConfigureResponse }
const VALIDATE = { path: `/${CONFIG}/Validate`, request: ValidateRequest, response: ValidateResponse }

/** The number under which plugins look for what their host offers. */
const HOST_SERVICES = 1
const INIT_TIMEOUT_MS = 60_000
const DEINIT_TIMEOUT_MS = 10_000
const HOST_GRACE_MS = 10_000
const SHUTDOWN_GRACE_MS = 2_000

export interface ExternalPluginOptions {
  /** Type and name as in the configuration. */
  readonly kind: string
  readonly name: string
  readonly path: string
  readonly arguments: readonly string[]
  readonly checksum: string | undefined
  readonly trustDomain: string
  readonly hostServices: BoundService
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
  readonly patienceMs?: number
}

/** A plugin that runs in a process of its own and is ready to be configured. */
export interface ExternalPlugin {
  readonly kind: string
  readonly name: string
  /** Full names of its gRPC services, without that of its configuration. */
  readonly services: readonly string[]
  /** undefined: it takes no configuration. */
  readonly config:
    | {
        /** @throws StatusError as the plugin says it */
        configure(hcl: string): Promise<void>
        /** @returns what is wrong */
        validate(hcl: string): Promise<readonly string[]>
      }
    | undefined
  readonly calls: PluginCalls
  /** The same with errors as the plugin says them, for those who say themselves whose they are. */
  readonly plainCalls: PluginCalls
  readonly log: Log
  /** Aborts when its process ends, with the reason. It is not started again, as in SPIRE. */
  readonly ended: AbortSignal
  unload(): Promise<void>
}

/**
 * Starts a plugin and says hello: process, connection, host services, Init. What it is to be told is the caller's business.
 * @throws Error with SPIRE's texts; nothing is left of the plugin then
 * @see cli-and-config.md 12
 */
export async function loadExternalPlugin(options: ExternalPluginOptions): Promise<ExternalPlugin> {
  const { kind, name, log, hostServices } = options
  if (options.checksum === undefined) log.warn('Plugin checksum not configured')
  const directory = await mkdtemp(join(tmpdir(), 'turret-plugin-'))
  /** In the order in which they are undone last. */
  const undo: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })]
  const unload = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const started = await startPlugin({ ...options, directory }).catch((error) => {
      throw new Error(`failed to launch plugin: ${errorMessage(error)}`, { cause: error })
    })
    const { ended } = started
    const channel = await connect({ target: started.target })
    undo.push(async () => {
      if (!ended.aborted) await channel.unary(SHUTDOWN, {}, { timeoutMs: SHUTDOWN_GRACE_MS }).catch(() => {})
      await started.end(SHUTDOWN_GRACE_MS)
      channel.close()
    })
    const init = pluginCalls(channel, ended, '')
    undo.push(await offerHostServices(channel, join(directory, 'host.sock'), hostServices, log))
    const { pluginServiceNames } = await init.unary(
      INIT,
      { hostServiceNames: [...hostServices.services] },
      { timeoutMs: INIT_TIMEOUT_MS },
    )
    undo.push(async () => {
      if (ended.aborted) return
      try {
        await init.unary(DEINIT, {}, { timeoutMs: DEINIT_TIMEOUT_MS })
        log.debug('Plugin deinitialized')
      } catch (error) {
        if (error instanceof StatusError && error.code === 'UNIMPLEMENTED') log.debug('Plugin deinitialized')
        else log.error('Failed to deinitialize plugin', { error: errorMessage(error) })
      }
    })
    followOutput(channel, log.child({ subsystem_name: basename(options.path) }))
    let unloading = false
    ended.addEventListener('abort', () => {
      if (!unloading) log.error('Plugin process ended', { error: errorMessage(ended.reason) })
    })
    const request = (hcl: string) => ({
      coreConfiguration: { trustDomain: options.trustDomain },
      hclConfiguration: hcl,
    })
    return {
      kind,
      name,
      log,
      ended,
      plainCalls: init,
      calls: pluginCalls(channel, ended, `${kind.toLowerCase()}(${name}): `),
      services: pluginServiceNames.filter((service) => service !== CONFIG),
      config: pluginServiceNames.includes(CONFIG)
        ? {
            configure: async (hcl) => {
              await init.unary(CONFIGURE, request(hcl))
            },
            validate: (hcl) => validate(init, request(hcl)),
          }
        : undefined,
      async unload() {
        unloading = true
        log.debug('Unloading plugin')
        await unload()
        log.info('Plugin unloaded')
      },
    }
  } catch (error) {
    await unload()
    throw error
  }
}

/** Serves what the host offers on a socket and tells the plugin. @returns stops it */
async function offerHostServices(
  channel: GrpcChannel,
  path: string,
  service: BoundService,
  log: Log,
): Promise<() => Promise<void>> {
  const server = serveGrpc({ service, log })
  const listener = await listenUnix({
    path,
    mode: 0o700,
    onConnection: (socket) => server.accept(socket, { via: 'local' }),
  })
  const broker = channel.bidi(START_STREAM)
  // The plugin opens nothing for us; its stream ends when it does.
  void drain(broker.messages)
  await broker.send({ serviceId: HOST_SERVICES, network: 'unix', address: path, knock: undefined }).catch(() => {})
  return async () => {
    await listener.close()
    await server.close(HOST_GRACE_MS)
    broker.cancel()
  }
}

async function drain(messages: AsyncIterable<unknown>): Promise<void> {
  try {
    for await (const _ of messages);
  } catch {
    // Every call to the plugin says so.
  }
}

/** go-plugin catches what a plugin writes to stdout and stderr, and keeps it until somebody asks. */
function followOutput(channel: GrpcChannel, log: Log): void {
  const stderr = new PassThrough()
  readLines(stderr, logLines(log))
  void (async () => {
    try {
      for await (const { channel: from, data } of channel.serverStream(STREAM_STDIO, {})) {
        if (from === StdioData_Channel.STDERR) stderr.write(data)
      }
    } catch {
      // It has ended, or has nothing to say.
    }
    stderr.end()
  })()
}

async function validate(calls: PluginCalls, request: ConfigureRequest): Promise<readonly string[]> {
  try {
    const { valid, notes } = await calls.unary(VALIDATE, request)
    return valid || notes.length > 0 ? notes : ['the plugin takes its configuration for invalid']
  } catch (error) {
    if (error instanceof StatusError && error.code === 'UNIMPLEMENTED') return []
    throw error
  }
}
