import { randomUUID } from 'node:crypto'
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Duplex, pipeline } from 'node:stream'
import { type Clock, systemClock } from '../core/clock.ts'
import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import { bindService } from '../rpc/invoke.ts'
import type { Method } from '../rpc/method.ts'
import type { BoundService } from '../rpc/service.ts'
import { connect, type GrpcChannel } from '../transport/grpc-client.ts'
import { serveGrpc } from '../transport/grpc-server.ts'
import { listenUnix } from '../transport/unix-socket.ts'
import { autoMtls } from './auto-mtls.ts'
import { broker } from './broker.ts'
import { configured } from './configured.ts'
import { goPluginMethods } from './go-plugin-methods.ts'
import { type Environment, handshakeLine, wantsOneConnection } from './handshake.ts'
import { hostServices } from './host-services.ts'
import type { PluginKind } from './kinds.ts'
import { type PrintedOutput, printedOutput } from './output.ts'
import { configMethods, pluginMethods, serviceNames } from './plugin-methods.ts'
import type { PluginHost, PluginProgram } from './program.ts'
import { type YamuxSession, yamuxServer } from './yamux.ts'

/** Under which number SPIRE offers all its host services. */
const HOST_SERVICES_ID = 1
const STOP_GRACE_MS = 250

export interface StartOptions {
  readonly env: Environment
  /** To the host. */
  readonly log: Log
  readonly clock?: Clock
}

/** A plugin that a host can connect to. */
export interface RunningPlugin {
  /** For the host, on stdout. */
  readonly line: string
  /** What the plugin prints beside its log, for the host. */
  readonly output: PrintedOutput
  /** Resolves when the host shut the plugin down or went away, and all is closed. */
  readonly ended: Promise<void>
  /** Closes all now; a second call does nothing. */
  stop(): Promise<void>
  /** Removes the socket at once: the process is about to end. */
  removeSocket(): void
}

/** Starts to listen for the host. */
export async function startPlugin<K extends PluginKind, Config>(
  program: PluginProgram<K, Config>,
  { env, log, clock = systemClock }: StartOptions,
): Promise<RunningPlugin> {
  const tls = env.PLUGIN_CLIENT_CERT ? await autoMtls(env.PLUGIN_CLIENT_CERT, clock) : undefined
  const offers = broker()
  const output = printedOutput()
  const stopping = new AbortController()
  let offeredServices: readonly string[] = []
  let channel: Promise<GrpcChannel> | undefined
  const place = socketPlace(env)
  /** Where gRPC connects for the host's services. */
  const hostTarget = async (): Promise<string> => {
    if (hostDoor) return `unix:${hostDoor.address}`
    const { network, address } = await offers.offered(HOST_SERVICES_ID)
    return network === 'unix' ? `unix:${address}` : `dns:///${address}`
  }
  const toHost = (): Promise<GrpcChannel> => {
    channel ??= hostTarget().then((target) => connect({ target, ...(tls && { tls: tls.client }) }))
    // A later offer may come.
    channel.catch(() => {
      channel = undefined
    })
    return channel
  }

  const host: PluginHost = {
    ...hostServices(() => offeredServices, toHost, log),
    log,
    signal: stopping.signal,
  }
  const plugin = configured(program, host)
  const isConfigurable = program.read !== undefined
  let hasHost = false
  const service = bind(
    [
      ...goPluginMethods({
        broker: {
          take(info) {
            hasHost = true
            offers.take(info)
          },
          outgoing: offers.outgoing,
        },
        output,
        async init(names) {
          hasHost = true
          offeredServices = names
          if (!isConfigurable) await plugin.start()
          return serviceNames(program.kind, isConfigurable)
        },
        deinit: () => plugin.close(),
        // The answer to this call goes out within the grace of the server.
        shutdown: () => void setImmediate(stop),
      }),
      ...pluginMethods(program.kind, plugin),
      ...(isConfigurable ? configMethods(plugin) : []),
    ],
    log,
  )
  const server = serveGrpc({ service, log })

  const serve = (stream: Duplex): void => server.accept(stream, { via: 'local' })
  const accept =
    tls?.acceptor(serve, (error) => log.warn('Connection refused', { error: errorMessage(error) })) ?? serve
  const isMultiplexed = wantsOneConnection(env)
  let session: YamuxSession | undefined
  let connections = 0
  const onConnection = (socket: Socket): void => {
    connections += 1
    socket.once('close', () => {
      connections -= 1
      // A host that dies says no more.
      if (connections === 0 && hasHost) void stop()
    })
    if (isMultiplexed) session = yamuxServer(socket, accept)
    else accept(socket)
  }
  const listener = await listenUnix({ path: place.path, mode: 0o600, onConnection })
  const hostDoor = isMultiplexed
    ? await listenUnix({
        path: place.hostPath,
        mode: 0o600,
        onConnection(socket) {
          offers.knock(HOST_SERVICES_ID).then(
            () => pipeline(socket, session!.open(), socket, () => {}),
            (error) => socket.destroy(error),
          )
        },
      })
    : undefined
  place.share()
  log.debug('plugin address', { network: 'unix', address: place.path })

  let ended: () => void
  const end = new Promise<void>((resolve) => {
    ended = resolve
  })
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => {
    stopped ??= (async () => {
      stopping.abort()
      await Promise.all([listener.close(), hostDoor?.close(), server.close(STOP_GRACE_MS)])
      await plugin.close().catch((error) => log.error('Failed to close the plugin', { error: errorMessage(error) }))
      ;(await channel?.catch(() => undefined))?.close()
      place.remove()
      ended()
    })()
    return stopped
  }
  return {
    line: handshakeLine({ network: 'unix', address: place.path, certificate: tls?.certificate }, env),
    output,
    ended: end,
    stop,
    removeSocket: place.remove,
  }
}

function bind(methods: readonly Method<undefined>[], log: Log): BoundService {
  return bindService(methods, undefined, {
    // Who can open the socket is the user that runs the host.
    authorize: () => ({ caller: { kind: 'local' }, as: 'local', via: 'transport' }),
    limiterOf: () => undefined,
    auditEnabled: false,
    log,
    newRequestId: randomUUID,
  })
}

/** Where the socket is: in a folder of its own that nobody else can enter, or where the host wants it and for the group that it names. */
function socketPlace(env: Environment): {
  readonly path: string
  /** Where gRPC finds the host, if both share one connection. */
  readonly hostPath: string
  share(): void
  remove(): void
} {
  const wanted = env.PLUGIN_UNIX_SOCKET_DIR
  const group = env.PLUGIN_UNIX_SOCKET_GROUP
  const own = wanted ? undefined : mkdtempSync(join(tmpdir(), 'plugin'))
  const path = join(own ?? wanted!, `plugin${randomUUID().slice(0, 8)}`)
  const hostPath = `${path}.host`
  return {
    path,
    hostPath,
    share() {
      if (!group) return
      chownSync(path, -1, groupId(group))
      chmodSync(path, 0o660)
    },
    remove() {
      for (const left of own ? [own] : [path, hostPath]) rmSync(left, { recursive: true, force: true })
    },
  }
}

/** @throws Error if it is neither a number nor the name of a group */
function groupId(group: string): number {
  if (/^\d+$/.test(group)) return Number(group)
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((one) => one.startsWith(`${group}:`))
  if (!line) throw new Error(`PLUGIN_UNIX_SOCKET_GROUP: unknown group ${JSON.stringify(group)}`)
  return Number(line.split(':')[2])
}
