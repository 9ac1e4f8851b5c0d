import { ConfigError } from './hcl.ts'

export type LogLevelName = 'panic' | 'fatal' | 'error' | 'warning' | 'info' | 'debug' | 'trace'

/** `''` is the text format with whole seconds, SPIRE's default. */
export interface LoggingOptions {
  readonly level: LogLevelName
  readonly format: '' | 'text' | 'json'
  /** Empty: standard output. */
  readonly file: string
  readonly sourceLocation: boolean
}

const LEVELS: Readonly<Record<string, LogLevelName>> = {
  panic: 'panic',
  fatal: 'fatal',
  error: 'error',
  warn: 'warning',
  warning: 'warning',
  info: 'info',
  debug: 'debug',
  trace: 'trace',
}

/** @throws ConfigError `could not start logger: ...` */
export function readLogging(fields: {
  readonly log_level?: string
  readonly log_format?: string
  readonly log_file?: string
  readonly log_source_location?: boolean
}): LoggingOptions {
  const level = LEVELS[(fields.log_level || 'INFO').toLowerCase()]
  if (!level)
    throw new ConfigError(`could not start logger: not a valid logrus Level: ${JSON.stringify(fields.log_level)}`)
  const format = (fields.log_format ?? '').toLowerCase()
  if (format !== '' && format !== 'text' && format !== 'json') {
    throw new ConfigError(`could not start logger: unknown logger format: ${JSON.stringify(fields.log_format)}`)
  }
  return { level, format, file: fields.log_file ?? '', sourceLocation: fields.log_source_location ?? false }
}
