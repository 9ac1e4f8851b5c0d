import { type Log, type LogFields, loggable } from '../core/log.ts'

/** A log in the JSON of go-hclog, a line each: hosts read it from a plugin's stderr and write it into their own log. */
export function hclog(write: (line: string) => void, now: () => Date = () => new Date()): Log {
  const logWith = (base: LogFields): Log => {
    const at = (level: string) => (message: string, fields?: LogFields) =>
      write(
        `${JSON.stringify({
          ...base,
          ...fields,
          '@level': level,
          '@message': loggable(message),
          '@timestamp': now().toISOString().replace('Z', '000Z'),
        })}\n`,
      )
    return {
      debug: at('debug'),
      info: at('info'),
      warn: at('warn'),
      error: at('error'),
      child: (fields) => logWith({ ...base, ...fields }),
      // Which lines are kept is decided by the host.
      debugEnabled: true,
    }
  }
  return logWith({})
}
