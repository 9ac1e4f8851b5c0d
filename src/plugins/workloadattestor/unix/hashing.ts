import { Worker } from 'node:worker_threads'
import type { HashingAnswer, HashingRequest } from './hashing-worker.ts'

type Result = NonNullable<HashingAnswer['result']>

interface Waiting {
  readonly resolve: (result: Result) => void
  readonly reject: (error: unknown) => void
}

const IDLE_MS = 10_000

/** A thread that hashes files. It is started by the first one, and ended when it had nothing to do for ten seconds. */
export class HashingThread {
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #lastId = 0
  #idle: NodeJS.Timeout | undefined

  /** @throws Error if the file cannot be read, or the signal aborts */
  hash(path: string, signal: AbortSignal): Promise<Result> {
    signal.throwIfAborted()
    clearTimeout(this.#idle)
    const worker = this.#worker ?? this.#start()
    this.#lastId += 1
    const id = this.#lastId
    const { promise, resolve, reject } = Promise.withResolvers<Result>()
    const leave = () => {
      worker.postMessage({ id } satisfies HashingRequest)
      this.#take(id)?.reject(signal.reason)
    }
    signal.addEventListener('abort', leave, { once: true })
    this.#waiting.set(id, { resolve, reject })
    worker.postMessage({ id, path } satisfies HashingRequest)
    return promise.finally(() => signal.removeEventListener('abort', leave))
  }

  #start(): Worker {
    const worker = new Worker(new URL('./hashing-worker.ts', import.meta.url))
    worker.unref()
    worker.on('message', ({ id, result, error }: HashingAnswer) => {
      const waiting = this.#take(id)
      if (result) waiting?.resolve(result)
      else waiting?.reject(new Error(error))
    })
    worker.on('error', (error) => {
      this.#worker = undefined
      for (const id of [...this.#waiting.keys()]) this.#take(id)?.reject(error)
    })
    this.#worker = worker
    return worker
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (this.#waiting.size === 0) {
      clearTimeout(this.#idle)
      this.#idle = setTimeout(() => {
        void this.#worker?.terminate()
        this.#worker = undefined
      }, IDLE_MS).unref()
    }
    return waiting
  }
}
