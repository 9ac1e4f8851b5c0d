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
  /**
   * Ask again and again and never hold a stream open, as over HTTP: there something between may keep back a stream, and answers alone are
   * signed.
   */
  readonly pollOnly: boolean
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
  if (!options.pollOnly) {
    try {
      return yield* calls.watch(options.signal)
    } catch (error) {
      if (!(error instanceof StatusError && error.code === 'UNIMPLEMENTED')) throw error
    }
  }
  yield* polled(calls, options)
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

/**
 * Whether a feed ended because its connection came of age, which is no fault: it was open, and whether the server is away the next try tells.
 * @param opened whether anything came of it
 */
export function endedOfAge(error: unknown, opened: boolean): boolean {
  return opened && error instanceof StatusError && error.code === 'UNAVAILABLE'
}

/** A server that offers no news is asked again after this time: it may be another one by then. */
export const ABSENT_FEED_MS = 10 * 60_000

/** How long a call of `poll` may take. */
export const POLL_TIMEOUT_MS = WAIT_MS + 15_000
