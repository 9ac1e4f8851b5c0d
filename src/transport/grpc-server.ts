import { constants, createServer, type IncomingHttpHeaders, type ServerHttp2Session } from 'node:http2'
import type { Duplex } from 'node:stream'
import { type Clock, systemClock } from '../core/clock.ts'
import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import type { Peer } from '../rpc/caller.ts'
import type { BoundService } from '../rpc/service.ts'
import { byteBudget } from './byte-budget.ts'
import { MAX_MESSAGE_BYTES } from './grpc-frame.ts'
import { type CallContext, ServerCall } from './grpc-server-call.ts'

export interface GrpcServerOptions {
  readonly service: BoundService
  /** Says when the certificate of a peer has ended; default the system's. */
  readonly clock?: Clock
  readonly log: Log
  /** Longest request message, bytes; default 4 MiB as grpc-go. */
  readonly maxMessageBytes?: number
  /** What requests of anonymous peers may hold together, bytes; default 16 MiB. */
  readonly strangersBytes?: number
  /** Streams open at once on one connection; default 1000. grpc-go has no limit; clients queue beyond it. */
  readonly maxConcurrentStreams?: number
  /** Header bytes of one request; default 64 KiB. */
  readonly maxHeaderListBytes?: number
  /** Memory one connection may hold before new streams are refused, MiB; default 64. */
  readonly maxConnectionMemoryMiB?: number
  /** After this age (10 % more or less) a connection gets a GOAWAY; default never. SPIRE's TCP listener: 180000. */
  readonly maxConnectionAgeMs?: number
  /** What calls get to finish after that GOAWAY; default 60 s. */
  readonly maxConnectionAgeGraceMs?: number
  /** A connection without HTTP/2 preface and settings is dropped after this time; default 20 s. */
  readonly prefaceTimeoutMs?: number
  /** Streams a client may reset: a burst, refilled each second (CVE-2023-44487); default 5000, 1000. */
  readonly streamResets?: { readonly burst: number; readonly perSecond: number }
}

export interface GrpcServer {
  /** Takes over a connected socket. The peer was decided by whoever accepted it. */
  accept(socket: Duplex, peer: Peer): void
  /**
   * Stops: GOAWAY to all, subscriptions (server streams) end with UNAVAILABLE at once, other calls have `graceMs` (default
   * 10 s, SPIRE's) before their connections are cut. Resolves when every connection is gone.
   */
  close(graceMs?: number): Promise<void>
  readonly connectionCount: number
}

/** Serves a table of methods as gRPC over HTTP/2 on sockets that the caller accepts. It names no method. */
export function serveGrpc(options: GrpcServerOptions): GrpcServer {
  const { log } = options
  const context: CallContext = {
    service: options.service,
    log,
    maxMessageBytes: options.maxMessageBytes ?? MAX_MESSAGE_BYTES,
    strangers: byteBudget(options.strangersBytes),
  }
  const http2Server = createServer({
    settings: {
      maxConcurrentStreams: options.maxConcurrentStreams ?? 1000,
      maxHeaderListSize: options.maxHeaderListBytes ?? 64 * 1024,
      enablePush: false,
    },
    maxSessionMemory: options.maxConnectionMemoryMiB ?? 64,
    streamResetBurst: options.streamResets?.burst ?? 5000,
    streamResetRate: options.streamResets?.perSecond ?? 1000,
  })
  const connections = new Set<Connection>()
  let onEmpty: (() => void) | undefined
  let closing = false

  http2Server.on('session', (session) => {
    // Emitted while accept() runs, which knows the peer.
    const connection: Connection = { session, socket: accepting!, calls: new Set(), timers: [] }
    accepted = connection
    connections.add(connection)
    session.on('error', (error) => log.debug('Connection failed', { error: errorMessage(error) }))
    session.once('close', () => {
      for (const timer of connection.timers) clearTimeout(timer)
      connections.delete(connection)
      if (connections.size === 0) onEmpty?.()
    })
  })
  http2Server.on('sessionError', () => {})
  let accepted: Connection | undefined
  let accepting: Duplex | undefined

  const accept = (socket: Duplex, peer: Peer): void => {
    // What was open with a certificate does not outlive it, whatever it waits for.
    const leftMs =
      peer.via === 'x509' ? peer.expiresAt * 1000 - (options.clock ?? systemClock).nowMs() : Number.POSITIVE_INFINITY
    if (closing || socket.destroyed || leftMs <= 0) {
      socket.destroy()
      return
    }
    accepted = undefined
    accepting = socket
    http2Server.emit('connection', socket)
    const connection = accepted as Connection | undefined
    accepted = undefined
    if (connection === undefined) {
      socket.destroy()
      return
    }
    const { session, calls } = connection
    session.on('stream', (stream, headers: IncomingHttpHeaders, flags: number) => {
      const call = new ServerCall(context, peer, stream, headers, calls)
      call.start((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0)
    })
    const preface = setTimeout(() => cut(connection), options.prefaceTimeoutMs ?? 20_000)
    connection.timers.push(preface)
    session.once('remoteSettings', () => clearTimeout(preface))
    if (options.maxConnectionAgeMs !== undefined) limitAge(connection, options.maxConnectionAgeMs, options)
    if (leftMs <= MAX_TIMER_MS) connection.timers.push(setTimeout(() => cut(connection), leftMs).unref())
  }

  const close = async (graceMs = 10_000): Promise<void> => {
    closing = true
    const empty = new Promise<void>((resolve) => {
      if (connections.size === 0) resolve()
      else onEmpty = resolve
    })
    for (const { session, calls } of connections) {
      for (const call of [...calls]) call.endSubscription()
      session.close()
    }
    const forced = setTimeout(() => {
      for (const connection of [...connections]) {
        for (const call of [...connection.calls]) call.abort()
        cut(connection)
      }
    }, graceMs)
    await empty
    clearTimeout(forced)
  }

  return {
    accept,
    close,
    get connectionCount() {
      return connections.size
    },
  }
}

/** setTimeout's longest. */
const MAX_TIMER_MS = 2 ** 31 - 1

interface Connection {
  readonly session: ServerHttp2Session
  readonly socket: Duplex
  readonly calls: Set<ServerCall>
  readonly timers: NodeJS.Timeout[]
}

/** Ends a connection now. A session that was closed gracefully waits for its peer even when destroyed, hence the socket. */
function cut({ session, socket }: Connection): void {
  session.destroy()
  socket.destroy()
}

/**
 * Ends a connection at that age: a GOAWAY with the last stream that was seen, and the end when its calls are over. What crossed it on
 * the wire was not seen, and clients make those calls again (gRFC A6, transparent retries). grpc-go says first that all streams are
 * allowed, and the last one a ping later; nghttp2 ignores every stream after a GOAWAY, whatever it allows, so their calls would hang.
 */
function limitAge(connection: Connection, ageMs: number, options: GrpcServerOptions): void {
  const { session, timers } = connection
  // Jitter keeps clients that came together from coming back together.
  const jittered = ageMs * (0.9 + Math.random() * 0.2)
  const timer = setTimeout(() => {
    if (session.closed || session.destroyed) return
    session.close()
    timers.push(setTimeout(() => cut(connection), options.maxConnectionAgeGraceMs ?? 60_000).unref())
  }, jittered)
  timers.push(timer.unref())
}
