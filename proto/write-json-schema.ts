// Writes json-schema.ts from the descriptors that `buf build -o -#format=json` prints: what `json.ts` needs to know of the messages that
// the server takes and gives over HTTP, and no more. It refuses whatever json.ts does not know (maps, floating point, further
// well-known types), so that a new message cannot be read wrongly in silence.

interface Field {
  readonly name: string
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
  readonly enumType?: readonly Enum[]
  readonly options?: { readonly mapEntry?: boolean }
}
interface Enum {
  readonly name: string
  readonly value: readonly { readonly name: string; readonly number?: number }[]
}
interface File {
  readonly package: string
  readonly messageType?: readonly Message[]
  readonly enumType?: readonly Enum[]
  readonly service?: readonly {
    readonly name: string
    readonly method: readonly { readonly name: string; readonly inputType: string; readonly outputType: string }[]
  }[]
}

const SERVED = /^(spire\.api\.server|turret|grpc\.health)\./
/** Not implemented, and its answer has a map. */
const NEVER_SERVED = '/grpc.health.v1.Health/List'
const SCALARS = ['bool', 'string', 'bytes', 'int32', 'int64', 'uint32', 'uint64', 'sint32', 'sint64']
const WELL_KNOWN = /^google\.protobuf\.(Empty|(Bool|String|Bytes|U?Int(32|64))Value)$/

let text = ''
process.stdin.setEncoding('utf8')
for await (const chunk of process.stdin) text += chunk
const { file: files } = JSON.parse(text) as { readonly file: readonly File[] }

const messages = new Map<string, Message>()
const enums = new Map<string, Enum>()
const collect = (scope: string, { messageType = [], enumType = [] }: Pick<File, 'messageType' | 'enumType'>) => {
  for (const one of enumType) enums.set(`${scope}.${one.name}`, one)
  for (const one of messageType) {
    messages.set(`${scope}.${one.name}`, one)
    collect(`${scope}.${one.name}`, { messageType: one.nestedType ?? [], enumType: one.enumType ?? [] })
  }
}
for (const file of files) collect(file.package, file)

const methods: string[] = []
const wanted = new Set<string>()
for (const file of files.filter(({ package: name }) => SERVED.test(name))) {
  for (const service of file.service ?? []) {
    for (const { name, inputType, outputType } of service.method) {
      const path = `/${file.package}.${service.name}/${name}`
      if (path === NEVER_SERVED) continue
      const [input, output] = [inputType.slice(1), outputType.slice(1)]
      const usual = `${file.package}.${name}`
      if (input !== `${usual}Request` || output !== `${usual}Response`)
        methods.push(`  '${path}': '${input} ${output}',`)
      wanted.add(input).add(output)
    }
  }
}

const usedEnums = new Set<string>()
const rows: string[] = []
// A set that grows while it is walked: every message that is reached.
for (const name of wanted) {
  const message = messages.get(name)
  if (!message || message.options?.mapEntry) throw new Error(`${name} is no message that JSON can carry`)
  if (name.startsWith('google.protobuf.') && !WELL_KNOWN.test(name)) throw new Error(`json.ts does not know ${name}`)
  rows.push(`  '${name}': '${(message.field ?? []).map((field) => row(name, field)).join(',')}',`)
}

function row(message: string, field: Field): string {
  const scalar = field.type.slice('TYPE_'.length).toLowerCase()
  const repeated = field.label === 'LABEL_REPEATED' ? '*' : ''
  const oneof = field.oneofIndex === undefined || field.proto3Optional ? '' : ` ${field.oneofIndex}`
  let type = scalar
  if (scalar === 'message' || scalar === 'enum') {
    type = field.typeName!.slice(1)
    ;(scalar === 'message' ? wanted : usedEnums).add(type)
  } else if (!SCALARS.includes(scalar)) throw new Error(`json.ts does not know ${scalar} of ${message}.${field.name}`)
  return `${field.name} ${field.number} ${repeated}${type}${oneof}`
}

const enumRows = [...usedEnums].map((name) => {
  const values = enums.get(name)!.value.map((value) => `${value.name} ${value.number ?? 0}`)
  return `  '${name}': '${values.join(',')}',`
})

console.log(`// Written by proto/generate; do not edit.

/** Request and answer of the methods where they are not called \`<package>.<method>Request\` and \`Response\`. */
export const METHODS: Readonly<Record<string, string>> = {
${methods.sort().join('\n')}
}

/** Fields of a message: name, number, type (\`*\` in front: repeated) and, of a member, the number of the oneof. */
export const MESSAGES: Readonly<Record<string, string>> = {
${rows.sort().join('\n')}
}

/** Values of an enum: name and number. */
export const ENUMS: Readonly<Record<string, string>> = {
${enumRows.sort().join('\n')}
}`)
