import { StatusError } from '../core/error.ts'

/** What a follower of another server should look at again. */
export interface News {
  readonly bundle: boolean
  readonly entries: boolean
}

/** Both ways in which a server may tell its news. */
export interface FeedCalls {
  watch(signal: AbortSignal): AsyncIterable<News>
  poll(
    request: { readonly cursor: string; readonly waitMs: number },
    signal: AbortSignal,
  ): Promise<News & { readonly cursor: string; readonly pollAgainMs: number }>
}

export interface FeedOptions {
  /** Ask again and again instead of holding a stream open, as is better over HTTP, where something between may keep back streams. */
  readonly preferPolling: boolean
  /** Waits that long, less if the signal aborts. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>
  readonly signal: AbortSignal
}

/** Less than what proxies on the way usually allow. */
const WAIT_MS = 25_000
/** The pace that a server may ask for. */
const LONGEST_PAUSE_MS = 60_000

/**
 * The news of a server in whichever way it offers them, until the signal aborts. The first come at once and only say that the feed is open.
 *
 * @throws StatusError UNIMPLEMENTED if it offers none
 */
export async function* changeFeed(calls: FeedCalls, options: FeedOptions): AsyncGenerator<News> {
  const ways = [watched, polled]
  if (options.preferPolling) ways.reverse()
  try {
    yield* ways[0]!(calls, options)
  } catch (error) {
    if (!(error instanceof StatusError && error.code === 'UNIMPLEMENTED')) throw error
    yield* ways[1]!(calls, options)
  }
}

async function* watched(calls: FeedCalls, { signal }: FeedOptions): AsyncGenerator<News> {
  yield* calls.watch(signal)
}

async function* polled(calls: FeedCalls, { wait, signal }: FeedOptions): AsyncGenerator<News> {
  let cursor = ''
  while (!signal.aborted) {
    const news = await calls.poll({ cursor, waitMs: WAIT_MS }, signal)
    cursor = news.cursor
    if (news.bundle || news.entries) yield news
    if (news.pollAgainMs > 0) await wait(Math.min(news.pollAgainMs, LONGEST_PAUSE_MS), signal)
  }
}

/** How long a call of `poll` may take. */
export const POLL_TIMEOUT_MS = WAIT_MS + 15_000
