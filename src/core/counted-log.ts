import type { Clock } from './clock.ts'
import type { Log, LogFields } from './log.ts'

/** A log for lines that somebody can have written as often as they like. */
export interface CountedLog {
  /** The log of one caller. The fields say who it is: lines of one text are counted by them, and a sum carries them. */
  of(caller: LogFields): Log
  /** Writes the sums of what was not written. To be called now and then: otherwise the next line of anybody does it. */
  sumUp(): void
}

export interface CountedLogOptions {
  readonly clock: Clock
  /** Lines of one caller with one text that are written in full in a period; default 10. */
  readonly lines?: number
  /** Default one minute. */
  readonly periodMs?: number
  /** Kinds of lines that are told apart in a period; callers beyond it are counted together. Default 4096. */
  readonly kinds?: number
}

interface Kind {
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly caller: LogFields
  count: number
}

const OTHERS: LogFields = { caller: 'others' }

/** Writes the first few lines of a kind, and says of the rest how many there were. Debug lines all pass: they are asked for. */
export function countedLog(log: Log, options: CountedLogOptions): CountedLog {
  const { clock, lines = 10, periodMs = 60_000, kinds: maxKinds = 4096 } = options
  let kinds = new Map<string, Kind>()
  let startedMs = clock.nowMs()

  function sumUp(): void {
    startedMs = clock.nowMs()
    const over = kinds
    kinds = new Map()
    for (const { level, message, caller, count } of over.values()) {
      if (count > lines)
        log[level](`${message} (and ${count - lines} more like it)`, { ...caller, count: count - lines })
    }
  }

  function countOf(level: Kind['level'], message: string, caller: LogFields): number {
    if (clock.nowMs() - startedMs >= periodMs) sumUp()
    const known = JSON.stringify([level, message, caller])
    const named = kinds.has(known) || kinds.size < maxKinds
    const key = named ? known : JSON.stringify([level, message])
    let kind = kinds.get(key)
    if (kind === undefined) {
      kind = { level, message, caller: named ? caller : OTHERS, count: 0 }
      kinds.set(key, kind)
    }
    kind.count += 1
    return kind.count
  }

  function logOf(to: Log, caller: LogFields): Log {
    const write = (level: Kind['level']) => (message: string, fields?: LogFields) => {
      if (countOf(level, message, caller) <= lines) to[level](message, fields)
    }
    return {
      debug: (message, fields) => to.debug(message, fields),
      info: write('info'),
      warn: write('warn'),
      error: write('error'),
      child: (fields) => logOf(to.child(fields), caller),
      get debugEnabled() {
        return to.debugEnabled
      },
    }
  }

  return { of: (caller) => logOf(log, caller), sumUp }
}
