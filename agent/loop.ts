import { errorMessage } from '../src/core/error.ts'
import type { Log } from '../src/core/log.ts'

export interface LoopOptions {
  /** Milliseconds between the end of one run and the start of the next. */
  readonly intervalMs: number
  /** After failures the wait grows by half each time up to this. */
  readonly maxIntervalMs: number
  /** Uniform in [0, 1); waits vary by 10 per cent. */
  readonly random: () => number
  readonly signal: AbortSignal
  /** Line logged when a run fails. */
  readonly failure: string
  readonly log: Log
  /** Errors that end the loop, and with it the agent. */
  readonly fatal?: (error: unknown) => boolean
}

/**
 * Runs a task again and again, one run at a time, until the signal aborts or an error is fatal. `kick()` starts the next run
 * at once; kicks during a run are one run more after it.
 */
export class Loop {
  readonly #task: () => Promise<void>
  readonly #options: LoopOptions
  #wake: (() => void) | undefined
  #kicked = false

  constructor(task: () => Promise<void>, options: LoopOptions) {
    this.#task = task
    this.#options = options
  }

  kick(): void {
    this.#kicked = true
    this.#wake?.()
  }

  /** Resolves when the signal aborts; rejects with a fatal error of the task. The first run comes after one interval. */
  async run(): Promise<void> {
    const { intervalMs, maxIntervalMs, random, signal, failure, log, fatal } = this.#options
    let waitMs = intervalMs
    while (!signal.aborted) {
      await this.#pause(waitMs * (0.9 + random() * 0.2))
      if (signal.aborted) return
      this.#kicked = false
      try {
        await this.#task()
        waitMs = intervalMs
      } catch (error) {
        if (signal.aborted) return
        if (fatal?.(error)) throw error
        log.error(failure, { error: errorMessage(error) })
        waitMs = Math.min(waitMs * 1.5, maxIntervalMs)
      }
    }
  }

  #pause(ms: number): Promise<void> {
    if (this.#kicked || this.#options.signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#options.signal.removeEventListener('abort', done)
        this.#wake = undefined
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#wake = done
      this.#options.signal.addEventListener('abort', done)
    })
  }
}
