import { loadHeapTrim } from '../transport/runtime.ts'
import type { PeriodicTask } from './periodic.ts'

/** What the process uses at a moment. */
export interface Usage {
  /** Since its start, milliseconds. */
  readonly cpuMs: number
  readonly residentBytes: number
  readonly heapBytes: number
}

const EVERY_MS = 10_000
/** Of the time between two looks: below it the process is idle. */
const IDLE_SHARE = 0.02
const WORTH_BYTES = 16 * 1024 * 1024
/** A larger heap would hold up whoever calls in that moment for longer than a few tens of milliseconds. */
const HEAP_AT_MOST_BYTES = 64 * 1024 * 1024

/**
 * Gives memory back once a burst is over: V8 keeps what it grew to as long as nobody asks for it, and a thousand connections of strangers,
 * or the start of all workloads of a node, would be paid for until the next restart.
 * @param collect collects all garbage and returns what is free
 */
export function idleMemoryTask(usage: () => Usage, collect: () => Promise<void>): PeriodicTask {
  let before = usage()
  /** What was used when nothing more could be given back; the least that was seen. */
  let floorBytes = before.residentBytes
  return {
    everyMs: EVERY_MS,
    failure: 'Could not give memory back',
    async run() {
      const now = usage()
      const idle = now.cpuMs - before.cpuMs < EVERY_MS * IDLE_SHARE
      before = now
      floorBytes = Math.min(floorBytes, now.residentBytes)
      if (!idle || now.heapBytes > HEAP_AT_MOST_BYTES || now.residentBytes < floorBytes + WORTH_BYTES) return
      await collect()
      before = usage()
      floorBytes = before.residentBytes
    },
  }
}

/** The task for this process; none where the runtime was not started with `--expose-gc`, as the launchers do with Node. */
export function idleMemoryTasks(): readonly PeriodicTask[] {
  const { gc } = globalThis
  if (!gc || process.versions.bun || process.versions.deno) return []
  let trim: (() => void) | undefined
  const collect = async () => {
    trim ??= await loadHeapTrim()
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' })
    trim()
  }
  return [idleMemoryTask(usageOfProcess, collect)]
}

function usageOfProcess(): Usage {
  const { user, system } = process.cpuUsage()
  const { rss, heapUsed } = process.memoryUsage()
  return { cpuMs: (user + system) / 1000, residentBytes: rss, heapBytes: heapUsed }
}
