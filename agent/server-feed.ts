import { WatchRequest, WatchResponse } from '../proto/turret/changes/v1.ts'
import { errorMessage, StatusError } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'

const WATCH = { path: '/turret.changes.v1.Changes/Watch', request: WatchRequest, response: WatchResponse }
const RETRY_MS = 5_000

/** Who is told of news. */
export interface FeedListener {
  readonly connection: GrpcChannel
  syncSoon(): void
}

export interface FeedOptions {
  /** Uniform in [0, 1). */
  readonly random: () => number
  /** Waits that long, less if the signal aborts. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>
  readonly log: Log
  readonly signal: AbortSignal
}

/**
 * Holds the server's change feed open, so that news reach the agent at once and not with the next poll. A SPIRE server has no such
 * feed: then polling is all there is.
 */
export async function followServer(listener: FeedListener, { random, wait, log, signal }: FeedOptions): Promise<void> {
  while (!signal.aborted) {
    try {
      let first = true
      for await (const _ of listener.connection.serverStream(WATCH, {}, { signal })) {
        // The first message only says that the feed is open; what it would tell was just synced.
        if (!first) listener.syncSoon()
        first = false
      }
    } catch (error) {
      if (error instanceof StatusError && error.code === 'UNIMPLEMENTED') return
      if (error instanceof StatusError && error.code === 'PERMISSION_DENIED' && !signal.aborted) listener.syncSoon()
      if (!signal.aborted) log.debug('The change feed of the server ended', { error: errorMessage(error) })
    }
    await wait(RETRY_MS * (0.5 + random()), signal)
    listener.syncSoon()
  }
}
