import { hintOfFlag } from '../config/old-words.ts'

/**
 * One flag of a command, as Go's `flag` package knows it. `initial` is what the flag is without being given;
 * `set` gets the text of each occurrence and what the flag is so far.
 */
export interface Flag<T> {
  readonly help: string
  /** The word after the name in the usage text; empty for booleans. */
  readonly word: string
  /** Booleans take no separate word: `-x` or `-x=false`. */
  readonly bare: boolean
  readonly initial: T
  /** Printed as the default; absent for Go's zero values. */
  readonly shown?: string
  /** The command line that explains the flag; usage texts name it instead of the flag. */
  readonly explainedBy?: string
  /** @throws FlagValueError */
  set(text: string, before: T): T
}

// biome-ignore lint/suspicious/noExplicitAny: a table holds flags of many types; FlagValues recovers each.
export type FlagTable = Readonly<Record<string, Flag<any>>>

/** What a command gets: the value of each flag of its table. */
export type FlagValues<T extends FlagTable> = { readonly [K in keyof T]: T[K] extends Flag<infer V> ? V : never }

/** The complaint about a flag's value, without the flag's name. */
export class FlagValueError extends Error {}

const flag = <T>(word: string, help: string, initial: T, set: Flag<T>['set'], shown?: string): Flag<T> => ({
  help,
  word,
  bare: false,
  initial,
  set,
  ...(shown === undefined ? {} : { shown }),
})

/** A string; the last occurrence counts. */
export function text(help: string, initial = ''): Flag<string> {
  return flag('string', help, initial, (value) => value, initial === '' ? undefined : `"${initial}"`)
}

/** A whole number in Go's notation (`0x`, `0o`, `0b` and `_` allowed) within 64 bits. */
export function integer(help: string, initial = 0): Flag<number> {
  return flag('int', help, initial, parseInteger, initial === 0 ? undefined : String(initial))
}

/** `-name`, `-name=false`. */
export function boolean(help: string): Flag<boolean> {
  return { ...flag('', help, false, parseBoolean), bare: true }
}

/** True once given, whatever value it is given: Go's BoolFunc, which SPIRE has in two places. */
export function given(help: string): Flag<boolean> {
  return { ...flag('', help, false as boolean, () => true), bare: true }
}

/** A Go duration, in seconds. */
export function duration(help: string, initialSeconds = 0): Flag<number> {
  const set = (value: string): number => {
    const seconds = parseDuration(value)
    if (seconds === undefined) throw new FlagValueError('parse error')
    return seconds
  }
  return flag('duration', help, initialSeconds, set, initialSeconds === 0 ? undefined : durationText(initialSeconds))
}

/** A Go duration in seconds, for the flags which SPIRE declares with a type of its own. */
export function durationValue(help: string, initialSeconds: number): Flag<number> {
  const set = (value: string): number => {
    const seconds = parseDuration(value)
    if (seconds === undefined) throw new FlagValueError(`time: invalid duration ${JSON.stringify(value)}`)
    return seconds
  }
  return flag('value', help, initialSeconds, set, durationText(initialSeconds))
}

/** Strings, one an occurrence. */
export function texts(help: string): Flag<readonly string[]> {
  return flag<readonly string[]>('value', help, [], (value, before) => [...before, value])
}

/** Strings separated by commas; a second occurrence replaces the first. */
export function commaTexts(help: string): Flag<readonly string[]> {
  return flag<readonly string[]>('value', help, [], (value) => value.split(','))
}

/** `true`, `false`, or anything else for "no matter". Needs a value, unlike a boolean. */
export function triState(help: string): Flag<boolean | undefined> {
  return flag<boolean | undefined>('value', help, undefined, (value) =>
    value === 'true' ? true : value === 'false' ? false : undefined,
  )
}

/** What came of parsing: the values, or the complaint to print before the usage text, or the wish for help. */
export type ParsedFlags =
  | { readonly kind: 'values'; readonly values: Record<string, unknown> }
  | { readonly kind: 'error'; readonly message: string; readonly hint?: string | undefined }
  | { readonly kind: 'help' }

