import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { createFileRegistry, type DescField, type DescMessage, fromBinary, ScalarType } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { type Case, fromHex, MESSAGES } from './messages.ts'

const ROOT = join(import.meta.dirname, '../../..')
const set = execFileSync(join(ROOT, 'node_modules/.bin/buf'), ['build', '-o', '-'], { cwd: join(ROOT, 'proto') })
const types = createFileRegistry(fromBinary(FileDescriptorSetSchema, set))

/** One of the messages: nearly right, with fields in any order, unknown ones and known ones of another type, and a few bytes changed. */
export const malformed: fc.Arbitrary<Case> = fc
  .constantFrom(...Object.keys(MESSAGES))
  .chain((type) => fc.record({ bytes: message(types.getMessage(type)!, 0).chain(changed), type: fc.constant(type) }))

/** Edges that chance seldom finds, as a SPIFFEID: 1 and 2 are strings. */
export const EDGES: readonly Case[] = [
  '00',
  '828000 00',
  '0c',
  '7c',
  '1b 1c',
  '1b 24',
  '1b 23 1c 24',
  '1b 0000 1c',
  '0b 0c 0a0161',
  '0e',
  '0f 00',
  '1b 0f 1c',
  'faffffff0f 00',
  '8280808010 0161',
  '8a808080808080808000 0161',
  '8a808080808080808001 0161',
  '8a808080808080808002 0161',
  '8a8080808080808080 8000 0161',
  '0a 818080808080808000 61',
  '0a 8180808080808080 8000 61',
  '0a 8180808010 61',
  '0a ffffffff0f 61',
  '0a ffffffffffffffffff01 61',
  '78 ffffffffffffffffff01',
  '78 ffffffffffffffffff02',
  '78 8080808080808080808000',
  '1b 7801 7a0161 7d01020304 790102030405060708 1c 0a0161',
  '0801 0a0161',
  '0d01020304 0a0161',
  '0a03efbbbf',
  '0a0100',
  '0a03eda080',
  '0a02c1a1',
  '0a04f4908080',
  '0a04f48fbfbf',
].map((hex) => ({ type: 'spire.api.types.SPIFFEID', bytes: fromHex(hex) }))

function message(type: DescMessage, depth: number): fc.Arbitrary<Uint8Array> {
  const known = type.fields.filter((field) => depth < 5 || !field.message).map((field) => fieldOf(field, depth))
  const one = known.length === 0 ? unknown : fc.oneof({ weight: 12, arbitrary: fc.oneof(...known) }, unknown)
  return fc.array(one, { maxLength: 6 }).map(joined)
}

function fieldOf(field: DescField, depth: number): fc.Arbitrary<Uint8Array> {
  const { number } = field
  if (field.fieldKind === 'map') {
    const value = field.message ? message(field.message, depth + 1).map(lengthDelimited(2)) : scalar(2, field.scalar!)
    const key = fc.oneof(
      scalar(1, ScalarType.STRING),
      fc.constantFrom('a', '__proto__').map(utf8).map(lengthDelimited(1)),
    )
    return fc
      .array(fc.oneof(key, value, unknown), { maxLength: 4 })
      .map(joined)
      .map(lengthDelimited(number))
  }
  if (field.message) return message(field.message, depth + 1).map(lengthDelimited(number))
  const right = scalar(number, field.enum ? ScalarType.INT32 : field.scalar!)
  return fc.oneof({ weight: 9, arbitrary: right }, scalar(number, ScalarType.INT32), scalar(number, ScalarType.STRING))
}

function scalar(number: number, type: ScalarType): fc.Arbitrary<Uint8Array> {
  switch (type) {
    case ScalarType.STRING:
      return fc
        .oneof(
          { weight: 40, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }).map(utf8) },
          fc.uint8Array({ maxLength: 3 }),
        )
        .map(lengthDelimited(number))
    case ScalarType.BYTES:
      return fc.uint8Array({ maxLength: 6 }).map(lengthDelimited(number))
    case ScalarType.DOUBLE:
      return fc.double().map((value) => new BinaryWriter().tag(number, WireType.Bit64).double(value).finish())
    default:
      return varint.map((value) => joined([new BinaryWriter().tag(number, WireType.Varint).finish(), value]))
  }
}

/** Of one to ten bytes, seldom the shortest form. */
const varint = fc.oneof(
  fc.nat({ max: 300 }).map((value) => new BinaryWriter().uint32(value).finish()),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map((value) => new BinaryWriter().uint64(value).finish()),
  fc
    .uint8Array({ minLength: 1, maxLength: 9 })
    .map((bytes) => bytes.map((byte, at) => (at < bytes.length - 1 ? byte | 128 : byte & 127))),
)

const unknown: fc.Arbitrary<Uint8Array> = fc.oneof(
  ...[ScalarType.STRING, ScalarType.INT32, ScalarType.DOUBLE].map((type) => ({
    weight: 10,
    arbitrary: fc.integer({ min: 1, max: 70 }).chain((number) => scalar(number, type)),
  })),
  { weight: 20, arbitrary: fc.constantFrom('7d01020304', '1b1c', '1b0a01611c', '1b1b1c1c').map(fromHex) },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom('1b', '1c', '00', '7e', '78ffffffffffffffffff02', '78ffffffffffffffffffff01')
      .map(fromHex),
  },
)

/** Most stay as they are; of the others bytes are changed, left out, put in, or the end is cut off. */
function changed(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat({ max: bytes.length })
  const byte = fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat({ max: 255 }))
  const change = fc.record({ at, byte, kind: fc.constantFrom('set', 'drop', 'insert', 'cut') })
  return fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, fc.array(change, { maxLength: 2 })).map((changes) => {
    let all = [...bytes]
    for (const { at, byte, kind } of changes) {
      if (kind === 'cut') all = all.slice(0, at)
      else all.splice(at, kind === 'insert' ? 0 : 1, ...(kind === 'drop' ? [] : [byte]))
    }
    return Uint8Array.from(all)
  })
}

function lengthDelimited(number: number): (bytes: Uint8Array) => Uint8Array {
  return (bytes) => new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes).finish()
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]))
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
