import { readFileSync, writeFileSync } from 'node:fs'

// Puts `decode` into the code that ts-proto wrote, from the descriptors that `buf build -o -#format=json` prints. ts-proto's own is lenient
// where protobuf for Go refuses, replaces a message that comes twice, and leaves two members of a oneof. It refuses what no message has
// yet (repeated numbers, fixed and zigzag integers), so that a new one cannot be read wrongly in silence.

interface Field {
  readonly name: string
  readonly jsonName: string
  readonly number: number
  readonly label: string
  readonly type: string
  readonly typeName?: string
  readonly oneofIndex?: number
  readonly proto3Optional?: boolean
}
interface Message {
  readonly name: string
  readonly field?: readonly Field[]
  readonly nestedType?: readonly Message[]
  readonly options?: { readonly mapEntry?: boolean }
}
interface File {
  readonly name: string
  readonly package?: string
  readonly messageType?: readonly Message[]
}

const VARINT = 0
const FIXED64 = 1
const LENGTH = 2
const FIXED32 = 5
/** Method of the reader, wire type and default. */
const SCALARS: Readonly<Record<string, readonly [method: string, wireType: number, zero: string]>> = {
  TYPE_STRING: ['string()', LENGTH, '""'],
  TYPE_BYTES: ['bytes()', LENGTH, 'NO_BYTES'],
  TYPE_BOOL: ['bool()', VARINT, 'false'],
  TYPE_ENUM: ['int32() as any', VARINT, '0'],
  TYPE_INT32: ['int32()', VARINT, '0'],
  TYPE_UINT32: ['uint32()', VARINT, '0'],
  TYPE_INT64: ['int64()', VARINT, '0'],
  TYPE_UINT64: ['uint64()', VARINT, '0'],
  TYPE_FLOAT: ['float()', FIXED32, '0'],
  TYPE_DOUBLE: ['double()', FIXED64, '0'],
}
/** Messages for which ts-proto has the value of their only member. */
const WRAPPER = /^\.google\.protobuf\.(Struct|\w+Value)$/
/** Has another plain value for each member. */
const ANY_VALUE = '.google.protobuf.Value'

let text = ''
process.stdin.setEncoding('utf8')
for await (const chunk of process.stdin) text += chunk
const { file: files } = JSON.parse(text) as { readonly file: readonly File[] }

/** By full name. */
const messages = new Map<string, { readonly name: string; readonly message: Message }>()
const collect = (scope: string, prefix: string, list: readonly Message[] = []): void => {
  for (const message of list) {
    const name = `${prefix}${message.name}`
    messages.set(`${scope}.${message.name}`, { name, message })
    collect(`${scope}.${message.name}`, `${name}_`, message.nestedType)
  }
}
for (const file of files) collect(file.package ? `.${file.package}` : '', '', file.messageType)

