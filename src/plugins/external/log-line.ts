import { isJsonObject } from '../../core/json-object.ts'
import type { Log, LogFields } from '../../core/log.ts'

/** Members of one line that are shown. */
const MAX_FIELDS = 32
const PREFIXES: Readonly<Record<string, Level>> = {
  '[TRACE]': 'trace',
  '[DEBUG]': 'debug',
  '[INFO]': 'info',
  '[WARN]': 'warn',
  '[ERROR]': 'error',
}
const LEVELS: readonly string[] = ['trace', 'debug', 'info', 'warn', 'error']
const OURS: ReadonlySet<string> = new Set([
  'level',
  'msg',
  'time',
  'plugin_name',
  'plugin_type',
  'external',
  'subsystem_name',
])
type Level = 'trace' | 'debug' | 'info' | 'warn' | 'error'

/**
 * Makes a reader of what a plugin writes to stderr, line by line: JSON of hclog keeps its level and fields, text its level where it begins
 * with one, and the rest is for debugging. What follows `panic:` is why it died.
 * @see cli-and-config.md 12.1
 */
export function logLines(log: Log): (line: string) => void {
  let panics = false
  return (line) => {
    if (line.trim() === '') return
    const entry = jsonEntry(line)
    if (entry !== undefined) {
      write(log, entry.level, entry.message, entry.fields)
      return
    }
    panics ||= /^(?:panic|fatal error): /.test(line)
    const prefix = /^\[[A-Z]+\]/.exec(line)?.[0]
    const level = prefix !== undefined && Object.hasOwn(PREFIXES, prefix) ? PREFIXES[prefix]! : undefined
    write(log, panics ? 'error' : (level ?? 'debug'), level === undefined ? line : line.slice(prefix!.length).trim())
  }
}

function jsonEntry(line: string): { level: Level; message: string; fields: LogFields } | undefined {
  if (!line.startsWith('{')) return undefined
  let entry: unknown
  try {
    entry = JSON.parse(line)
  } catch {
    return undefined
  }
  if (!isJsonObject(entry)) return undefined
  const { '@level': level, '@message': message, '@timestamp': timestamp } = entry
  if (typeof message !== 'string') return undefined
  const fields: Record<string, string | number | boolean> = {}
  for (const [name, value] of Object.entries(entry).slice(0, MAX_FIELDS)) {
    if (name === '@level' || name === '@message' || name === '@timestamp') continue
    const plain = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    // A plugin does not say who it is, nor what our own fields say.
    fields[OURS.has(name) ? `fields.${name}` : name] = plain ? value : JSON.stringify(value)
  }
  if (typeof timestamp === 'string') fields.timestamp = timestamp
  return { level: LEVELS.includes(level as string) ? (level as Level) : 'debug', message, fields }
}

/** SPIRE's adapter leaves out what is finer than debug. */
function write(log: Log, level: Level, message: string, fields?: LogFields): void {
  if (level !== 'trace') log[level](message, fields)
}
