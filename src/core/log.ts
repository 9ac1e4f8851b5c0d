/** Structured log fields. Names are SPIRE's (`spiffe_id`, `entry_id`, `error`, ...). Never a secret. */
export type LogFields = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>

export type LogLevel = 'panic' | 'fatal' | 'error' | 'warning' | 'info' | 'debug' | 'trace'

/** The one logging interface of the project; the backend is chosen where the process is wired. */
export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** A log that adds these fields to every line. */
  child(fields: LogFields): Log
  /** True if debug lines are written: lets hot paths skip building them. */
  readonly debugEnabled: boolean
}

/** Long enough for any chain of errors; what comes from outside may be megabytes. */
const MAX_LOGGED = 4096

/** A text as a log may hold it. */
export function loggable(text: string): string {
  if (text.length <= MAX_LOGGED) return text
  return `${text.slice(0, MAX_LOGGED)}... (${text.length - MAX_LOGGED} more)`
}

/** A log that writes nothing. */
export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
  debugEnabled: false,
}
