import { ConfigError, configErrorAt, type HclItem, type HclNode, type HclObject } from './hcl.ts'

/** The kinds of value a key can have. */
export type FieldType = 'string' | 'int' | 'bool' | 'strings' | Fields | { readonly list: Fields } | 'any'

/** Keys of an object, lower case, with their types. */
export interface Fields {
  readonly [key: string]: FieldType
}

/** What a type of field decodes to; undefined where the key is absent. */
export type Decoded<T extends FieldType> = T extends 'string'
  ? string
  : T extends 'int'
    ? number
    : T extends 'bool'
      ? boolean
      : T extends 'strings'
        ? readonly string[]
        : T extends 'any'
          ? readonly HclItem[]
          : T extends { readonly list: infer F extends Fields }
            ? readonly DecodedObject<F>[]
            : T extends Fields
              ? DecodedObject<T>
              : never

export type DecodedObject<F extends Fields> = { readonly [K in keyof F]?: Decoded<F[K]> }

/** Keys that no schema knows, by the name of the section they stand in. */
export interface UnknownKeys {
  readonly section: string
  readonly keys: readonly string[]
}

export interface DecodeOptions {
  /** Path for error texts, `root.server`. */
  readonly path: string
  /** Called once per object that holds unknown keys; quoted keys count only in JSON files, as in SPIRE. */
  readonly unknown?: (path: string, keys: readonly string[]) => void
}

/**
 * Turns a parsed object into plain values by a schema. Keys are matched without regard to case; blocks that come several times
 * are merged, of scalars the last counts.
 *
 * @throws ConfigError for values of a wrong type, with the place
 */
export function decodeObject<F extends Fields>(object: HclObject, fields: F, options: DecodeOptions): DecodedObject<F> {
  const groups = new Map<string, HclItem[]>()
  const unknown: string[] = []
  for (const item of object.items) {
    const [first] = item.keys
    const key = first!.text.toLowerCase()
    if (!Object.hasOwn(fields, key)) {
      if (!first!.quoted || object.items.every(({ keys }) => keys[0]!.quoted)) unknown.push(first!.text)
      continue
    }
    const group = groups.get(key)
    if (group) group.push(item)
    else groups.set(key, [item])
  }
  if (unknown.length > 0) options.unknown?.(options.path, unknown.sort())
  const out: Record<string, unknown> = {}
  for (const [key, items] of groups)
    out[key] = decodeField(items, fields[key]!, { ...options, path: `${options.path}.${key}` })
  return out as DecodedObject<F>
}

function decodeField(items: readonly HclItem[], type: FieldType, options: DecodeOptions): unknown {
  const last = items[items.length - 1]!
  switch (type) {
    case 'any':
      return items
    case 'string':
      return decodeString(last.value, options.path)
    case 'int':
      return decodeInt(last.value, options.path)
    case 'bool':
      if (last.value.kind !== 'bool') throw wrongType(last.value, options.path)
      return last.value.text === 'true'
    case 'strings': {
      if (last.value.kind !== 'list')
        throw configErrorAt(last.value.position, `unknown slice type: ${goType(last.value)}`)
      return last.value.items.map((item) => decodeString(item, options.path))
    }
  }
  if ('list' in type) {
    return items
      .flatMap((item) => objectsOf(item, options.path))
      .map((object, index) =>
        decodeObject(object, type.list as Fields, { ...options, path: `${options.path}[${index}]` }),
      )
  }
  return decodeObject(merged(items, options.path), type as Fields, options)
}

/** Several blocks of one name, and lists of objects as JSON has them, as one object. */
export function merged(items: readonly HclItem[], path: string): HclObject {
  const objects = items.flatMap((item) => objectsOf(item, path))
  return { kind: 'object', items: objects.flatMap((object) => object.items), position: items[0]!.value.position }
}

/** The objects of an item; labels become an object around it, as HCL 1 sees it. */
function objectsOf(item: HclItem, path: string): HclObject[] {
  const { keys, value } = item
  if (keys.length > 1) {
    return [{ kind: 'object', position: value.position, items: [{ keys: keys.slice(1), value }] }]
  }
  if (value.kind === 'object') return [value]
  if (value.kind === 'list') {
    return value.items.map((one) => {
      if (one.kind !== 'object') throw notAnObject(value, path)
      return one
    })
  }
  throw notAnObject(value, path)
}

function decodeString(node: HclNode, path: string): string {
  if (node.kind === 'string' || node.kind === 'heredoc' || node.kind === 'number' || node.kind === 'float')
    return node.text
  throw configErrorAt(node.position, `${path}: unknown type for string ${goType(node)}`)
}

const INTEGER = /^[+-]?(?:0[xX][0-9a-fA-F]+|\d+)$/

function decodeInt(node: HclNode, path: string): number {
  if (node.kind !== 'number' && node.kind !== 'string') throw wrongType(node, path)
  if (!INTEGER.test(node.text) || !Number.isSafeInteger(Number(node.text))) {
    throw new ConfigError(`strconv.ParseInt: parsing ${JSON.stringify(node.text)}: invalid syntax`)
  }
  return Number(node.text)
}

function wrongType(node: HclNode, path: string): ConfigError {
  return configErrorAt(node.position, `${path}: unknown type ${goType(node)}`)
}

function notAnObject(node: HclNode, path: string): ConfigError {
  return configErrorAt(node.position, `${path}: not an object type for struct (${goType(node)})`)
}

/** What the Go library calls a node; part of SPIRE's texts. */
function goType(node: HclNode): string {
  return node.kind === 'list' ? '*ast.ListType' : node.kind === 'object' ? '*ast.ObjectList' : '*ast.LiteralType'
}