/** Parses arguments as Go's `flag` package does: up to the first word that is no flag, or `--`. */
export function parseFlags(table: FlagTable, args: readonly string[]): ParsedFlags {
  const values: Record<string, unknown> = {}
  for (const name of Object.keys(table)) values[name] = table[name]!.initial
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!
    if (arg.length < 2 || arg[0] !== '-' || arg === '--') break
    const body = arg.slice(arg[1] === '-' ? 2 : 1)
    if (body === '' || body[0] === '-' || body[0] === '=') return { kind: 'error', message: `bad flag syntax: ${arg}` }
    const equals = body.indexOf('=', 1)
    const name = equals < 0 ? body : body.slice(0, equals)
    let value = equals < 0 ? undefined : body.slice(equals + 1)
    const known = Object.hasOwn(table, name) ? table[name] : undefined
    if (known === undefined) {
      if (name === 'help' || name === 'h') return { kind: 'help' }
      return { kind: 'error', message: `flag provided but not defined: -${name}`, hint: hintOfFlag(name) }
    }
    if (value === undefined) {
      if (known.bare) value = 'true'
      else if (i + 1 < args.length) value = args[++i]!
      else return { kind: 'error', message: `flag needs an argument: -${name}` }
    }
    try {
      values[name] = known.set(value, values[name])
    } catch (error) {
      if (!(error instanceof FlagValueError)) throw error
      const what = known.bare ? 'invalid boolean value' : 'invalid value'
      const where = known.bare ? `for -${name}` : `for flag -${name}`
      return { kind: 'error', message: `${what} ${JSON.stringify(value)} ${where}: ${error.message}` }
    }
  }
  return { kind: 'values', values }
}

/**
 * Go's usage text of a flag set: `Usage of <name>:` and two lines a flag, sorted by name. Flags that are explained elsewhere are left
 * out; a last line says where.
 */
export function usageText(name: string, table: FlagTable): string {
  let out = `Usage of ${name}:\n`
  const elsewhere = new Set<string>()
  for (const key of Object.keys(table).sort()) {
    const { word, help, shown, explainedBy } = table[key]!
    if (explainedBy !== undefined) {
      elsewhere.add(explainedBy)
      continue
    }
    const head = `  -${key}${word === '' ? '' : ` ${word}`}`
    // Go puts the help of one-letter booleans on the same line.
    const gap = head.length <= 4 ? '\t' : '\n    \t'
    const tail = shown === undefined ? '' : ` (default ${shown})`
    out += `${head}${gap}${help.replaceAll('\n', '\n    \t')}${tail}\n`
  }
  for (const commandLine of elsewhere) out += `More flags: ${commandLine}\n`
  return out
}

const UNIT_SECONDS: Readonly<Record<string, number>> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  μs: 1e-6,
  ms: 1e-3,
  s: 1,
  m: 60,
  h: 3600,
}
const MAX_DURATION_SECONDS = 2 ** 63 / 1e9

/** Reads a Go duration (`1h30m`, `-1.5s`, `0`); undefined if it is none or beyond 292 years. In seconds. */
export function parseDuration(value: string): number | undefined {
  const signed = /^([+-]?)(.+)$/s.exec(value)
  if (signed === null) return undefined
  const [, sign, rest] = signed
  if (rest === '0') return 0
  const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y
  let seconds = 0
  while (part.lastIndex < rest!.length) {
    const found = part.exec(rest!)
    if (found === null) return undefined
    seconds += Number(found[1]) * UNIT_SECONDS[found[2]!]!
  }
  if (seconds > MAX_DURATION_SECONDS) return undefined
  return sign === '-' ? -seconds : seconds
}

/** Go's text of a duration of whole seconds: `5s`, `1m0s`, `720h0m0s`. */
export function durationText(seconds: number): string {
  if (seconds < 60) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m${seconds % 60}s`
  return `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds % 60}s`
}

function parseInteger(value: string): number {
  const match = /^([+-]?)(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|0[0-7_]*|[1-9][0-9_]*)$/.exec(value)
  if (match === null) throw new FlagValueError('parse error')
  const digits = match[2]!.replaceAll('_', '').replace(/^0(?=[0-7])/, '0o')
  const magnitude = BigInt(digits)
  if (magnitude > (1n << 63n) - (match[1] === '-' ? 0n : 1n)) throw new FlagValueError('value out of range')
  return Number(match[1] === '-' ? -magnitude : magnitude)
}

function parseBoolean(value: string): boolean {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false
  throw new FlagValueError('parse error')
}
