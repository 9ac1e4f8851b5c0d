import { BinaryReader, BinaryWriter, base64Decode, base64Encode, WireType } from '@bufbuild/protobuf/wire'
import { ENUMS, MESSAGES, METHODS } from './json-schema.ts'
import { type Json, NumberText, parseJson } from './json-text.ts'

// The JSON form of messages, https://protobuf.dev/programming-guides/json, as a translation from text to wire bytes and back: methods
// take and give bytes, and no message needs code of its own.

/** Names of the request and the answer of a method; undefined: the method has no JSON form. */
export function jsonTypesOf(path: string): { readonly request: string; readonly response: string } | undefined {
  const [, scope, method] = /^\/([\w.]+)\.\w+\/(\w+)$/.exec(path) ?? []
  const names = Object.hasOwn(METHODS, path) ? METHODS[path]! : `${scope}.${method}Request ${scope}.${method}Response`
  const [request, response] = names.split(' ') as [string, string]
  return Object.hasOwn(MESSAGES, request) && Object.hasOwn(MESSAGES, response) ? { request, response } : undefined
}

/**
 * Translates a message. Names may be lowerCamelCase or those of the .proto, 64-bit integers numbers or strings, bytes base64 or base64url,
 * enums names or numbers; null is absent. Unknown and repeated names, a second member of a oneof, wrong types and values out of range are
 * errors.
 *
 * @throws Error that names the field but not its value
 */
export function jsonToWire(type: string, json: Uint8Array): Uint8Array {
  return writeMessage(type, parseJson(json), type).finish()
}

/** Translates a message that this program wrote; fields that are not there are left out, unknown ones as well. */
export function wireToJson(type: string, wire: Uint8Array): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(readMessage(type, wire)))
}

interface Field {
  readonly name: string
  readonly jsonName: string
  readonly number: number
  readonly type: string
  readonly repeated: boolean
  readonly oneof: string | undefined
}

interface Shape {
  /** Under both names. */
  readonly byName: ReadonlyMap<string, Field>
  readonly byNumber: ReadonlyMap<number, Field>
}

const shapes = new Map<string, Shape>()

function shapeOf(type: string): Shape {
  let shape = shapes.get(type)
  if (shape) return shape
  const fields = MESSAGES[type]!.split(',').filter(Boolean).map(readField)
  shape = {
    byName: new Map(fields.flatMap((field) => [field.name, field.jsonName].map((name) => [name, field] as const))),
    byNumber: new Map(fields.map((field) => [field.number, field])),
  }
  shapes.set(type, shape)
  return shape
}

function readField(row: string): Field {
  const [name, number, type, oneof] = row.split(' ') as [string, string, string, string | undefined]
  const repeated = type.startsWith('*')
  const jsonName = name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase())
  return { name, jsonName, number: Number(number), type: repeated ? type.slice(1) : type, repeated, oneof }
}

/** A message whose JSON form is that of its only field. */
function isWrapper(type: string): boolean {
  return type.startsWith('google.protobuf.') && type.endsWith('Value')
}

// Text to bytes.

function writeMessage(type: string, json: Json, where: string): BinaryWriter {
  const writer = new BinaryWriter()
  const { byName, byNumber } = shapeOf(type)
  if (isWrapper(type)) {
    writeOne(writer, byNumber.get(1)!, json, where)
    return writer
  }
  if (!(json instanceof Map)) throw new Error(`${where} must be an object`)
  const seen = new Set<number>()
  const oneofs = new Set<string>()
  for (const [name, value] of json as ReadonlyMap<string, Json>) {
    const field = byName.get(name)
    if (!field) throw new Error(`unknown field ${JSON.stringify(name.slice(0, 64))} in ${where}`)
    const here = `${where}.${field.jsonName}`
    if (seen.has(field.number)) throw new Error(`${here} is given twice`)
    seen.add(field.number)
    if (value === null) continue
    if (field.oneof !== undefined) {
      if (oneofs.has(field.oneof)) throw new Error(`${here} excludes another field that is given`)
      oneofs.add(field.oneof)
    }
    if (!field.repeated) {
      writeOne(writer, field, value, here)
      continue
    }
    if (!Array.isArray(value)) throw new Error(`${here} must be a list`)
    value.forEach((item: Json, index) => {
      writeOne(writer, field, item, `${here}[${index}]`)
    })
  }
  return writer
}

