import type { Clock } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'

/** Waits for some milliseconds, or rejects with the reason of the signal when that aborts. */
export type Wait = (milliseconds: number, signal: AbortSignal) => Promise<void>

export interface RateLimitOptions {
  /** Tokens per second, and the most that can be saved up. */
  readonly perSecond: number
  readonly clock: Clock
  readonly wait: Wait
  /** Who would have to wait longer is refused, which bounds what is queued from one address; default 5 minutes. */
  readonly longestWaitMs?: number
}

const GENERATION_MS = 60_000
/** Addresses in a generation: one with more ends early, and who has no bucket any more has a full one. */
const GENERATION_SIZE = 65_536
const LONGEST_WAIT_MS = 5 * 60_000

interface Bucket {
  tokens: number
  refilledAtMs: number
}

/**
 * Token buckets, one per client address, each full at first. Excess calls wait for their tokens in order. Buckets that
 * were not used for one to two minutes are dropped.
 */
export class RateLimiter {
  readonly #options: RateLimitOptions
  #young = new Map<string, Bucket>()
  #old = new Map<string, Bucket>()
  #generationStartedMs: number

  constructor(options: RateLimitOptions) {
    this.#options = options
    this.#generationStartedMs = options.clock.nowMs()
  }

  /** How many addresses have a bucket. */
  get size(): number {
    return this.#young.size + this.#old.size
  }

  /**
   * Takes tokens, waiting for them where there are too few. Without waiting it returns undefined, and does not ask for the signal.
   * @throws StatusError RESOURCE_EXHAUSTED if the cost can never be met; CANCELLED if the client left
   */
  take(address: string, cost: number, call: { readonly signal: AbortSignal }): Promise<void> | undefined {
    const { perSecond, clock } = this.#options
    if (cost > perSecond) {
      throw new StatusError('RESOURCE_EXHAUSTED', `rate (${cost}) exceeds burst size (${perSecond})`)
    }
    const nowMs = clock.nowMs()
    const bucket = this.#bucket(address, nowMs)
    const elapsedMs = Math.max(0, nowMs - bucket.refilledAtMs)
    const tokens = Math.min(perSecond, bucket.tokens + (elapsedMs * perSecond) / 1000) - cost
    if (tokens >= 0) {
      bucket.tokens = tokens
      bucket.refilledAtMs = nowMs
      return undefined
    }
    const waitMs = (-tokens * 1000) / perSecond
    if (waitMs > (this.#options.longestWaitMs ?? LONGEST_WAIT_MS)) {
      throw new StatusError('RESOURCE_EXHAUSTED', `rate: Wait(n=${cost}) would exceed context deadline`)
    }
    bucket.tokens = tokens
    bucket.refilledAtMs = nowMs
    return this.#waitFor(bucket, cost, waitMs, call.signal)
  }

  async #waitFor(bucket: Bucket, cost: number, waitMs: number, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.wait(waitMs, signal)
    } catch (cause) {
      // The place in the queue is given back, so that a client that left does not delay its neighbours.
      bucket.tokens += cost
      throw new StatusError('CANCELLED', 'context canceled', { cause })
    }
  }

  #bucket(address: string, nowMs: number): Bucket {
    if (nowMs - this.#generationStartedMs >= GENERATION_MS || this.#young.size >= GENERATION_SIZE) {
      this.#old = nowMs - this.#generationStartedMs >= 2 * GENERATION_MS ? new Map() : this.#young
      this.#young = new Map()
      this.#generationStartedMs = nowMs
    }
    let bucket = this.#young.get(address)
    if (bucket === undefined) {
      bucket = this.#old.get(address) ?? { tokens: this.#options.perSecond, refilledAtMs: nowMs }
      this.#old.delete(address)
      this.#young.set(address, bucket)
    }
    return bucket
  }
}

/** The address of a peer without its port: `[::1]:80` is `::1`, `127.0.0.1:80` is `127.0.0.1`. */
export function addressWithoutPort(address: string): string {
  if (address.startsWith('[')) return address.slice(1, Math.max(1, address.indexOf(']')))
  const colon = address.indexOf(':')
  return colon >= 0 && colon === address.lastIndexOf(':') ? address.slice(0, colon) : address
}
