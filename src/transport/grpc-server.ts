import { constants, createServer, type IncomingHttpHeaders, type ServerHttp2Session } from 'node:http2'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { type Clock, systemClock } from '../core/clock.ts'
import { errorMessage, StatusError } from '../core/error.ts'
import type { Log } from '../core/log.ts'
import { nameOf, type Peer } from '../rpc/caller.ts'
import { addressWithoutPort } from '../rpc/rate-limit.ts'
import type { BoundService } from '../rpc/service.ts'
import { admitAnyAuthority } from './authority-peek.ts'
import { byteBudget } from './byte-budget.ts'
import type { FairTurns } from './fair-turns.ts'
import { MAX_MESSAGE_BYTES } from './grpc-frame.ts'
import { type CallContext, ServerCall, stopping } from './grpc-server-call.ts'
import { type SharedBoundOptions, sharedBound } from './shared-bound.ts'
import { networkOf } from './tcp-listener.ts'

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
  /** How many calls a user (`userOf`) and all of them may have open or waiting; beyond it RESOURCE_EXHAUSTED. Default no bound. */
  readonly calls?: SharedBoundOptions
  /** Has users start their calls in turns; default all at once. */
  readonly inTurns?: FairTurns<string | number>
  /** An anonymous peer's connection without a call is ended after this time; default 60 s. */
  readonly strangerIdleMs?: number
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
  /** Streams a client may reset: a burst, refilled each second (CVE-2023-44487); default 1000, 500. */
  readonly streamResets?: { readonly burst: number; readonly perSecond: number }
}

export interface ConnectionOptions {
  /** Streams open at once on this connection; default what the server says. */
  readonly maxConcurrentStreams?: number
}

export interface GrpcServer {
  /** Takes over a connected socket. The peer was decided by whoever accepted it. */
  accept(socket: Duplex, peer: Peer, options?: ConnectionOptions): void
  /**
   * Stops: GOAWAY to all, subscriptions (server streams) end with UNAVAILABLE at once, other calls have `graceMs` (default
   * 10 s, SPIRE's) before their connections are cut. Resolves when every connection is gone, with whether all ended by themselves.
   */
  close(graceMs?: number): Promise<boolean>
  readonly connectionCount: number
  /** Calls that are open or wait for their turn. */
  readonly callCount: number
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
  const maxConcurrentStreams = options.maxConcurrentStreams ?? 1000
  const maxHeaderListBytes = options.maxHeaderListBytes ?? 64 * 1024
  const prefaceTimeoutMs = options.prefaceTimeoutMs ?? 20_000
  const http2Server = createServer({
    settings: {
      maxConcurrentStreams,
      maxHeaderListSize: maxHeaderListBytes,
      enablePush: false,
    },
    maxSessionMemory: options.maxConnectionMemoryMiB ?? 64,
    streamResetBurst: options.streamResets?.burst ?? 1000,
    streamResetRate: options.streamResets?.perSecond ?? 500,
  })
  const bound = options.calls && sharedBound<string | number>(options.calls)
  const turns = options.inTurns
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
      if (!(connection.socket instanceof Socket)) endSoon(connection.socket)
      connections.delete(connection)
      if (connections.size === 0) onEmpty?.()
    })
  })
  http2Server.on('sessionError', () => {})
  let accepted: Connection | undefined
  let accepting: Duplex | undefined

  /** Unix sockets whose first request has not come; ends them. */
  const waiting = new Map<Socket, () => void>()

  const accept = (socket: Duplex, peer: Peer, limits: ConnectionOptions = {}): void => {
    // Over TLS clients name the host that they verify. On a unix socket they write what they like.
    const isPlain = socket instanceof Socket && !(socket instanceof TLSSocket)
    if (peer.via !== 'local' || !isPlain || closing || socket.destroyed) {
      serve(socket, peer, limits)
      return
    }
    let isWaiting = true
    const end = admitAnyAuthority(
      socket,
      {
        maxHeaderListBytes,
        maxConcurrentStreams: limits.maxConcurrentStreams ?? maxConcurrentStreams,
        patienceMs: Math.min(prefaceTimeoutMs, PATIENCE_MS),
      },
      (connection) => {
        isWaiting = false
        waiting.delete(socket)
        serve(connection, peer, limits)
      },
    )
    if (!isWaiting) return
    waiting.set(socket, end)
    socket.once('close', () => waiting.delete(socket))
  }

  const serve = (socket: Duplex, peer: Peer, limits: ConnectionOptions): void => {
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
    if (limits.maxConcurrentStreams !== undefined) {
      session.settings({ maxConcurrentStreams: limits.maxConcurrentStreams })
    }
    const user = userOf(peer)
    session.on('stream', (stream, headers: IncomingHttpHeaders, flags: number) => {
      const call = new ServerCall(context, peer, stream, headers, calls)
      const requestEnded = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
      const granted = bound?.take(user) ?? true
      if (bound !== undefined && granted) stream.once('close', () => bound.give(user))
      // A refusal waits for its turn too: whoever calls again at once is slowed down by it.
      const go = (): void => {
        if (!granted) call.fail(tooManyCalls())
        else if (closing) call.fail(stopping())
        else call.start(requestEnded)
      }
      if (turns === undefined) go()
      else turns.take(user, go)
    })
    if (peer.via === 'anonymous') endIdle(connection, options.strangerIdleMs ?? 60_000)
    const preface = setTimeout(() => cut(connection), prefaceTimeoutMs)
    connection.timers.push(preface)
    session.once('remoteSettings', () => clearTimeout(preface))
    if (options.maxConnectionAgeMs !== undefined) limitAge(connection, options.maxConnectionAgeMs, options)
    if (leftMs <= MAX_TIMER_MS) connection.timers.push(setTimeout(() => cut(connection), leftMs).unref())
  }

  const close = async (graceMs = 10_000): Promise<boolean> => {
    closing = true
    let inTime = true
    for (const end of [...waiting.values()]) end()
    const empty = new Promise<void>((resolve) => {
      if (connections.size === 0) resolve()
      else onEmpty = resolve
    })
    for (const { session, calls } of connections) {
      for (const call of [...calls]) call.endSubscription()
      session.close()
    }
    const forced = setTimeout(() => {
      inTime = false
      for (const connection of [...connections]) {
        for (const call of [...connection.calls]) call.abort()
        cut(connection)
      }
    }, graceMs)
    await empty
    clearTimeout(forced)
    return inTime
  }

  return {
    accept,
    close,
    get connectionCount() {
      return connections.size + waiting.size
    },
    get callCount() {
      let count = 0
      for (const { calls } of connections) count += calls.size
      return count
    },
  }
}

