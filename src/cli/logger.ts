import { closeSync, openSync, writeSync } from 'node:fs'
import type { LoggingOptions } from '../config/logging.ts'
import { type Log, type LogFields, type LogLevel, loggable } from '../core/log.ts'

const SEVERITY: Readonly<Record<LogLevel, number>> = {
  panic: 0,
  fatal: 1,
  error: 2,
  warning: 3,
  info: 4,
  debug: 5,
  trace: 6,
}

/** Members of a list that a line shows. */
const MAX_LISTED = 64

/** The process's log: SPIRE's formats, its level changeable while it runs. */
export interface ProcessLog {
  readonly log: Log
  readonly launchLevel: LogLevel
  level: LogLevel
  /** Opens `log_file` anew, after a rotation moved it away. */
  reopen(): void
  close(): void
}

/**
 * Opens the log. Lines go out at once: what was logged before a crash is what one wants to read after it.
 * @throws Error if the file cannot be opened
 */
export function openLog(options: LoggingOptions, now: () => Date = () => new Date()): ProcessLog {
  let descriptor = options.file === '' ? 1 : openSync(options.file, 'a', 0o640)
  const format = options.format === 'json' ? jsonLine : options.format === 'text' ? preciseTextLine : textLine
  let level = options.level

  function write(at: LogLevel, message: string, fields: LogFields): void {
    if (SEVERITY[at] > SEVERITY[level]) return
    const line = format(now(), at, loggable(message), bounded(fields))
    try {
      writeSync(descriptor, line)
    } catch (error) {
      // A full pipe or disk must not take the identity service down with it; anything else would be hidden by this.
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'EAGAIN' && code !== 'EPIPE' && code !== 'ENOSPC') throw error
    }
  }

  function logWith(base: LogFields): Log {
    const merged = (fields: LogFields | undefined) => (fields ? { ...base, ...fields } : base)
    return {
      debug: (message, fields) => write('debug', message, merged(fields)),
      info: (message, fields) => write('info', message, merged(fields)),
      warn: (message, fields) => write('warning', message, merged(fields)),
      error: (message, fields) => write('error', message, merged(fields)),
      child: (fields) => logWith({ ...base, ...fields }),
      get debugEnabled() {
        return SEVERITY[level] >= SEVERITY.debug
      },
    }
  }

  return {
    log: logWith({}),
    launchLevel: options.level,
    get level() {
      return level
    },
    set level(next) {
      level = next
    },
    reopen() {
      if (options.file === '') return
      const former = descriptor
      descriptor = openSync(options.file, 'a', 0o640)
      closeSync(former)
    },
    close() {
      if (options.file !== '') closeSync(descriptor)
    },
  }
}

function bounded(fields: LogFields): LogFields {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name,
      typeof value === 'string'
        ? loggable(value)
        : Array.isArray(value)
          ? value.slice(0, MAX_LISTED).map((one) => loggable(one))
          : value,
    ]),
  )
}

function textLine(at: Date, level: LogLevel, message: string, fields: LogFields): string {
  return `time=${quoted(`${at.toISOString().slice(0, 19)}Z`)} level=${level} msg=${quoted(message)}${pairs(fields)}\n`
}

function preciseTextLine(at: Date, level: LogLevel, message: string, fields: LogFields): string {
  return `time=${quoted(nanoseconds(at))} level=${level} msg=${quoted(message)}${pairs(fields)}\n`
}

function jsonLine(at: Date, level: LogLevel, message: string, fields: LogFields): string {
  const entries: [string, unknown][] = [
    ...present(fields),
    ['level', level],
    ['msg', message],
    ['time', nanoseconds(at)],
  ]
  return `${quotedText(Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1))))}\n`
}

function nanoseconds(at: Date): string {
  return at
    .toISOString()
    .replace(/\.(\d{3})Z$/, '.$1000000Z')
    .replace(/\.?0+Z$/, 'Z')
}

function present(fields: LogFields): [string, NonNullable<LogFields[string]>][] {
  return Object.entries(fields).filter(
    (entry): entry is [string, NonNullable<LogFields[string]>] => entry[1] !== undefined,
  )
}

function pairs(fields: LogFields): string {
  let text = ''
  for (const [key, value] of present(fields).sort(([a], [b]) => (a < b ? -1 : 1))) {
    text += ` ${key}=${quoted(Array.isArray(value) ? `[${value.join(' ')}]` : String(value))}`
  }
  return text
}

const PLAIN = /^[a-zA-Z0-9\-._/@^+]+$/

/** Values with other characters are quoted as Go's %q does. */
function quoted(value: string): string {
  return PLAIN.test(value) ? value : quotedText(value)
}

/** JSON leaves these as they are, and terminals obey them. */
const CONTROL = /[\x7f-\x9f]/g

function quotedText(value: unknown): string {
  return JSON.stringify(value).replace(CONTROL, (character) => `\\u00${character.charCodeAt(0).toString(16)}`)
}