for (const file of files) {
  if (!file.messageType) continue
  const path = file.name.replace(/\.proto$/, '.ts')
  let code = readFileSync(path, 'utf8')
  const insert = (place: RegExp, added: string): void => {
    const found = place.exec(code)
    if (!found) throw new Error(`${path} has no ${place}`)
    const end = found.index + found[0].length
    code = code.slice(0, end) + added + code.slice(end)
  }
  const decoders = (prefix: string, list: readonly Message[] = []): void => {
    for (const message of list) {
      const name = `${prefix}${message.name}`
      insert(new RegExp(`^export const ${name}: MessageFns<[^=]* = \\{\n`, 'm'), decoder(name, message.field ?? []))
      decoders(`${name}_`, message.nestedType)
    }
  }
  decoders('', file.messageType)
  const toReader = `${'../'.repeat(file.name.split('/').length - 1)}reader.ts`
  const needed = code.includes('NO_BYTES') ? 'NO_BYTES, Reader' : 'Reader'
  insert(/^import .*@bufbuild\/protobuf\/wire.*\n/m, `import { ${needed} } from "${toReader}";\n`)
  insert(/^interface MessageFns<T> \{\n/m, '  decode(input: Reader | Uint8Array, message?: T): T;\n')
  writeFileSync(path, code)
}

function decoder(name: string, fields: readonly Field[]): string {
  const zeros = fields.map((field) => `${field.jsonName}: ${zeroOf(field)}`).join(', ')
  return `  decode(input: Reader | Uint8Array, message: ${name} = { ${zeros} }): ${name} {
    const reader = Reader.of(input);
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      switch (tag) {
${fields.map((field) => reading(name, field, fields)).join('')}        default:
          reader.skip(tag);
      }
    }
    return message;
  },

`
}

function zeroOf(field: Field): string {
  // Keys come from outside: none of them may be the prototype.
  if (isMap(field)) return 'globalThis.Object.create(null)'
  if (isRepeated(field)) return '[]'
  if (field.oneofIndex !== undefined || field.type === 'TYPE_MESSAGE') return 'undefined'
  return scalarOf(field)[2]
}

function reading(message: string, field: Field, fields: readonly Field[]): string {
  const member = `message.${field.jsonName}`
  const wireType = field.type === 'TYPE_MESSAGE' ? LENGTH : scalarOf(field)[1]
  const lines: string[] = []
  if (isMap(field)) {
    const value = messages.get(field.typeName!)!.message.field!.find(({ number }) => number === 2)!
    // An entry without a value has the empty one.
    const empty = value.type === 'TYPE_MESSAGE' && value.typeName !== ANY_VALUE ? nameOf(value) : undefined
    lines.push(`const entry = ${readingOne(field)};`)
    lines.push(`${member}[entry.key] = entry.value${empty ? ` ?? ${empty}.decode(new Uint8Array(0))` : ''};`)
  } else if (isRepeated(field)) {
    if (wireType !== LENGTH) throw new Error(`lists of numbers are not known here: ${message}.${field.name}`)
    lines.push(`${member}.push(${readingOne(field)});`)
  } else {
    lines.push(`${member} = ${readingOne(field, member)};`)
    // The last member of a oneof counts.
    const others = fields.filter((one) => one !== field && !one.proto3Optional && one.oneofIndex === field.oneofIndex)
    if (field.oneofIndex !== undefined) lines.push(...others.map((one) => `message.${one.jsonName} = undefined;`))
  }
  lines.push('break;')
  const tag = field.number * 8 + wireType
  return `        case ${tag}: {\n${lines.map((line) => `          ${line}\n`).join('')}        }\n`
}

/** @param before where an earlier piece of the same message may be */
function readingOne(field: Field, before?: string): string {
  if (field.type !== 'TYPE_MESSAGE') return `reader.${scalarOf(field)[0]}`
  const name = nameOf(field)
  const anyValue = field.typeName === ANY_VALUE
  const member = WRAPPER.test(field.typeName!) && messages.get(field.typeName!)!.message.field![0]!.name
  let into = ''
  if (before !== undefined) {
    const wrapped = anyValue ? `${name}.wrap(${before})` : `{ ${member}: ${before} }`
    into = `, ${anyValue || member ? `${before} === undefined ? undefined : ${wrapped}` : before}`
  }
  const reading = `reader.message(${name}${into})`
  return anyValue ? `${name}.unwrap(${reading})` : member ? `${reading}.${member}` : reading
}

function nameOf({ typeName }: Field): string {
  return messages.get(typeName!)!.name
}

function scalarOf({ type, name }: Field): readonly [method: string, wireType: number, zero: string] {
  const scalar = SCALARS[type]
  if (!scalar) throw new Error(`${type} of ${name} is not known here`)
  return scalar
}

function isRepeated({ label }: Field): boolean {
  return label === 'LABEL_REPEATED'
}

function isMap(field: Field): boolean {
  return isRepeated(field) && messages.get(field.typeName ?? '')?.message.options?.mapEntry === true
}