/** Who shares a bound: processes of one uid, connections of one identity, strangers from one network. */
function userOf(peer: Peer): string | number {
  if (peer.via === 'local') return peer.process?.uid ?? 'local'
  return nameOf(peer) ?? networkOf(addressWithoutPort(peer.address))
}

function tooManyCalls(): StatusError {
  return new StatusError('RESOURCE_EXHAUSTED', 'too many calls of this user are open: try again')
}

/** What a client of a unix socket has for its first request before nobody waits for it. */
const PATIENCE_MS = 5_000

/** setTimeout's longest. */
const MAX_TIMER_MS = 2 ** 31 - 1

interface Connection {
  readonly session: ServerHttp2Session
  readonly socket: Duplex
  readonly calls: Set<ServerCall>
  readonly timers: NodeJS.Timeout[]
}

/** Ends a stream before a socket when its session has: Deno and Bun leave it open. What was written still goes out. */
function endSoon(stream: Duplex): void {
  const late = setTimeout(() => stream.destroy(), 1_000).unref()
  stream.once('close', () => clearTimeout(late))
  stream.end(() => stream.destroy())
}

/** Ends a connection now. A session that was closed gracefully waits for its peer even when destroyed, hence the socket. */
function cut({ session, socket }: Connection): void {
  session.destroy()
  socket.destroy()
}

/** Ends the connection of somebody unknown that was without a call twice in a row when it was looked at. */
function endIdle(connection: Connection, idleMs: number): void {
  const { session, calls, timers } = connection
  let seen = 0
  let idleAt = -1
  session.on('stream', () => {
    seen += 1
  })
  const look = setInterval(() => {
    if (calls.size > 0) return
    if (idleAt === seen) cut(connection)
    idleAt = seen
  }, idleMs / 2)
  timers.push(look.unref())
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
