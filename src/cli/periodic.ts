import { errorMessage } from '../core/error.ts'
import type { Log } from '../core/log.ts'

export interface PeriodicTask {
  readonly everyMs: number
  /** Waits vary by this part of the interval, so that replicas do not act together; default 0. */
  readonly jitter?: number
  /** The line logged when a run fails; the next run comes all the same. Absent: the task logs its failures itself. */
  readonly failure?: string
  run(): Promise<void>
}

/** Runs tasks on timers until the signal aborts, each one run at a time. Timers do not keep the process alive. */
export function runPeriodically(tasks: readonly PeriodicTask[], signal: AbortSignal, log: Log): void {
  for (const task of tasks) schedule(task, signal, log)
}

function schedule(task: PeriodicTask, signal: AbortSignal, log: Log): void {
  if (signal.aborted) return
  const jitter = (Math.random() * 2 - 1) * (task.jitter ?? 0)
  const timer = setTimeout(
    async () => {
      try {
        await task.run()
      } catch (error) {
        if (task.failure !== undefined && !signal.aborted) log.error(task.failure, { error: errorMessage(error) })
      }
      signal.removeEventListener('abort', stop)
      schedule(task, signal, log)
    },
    task.everyMs * (1 + jitter),
  )
  timer.unref()
  const stop = () => clearTimeout(timer)
  signal.addEventListener('abort', stop, { once: true })
}

/** Resolves after some milliseconds, or when the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    if (signal.aborted) done()
    else signal.addEventListener('abort', done, { once: true })
  })
}
