import type { Clock, EpochSeconds } from '../src/core/clock.ts'
import { epochSeconds } from '../src/core/clock.ts'
import { errorMessage, type StatusCode, StatusError } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'
import type { AgentEntry } from './entry.ts'
import { OutdatedError } from './outdated.ts'
import { isRotationDue, type RotationRule } from './rotation-rule.ts'

/** A signed token as the server gave it. */
export interface JwtSvid {
  readonly token: string
  readonly issuedAt: EpochSeconds
  readonly expiresAt: EpochSeconds
  /** Key id of the token's header. */
  readonly keyId: string
}

export interface JwtCacheOptions {
  /** Tokens kept; hard, least recently used go first. */
  readonly maxSize: number
  /** How long a renewal may take while an unexpired token is at hand. Milliseconds. */
  readonly hitTimeoutMs: number
  readonly clock: Clock
  readonly log: Log
  readonly random: () => number
  /** Asks the server for a token. @throws StatusError */
  sign(entry: AgentEntry, audience: readonly string[], timeoutMs: number): Promise<JwtSvid>
}

const MISS_TIMEOUT_MS = 30_000

/** Codes that say that asking again at once is of no use; others are tried again inside the timeout. */
const FINAL: ReadonlySet<StatusCode> = new Set([
  'UNKNOWN',
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'INVALID_ARGUMENT',
  'UNIMPLEMENTED',
])

/** JWT-SVIDs by state of the entry and set of audiences; one request to the server however many workloads ask at once. */
export class JwtCache {
  readonly #options: JwtCacheOptions
  /** In order of use, oldest first. */
  readonly #tokens = new Map<string, JwtSvid>()
  #trusts: (keyId: string) => boolean = () => true
  readonly #inFlight = new Map<string, Promise<JwtSvid>>()

  constructor(options: JwtCacheOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#tokens.size
  }

  /**
   * A token for the entry's SPIFFE ID and these audiences: cached while about half its life is left, else a new one. When
   * the server cannot be had, an unexpired cached token is good enough.
   */
  async fetch(entry: AgentEntry, audience: readonly string[]): Promise<JwtSvid> {
    // All that the token depends on is the key. jti promises a token of one's own, so such entries never share one.
    const { id, createdAt, revisionNumber, spiffeId } = entry
    const key = JSON.stringify([id, createdAt, revisionNumber, spiffeId, ...[...audience].sort()])
    const { clock, random, log } = this.#options
    const cached = entry.jwtSvidIncludeJti ? undefined : this.#tokens.get(key)
    if (!cached) return this.#renew(key, entry, audience, MISS_TIMEOUT_MS)
    const now = epochSeconds(clock)
    if (
      !isRotationDue({ notBefore: cached.issuedAt, notAfter: cached.expiresAt }, now, { random } satisfies RotationRule)
    ) {
      this.#touch(key, cached)
      return cached
    }
    const usable = cached.expiresAt > now
    try {
      return await this.#renew(key, entry, audience, usable ? this.#options.hitTimeoutMs : MISS_TIMEOUT_MS)
    } catch (error) {
      if (error instanceof OutdatedError) throw error
      if (cached.expiresAt <= epochSeconds(clock)) {
        throw new StatusError(
          'UNAVAILABLE',
          `unable to renew JWT for "${entry.spiffeId}" (err=${errorMessage(error)})`,
          { cause: error },
        )
      }
      log.warn('Unable to renew JWT; returning cached copy', { spiffe_id: entry.spiffeId, error: errorMessage(error) })
      return cached
    }
  }

  /** Keeps only tokens signed by keys that are trusted, now and from now on. @returns how many were dropped */
  retain(trusted: (keyId: string) => boolean): number {
    this.#trusts = trusted
    let count = 0
    for (const [key, svid] of this.#tokens) {
      if (trusted(svid.keyId)) continue
      this.#tokens.delete(key)
      count += 1
    }
    return count
  }

  #renew(key: string, entry: AgentEntry, audience: readonly string[], timeoutMs: number): Promise<JwtSvid> {
    if (entry.jwtSvidIncludeJti) return this.#sign(entry, audience, timeoutMs)
    let pending = this.#inFlight.get(key)
    if (!pending) {
      pending = this.#sign(entry, audience, timeoutMs)
        .then((svid) => {
          if (this.#trusts(svid.keyId)) this.#touch(key, svid)
          return svid
        })
        .finally(() => this.#inFlight.delete(key))
      this.#inFlight.set(key, pending)
    }
    return pending
  }

  async #sign(entry: AgentEntry, audience: readonly string[], timeoutMs: number): Promise<JwtSvid> {
    const { clock, sign } = this.#options
    const deadline = clock.nowMs() + timeoutMs
    try {
      return await sign(entry, audience, timeoutMs)
    } catch (error) {
      const left = deadline - clock.nowMs()
      const final = !(error instanceof StatusError) || error instanceof OutdatedError || FINAL.has(error.code)
      if (final || left < 1000) throw error
      // Once more: a server that is restarting or rotating its key answers the second time.
      return sign(entry, audience, left)
    }
  }

  #touch(key: string, svid: JwtSvid): void {
    this.#tokens.delete(key)
    this.#tokens.set(key, svid)
    for (const oldest of this.#tokens.keys()) {
      if (this.#tokens.size <= this.#options.maxSize) break
      this.#tokens.delete(oldest)
    }
  }
}