/** Lists of numbers go unpacked: readers must take both. */
function writeOne(writer: BinaryWriter, { number, type }: Field, json: Json, where: string): void {
  if (Object.hasOwn(MESSAGES, type)) {
    writer.tag(number, WireType.LengthDelimited).bytes(writeMessage(type, json, where).finish())
  } else if (type === 'string') writer.tag(number, WireType.LengthDelimited).string(asString(json, where))
  else if (type === 'bytes') writer.tag(number, WireType.LengthDelimited).bytes(asBytes(json, where))
  else {
    writer.tag(number, WireType.Varint)
    if (type === 'bool') writer.bool(asBool(json, where))
    else if (Object.hasOwn(ENUMS, type)) writer.int32(asEnum(type, json, where))
    else {
      const value = asInteger(json, type, where)
      if (type.endsWith('64')) writer[type as 'int64' | 'uint64' | 'sint64'](value)
      else writer[type as 'int32' | 'uint32' | 'sint32'](Number(value))
    }
  }
}

function asString(json: Json, where: string): string {
  if (typeof json !== 'string') throw new Error(`${where} must be a string`)
  return json
}

function asBool(json: Json, where: string): boolean {
  if (typeof json !== 'boolean') throw new Error(`${where} must be true or false`)
  return json
}

const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/

function asBytes(json: Json, where: string): Uint8Array {
  const text = asString(json, where)
  if (!BASE64.test(text)) throw new Error(`${where} must be base64`)
  const digits = text.slice(0, text.length - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0))
  // Padded in full or not at all.
  const padded = digits.length === text.length || text.length % 4 === 0
  if (digits.length % 4 === 1 || !padded) throw new Error(`${where} must be base64`)
  return base64Decode(digits)
}

function asEnum(type: string, json: Json, where: string): number {
  if (json instanceof NumberText) return Number(asInteger(json, 'int32', where))
  const name = asString(json, where)
  const value = enumValues(type).find((one) => one[0] === name)
  if (!value) throw new Error(`${where} must be one of the names of ${type}`)
  return Number(value[1])
}

function asInteger(json: Json, type: string, where: string): bigint {
  const text = json instanceof NumberText ? json.text : asString(json, where)
  const unsigned = type.startsWith('u')
  const bits = type.endsWith('64') ? 64 : 32
  const value = integerOf(text)
  const inRange = value !== undefined && value === (unsigned ? BigInt.asUintN(bits, value) : BigInt.asIntN(bits, value))
  if (!inRange) throw new Error(`${where} must be an integer of type ${type}`)
  return value
}

/** Also `1e3` and `2.0`, which are integers. */
function integerOf(text: string): bigint | undefined {
  if (/^-?(?:0|[1-9]\d{0,20})$/.test(text)) return BigInt(text)
  if (!/^-?(?:0|[1-9]\d{0,20})(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?$/.test(text)) return undefined
  const value = Number(text)
  return Number.isSafeInteger(value) ? BigInt(value) : undefined
}

function enumValues(type: string): [name: string, number: string][] {
  return ENUMS[type]!.split(',').map((value) => value.split(' ') as [string, string])
}

// Bytes to values for JSON.stringify.

type Value = string | number | boolean | readonly Value[] | { [name: string]: Value }

function readMessage(type: string, wire: Uint8Array): Value {
  const { byNumber } = shapeOf(type)
  const reader = new BinaryReader(wire)
  const found: Record<string, Value> = {}
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag()
    const field = byNumber.get(number)
    if (!field) {
      reader.skip(wireType)
      continue
    }
    if (!field.repeated) {
      found[field.jsonName] = readOne(reader, field.type)
      continue
    }
    found[field.jsonName] ??= []
    const list = found[field.jsonName] as Value[]
    if (wireType !== WireType.LengthDelimited || wireTypeOf(field.type) === WireType.LengthDelimited) {
      list.push(readOne(reader, field.type))
    } else {
      const end = reader.uint32() + reader.pos
      while (reader.pos < end) list.push(readOne(reader, field.type))
    }
  }
  return isWrapper(type) ? (found.value ?? zeroOf(byNumber.get(1)!.type)) : found
}

function wireTypeOf(type: string): WireType {
  const isLong = type === 'string' || type === 'bytes' || Object.hasOwn(MESSAGES, type)
  return isLong ? WireType.LengthDelimited : WireType.Varint
}

function readOne(reader: BinaryReader, type: string): Value {
  if (Object.hasOwn(MESSAGES, type)) return readMessage(type, reader.bytes())
  if (type === 'string') return reader.string()
  if (type === 'bytes') return base64Encode(reader.bytes())
  if (type === 'bool') return reader.bool()
  if (Object.hasOwn(ENUMS, type)) {
    const number = reader.int32()
    return enumValues(type).find((value) => Number(value[1]) === number)?.[0] ?? number
  }
  if (type.endsWith('64')) return String(reader[type as 'int64' | 'uint64' | 'sint64']())
  return reader[type as 'int32' | 'uint32' | 'sint32']()
}

function zeroOf(type: string): Value {
  if (type === 'bool') return false
  if (type === 'string' || type === 'bytes') return ''
  return type.endsWith('64') ? '0' : 0
}
