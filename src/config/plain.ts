import type { HclNode, HclObject } from './hcl.ts'

/** A value as plugins read it: text, number, truth, list or object. */
export type PlainValue = string | number | boolean | readonly PlainValue[] | PlainObject

export interface PlainObject {
  readonly [key: string]: PlainValue
}

/**
 * `plugin_data` as plain values. Labels become nested objects; of keys that come several times, objects are merged and the last
 * scalar counts. Numbers stay text where a number would not keep them.
 */
export function plainObject(object: HclObject | undefined): PlainObject {
  const out: Record<string, PlainValue> = Object.create(null)
  for (const { keys, value } of object?.items ?? []) {
    const [first, ...labels] = keys.map((key) => key.text)
    const nested = labels.reduceRight<PlainValue>((inner, label) => ({ [label]: inner }), plainValue(value))
    const before = out[first!]
    out[first!] = isObject(before) && isObject(nested) ? { ...before, ...nested } : nested
  }
  return out
}

function plainValue(node: HclNode): PlainValue {
  if (node.kind === 'object') return plainObject(node)
  if (node.kind === 'list') {
    // JSON writes a block as a list of one object.
    const [only] = node.items
    return node.items.length === 1 && only!.kind === 'object' ? plainObject(only) : node.items.map(plainValue)
  }
  if (node.kind === 'bool') return node.text === 'true'
  if (node.kind === 'string' || node.kind === 'heredoc') return node.text
  const number = Number(node.text)
  return Number.isSafeInteger(number) || node.kind === 'float' ? number : node.text
}

function isObject(value: PlainValue | undefined): value is PlainObject {
  return typeof value === 'object' && !Array.isArray(value)
}
