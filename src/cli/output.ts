import { base64 } from '../core/base64.ts'
import { type Flag, FlagValueError } from './flags.ts'

export type OutputFormat = 'pretty' | 'json'

const FORMATS: Readonly<Record<string, OutputFormat>> = { pretty: 'pretty', prettyprint: 'pretty', json: 'json' }

interface OutputChoice {
  readonly format: OutputFormat
  readonly given: boolean
}

/** The flag `-output`. Its value is an object, since giving it twice differently is an error. */
export function outputFlag(help = 'Desired output format (pretty, json); default: pretty.'): Flag<OutputChoice> {
  return {
    help,
    word: 'value',
    bare: false,
    initial: { format: 'pretty', given: false },
    set(text, before) {
      if (before.given && before.format !== text) {
        throw new FlagValueError(`the output format has already been set to "${before.format}"`)
      }
      const format = FORMATS[text.toLowerCase()]
      if (format === undefined) {
        throw new FlagValueError(`bad formatter flag: unknown format option: ${JSON.stringify(text)}`)
      }
      return { format, given: true }
    },
  }
}

/** Fields of 64 bits: protobuf's JSON has them as strings. No message of the APIs uses one of these names for 32 bits. */
const LONG_FIELDS = new Set([
  'createdAt',
  'expiresAt',
  'issuedAt',
  'lastSyncSuccess',
  'refreshHint',
  'revisionNumber',
  'sequenceNumber',
  'x509svidExpiresAt',
])

/** Fields whose keys are data and not field names. */
const MAP_FIELDS = new Set(['bundles', 'claims', 'federatedBundles'])

/**
 * SPIRE's JSON of one or more messages: one line, names of the .proto files, sorted. One message is an object, several
 * are an array.
 *
 * @param messages plain objects as ts-proto decodes them; numbers of enums must be names already
 */
export function messagesJson(...messages: readonly object[]): string {
  const values = messages.map((message) => messageValue(message))
  return `${goJson(values.length === 1 ? values[0] : values)}\n`
}

/** Go's JSON of a value whose members are in their final order and spelling. */
export function goJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function messageValue(message: object): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  const members = Object.entries(message)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => [snakeCase(name), fieldValue(name, value)] as const)
  for (const [name, value] of members.sort(([a], [b]) => (a < b ? -1 : 1))) out[name] = value
  return out
}

function fieldValue(name: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'number') return LONG_FIELDS.has(name) ? String(value) : value
  if (value instanceof Uint8Array) return base64(value)
  // An array never holds maps: `bundles` is a list of messages in one response and a map in another.
  if (Array.isArray(value)) return value.map((item) => (isMessage(item) ? messageValue(item) : fieldValue(name, item)))
  if (typeof value !== 'object' || value === null) return value
  return MAP_FIELDS.has(name) ? sortedMap(value) : messageValue(value)
}

function isMessage(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !(value instanceof Uint8Array)
}

/** A map or a free JSON object: keys stay as they are, in order; members without value are left out. */
export function sortedMap(value: object): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const key of Object.keys(value).sort()) {
    const item = (value as Record<string, unknown>)[key]
    if (item !== undefined && item !== null) out[key] = sortedValue(item)
  }
  return out
}

function sortedValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return base64(value)
  if (Array.isArray(value)) return value.map(sortedValue)
  return typeof value === 'object' && value !== null ? sortedMap(value) : value
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** `1 entry`, `2 entries`. */
export function counted(count: number, singular: string, plural: string): string {
  return `${count} ${count === 1 ? singular : plural}`
}

/** The text of a SPIFFE ID in a message; empty when it is missing. */
export function idText(id: { readonly trustDomain: string; readonly path: string } | undefined): string {
  return id === undefined ? '' : `spiffe://${id.trustDomain}${id.path}`
}
