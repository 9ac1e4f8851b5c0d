import { PollRequest, PollResponse, WatchRequest, WatchResponse } from '../proto/turret/changes/v1.ts'
import { errorMessage, StatusError } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import { ABSENT_FEED_MS, changeFeed, endedOfAge, POLL_TIMEOUT_MS } from '../src/rpc/change-feed.ts'
import type { GrpcChannel } from '../src/transport/grpc-client.ts'

const WATCH = { path: '/turret.changes.v1.Changes/Watch', request: WatchRequest, response: WatchResponse }
const POLL = { path: '/turret.changes.v1.Changes/Poll', request: PollRequest, response: PollResponse }
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
 * Follows the server's change feed, so that news reach the agent at once and not with the next sync. A SPIRE server has no such
 * feed: then syncing from time to time is all there is, and it is looked for again later.
 */
export async function followServer(listener: FeedListener, { random, wait, log, signal }: FeedOptions): Promise<void> {
  while (!signal.aborted) {
    let opened = false
    try {
      // The connection is replaced when the agent's identity is; a poll takes the one of its time.
      const calls = {
        watch: (until: AbortSignal) => listener.connection.serverStream(WATCH, {}, { signal: until }),
        poll: (request: PollRequest, until: AbortSignal) =>
          listener.connection.unary(POLL, request, { timeoutMs: POLL_TIMEOUT_MS, signal: until }),
      }
      const pollOnly = listener.connection.overHttp ?? false
      for await (const _ of changeFeed(calls, { pollOnly, wait, signal })) {
        // The first message only says that the feed is open; what it would tell was just synced.
        if (opened) listener.syncSoon()
        opened = true
      }
    } catch (error) {
      if (error instanceof StatusError && error.code === 'UNIMPLEMENTED') {
        await wait(ABSENT_FEED_MS, signal)
        continue
      }
      if (error instanceof StatusError && error.code === 'PERMISSION_DENIED' && !signal.aborted) listener.syncSoon()
      if (!signal.aborted && !endedOfAge(error, opened))
        log.debug('The change feed of the server ended', { error: errorMessage(error) })
    }
    await wait(RETRY_MS * (0.5 + random()), signal)
    listener.syncSoon()
  }
}
