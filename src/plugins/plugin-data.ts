import type { PlainObject, PlainValue } from '../config/plain.ts'

// Readers of values in `plugin_data`.

/** A string of `plugin_data`; empty if it is absent. @throws Error if it is something else */
export function textOf(data: PlainObject, key: string): string {
  const value = data[key]
  if (value === undefined) return ''
  if (typeof value === 'string') return value
  if (typeof value === 'number') return String(value)
  throw new Error(`unable to decode configuration: ${key} is not a string`)
}

/** A string that must be there. @throws Error with SPIRE's text */
export function requiredText(data: PlainObject, key: string): string {
  const text = textOf(data, key)
  if (text === '') throw new Error(`${key} is required`)
  return text
}

/** A block. @throws Error if it is something else */
export function objectOf(value: PlainValue | undefined): PlainObject {
  if (typeof value !== 'object' || Array.isArray(value)) throw new Error('unable to decode configuration: not a block')
  return value as PlainObject
}

export function isGiven(data: PlainObject, key: string): boolean {
  return data[key] !== undefined && data[key] !== ''
}

/** Refuses data for a plugin that takes none. */
export function withoutData(data: PlainObject): void {
  if (Object.keys(data).length > 0) throw new Error('no supported configuration interface found')
}
