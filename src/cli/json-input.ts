import { isJsonObject } from '../core/json-object.ts'
import { CommandError } from './failure.ts'

/** An object from a user's JSON file, whose member names are matched without regard to case, as Go does. */
export interface JsonObject {
  string(name: string): string
  boolean(name: string): boolean
  integer(name: string): number
  strings(name: string): string[]
  /** Undefined when missing or null. */
  object(name: string): JsonObject | undefined
  objects(name: string): JsonObject[]
  /** The value as it is, for members of several types. */
  value(name: string): unknown
}

/**
 * Reads the JSON object of a file. Unknown members are ignored, as SPIRE does.
 * @param what the name of the whole in complaints, as Go has it
 * @throws CommandError
 */
export function jsonObject(bytes: Uint8Array, what: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder().decode(bytes))
  } catch (error) {
    const text = (error as Error).message
    throw new CommandError(/end of JSON/.test(text) ? 'unexpected end of JSON input' : `invalid JSON: ${text}`)
  }
  return reader(value ?? {}, what)
}

function reader(value: unknown, what: string): JsonObject {
  if (!isJsonObject(value)) throw mismatch(value, what, 'object')
  const members = new Map<string, unknown>()
  for (const [name, member] of Object.entries(value)) members.set(name.toLowerCase(), member)
  const typed = <T>(name: string, type: string, fallback: T): T => {
    const member = members.get(name.toLowerCase())
    if (member === undefined || member === null) return fallback
    if (typeof member !== type) throw mismatch(member, `${what}.${name}`, type)
    return member as T
  }
  const list = (name: string): unknown[] => {
    const member = members.get(name.toLowerCase()) ?? []
    if (!Array.isArray(member)) throw mismatch(member, `${what}.${name}`, 'list')
    return member
  }
  return {
    string: (name) => typed(name, 'string', ''),
    boolean: (name) => typed(name, 'boolean', false),
    integer: (name) => {
      const number = typed(name, 'number', 0)
      if (!Number.isSafeInteger(number)) throw mismatch(number, `${what}.${name}`, 'integer')
      return number
    },
    strings: (name) =>
      list(name).map((item) => {
        if (typeof item !== 'string') throw mismatch(item, `${what}.${name}`, 'string')
        return item
      }),
    object: (name) => {
      const member = members.get(name.toLowerCase())
      return member === undefined || member === null ? undefined : reader(member, `${what}.${name}`)
    },
    objects: (name) => list(name).map((item) => reader(item, `${what}.${name}`)),
    value: (name) => members.get(name.toLowerCase()),
  }
}

function mismatch(value: unknown, where: string, wanted: string): CommandError {
  const found = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
  return new CommandError(`json: cannot unmarshal ${found} into ${where} of type ${wanted}`)
}
