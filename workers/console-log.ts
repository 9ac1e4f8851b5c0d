import { type Log, type LogFields, type LogLevel, loggable } from '../src/core/log.ts'

const SEVERITY = { error: 2, warning: 3, info: 4, debug: 5 } as const
type Written = keyof typeof SEVERITY

const bounded = (_: string, value: unknown) => (typeof value === 'string' ? loggable(value) : value)

/** JSON lines on the console, with the field names of SPIRE's log. @param level the least severe that is written; default info */
export function consoleLog(level: LogLevel = 'info'): Log {
  const limit = SEVERITY[level as Written] ?? (level === 'trace' ? SEVERITY.debug : SEVERITY.error)
  const logWith = (base: LogFields): Log => {
    const write = (at: Written, message: string, fields: LogFields | undefined) => {
      if (SEVERITY[at] > limit) return
      const line = JSON.stringify(
        { time: new Date().toISOString(), level: at, msg: message, ...base, ...fields },
        bounded,
      )
      if (at === 'error') console.error(line)
      else if (at === 'warning') console.warn(line)
      else console.log(line)
    }
    return {
      debug: (message, fields) => write('debug', message, fields),
      info: (message, fields) => write('info', message, fields),
      warn: (message, fields) => write('warning', message, fields),
      error: (message, fields) => write('error', message, fields),
      child: (fields) => logWith({ ...base, ...fields }),
      debugEnabled: limit >= SEVERITY.debug,
    }
  }
  return logWith({})
}
