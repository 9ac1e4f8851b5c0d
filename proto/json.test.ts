import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  create,
  createFileRegistry,
  type DescField,
  type DescMessage,
  fromBinary,
  fromJsonString,
  type Message,
  ScalarType,
  toBinary,
  toJson,
} from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ADMIN_METHODS } from '../src/server/methods.ts'
import { jsonToWire, jsonTypesOf, wireToJson } from './json.ts'
import { MESSAGES } from './json-schema.ts'
import { parseJson } from './json-text.ts'
import { BatchCreateEntryRequest, ListEntriesRequest } from './spire/api/server/entry/v1.ts'
import { Entry, JoinToken } from './spire/api/types.ts'

const buf = (...args: string[]) =>
  execFileSync(join(import.meta.dirname, '../node_modules/.bin/buf'), args, { cwd: import.meta.dirname })
const text = (value: string) => new TextEncoder().encode(value)
const json = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes)) as unknown
const types = createFileRegistry(fromBinary(FileDescriptorSetSchema, buf('build', '-o', '-')))
const descriptor = (type: string) => types.getMessage(type)!

test('the code is what proto/generate writes today', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-proto-'))
  const generated = (root: string) =>
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((path) => /\/.*\.ts$|^json-schema\.ts$/.test(path))
      .sort()
      .map((path) => [path, readFileSync(join(root, path), 'utf8')])
  try {
    for (const name of ['bin', 'node_modules']) symlinkSync(join(import.meta.dirname, '..', name), join(folder, name))
    cpSync(import.meta.dirname, join(folder, 'proto'), { recursive: true })
    for (const [path] of generated(join(folder, 'proto'))) rmSync(join(folder, 'proto', path!))
    execFileSync(join(folder, 'proto/generate'))
    expect(generated(join(folder, 'proto'))).toEqual(generated(import.meta.dirname))
  } finally {
    rmSync(folder, { recursive: true })
  }
}, 60_000)

test('every method that is served has a JSON form', () => {
  const without = ADMIN_METHODS.map(({ path }) => path).filter((path) => !jsonTypesOf(path))
  // Not implemented, and its answer would be the only one with a map.
  expect(without).toEqual(['/grpc.health.v1.Health/List'])
})

test('no message nests in itself but those of google.protobuf.Struct, so that no other can be too deep', () => {
  const nests = new Set<string>()
  const visit = (message: DescMessage, above: readonly string[]): void => {
    if (above.includes(message.typeName)) nests.add(message.typeName)
    else {
      for (const { message: inner } of message.fields) if (inner) visit(inner, [...above, message.typeName])
      for (const field of message.fields) {
        if (field.fieldKind === 'map' && field.mapKind === 'message') visit(field.message, [...above, message.typeName])
      }
    }
  }
  for (const type of types) if (type.kind === 'message') visit(type, [])
  expect([...nests].sort()).toEqual(['ListValue', 'Struct', 'Value'].map((name) => `google.protobuf.${name}`))
})

/** Values of a scalar, edges of its range more often. */
function scalar(type: ScalarType): fc.Arbitrary<unknown> {
  if (type === ScalarType.BOOL) return fc.boolean()
  if (type === ScalarType.STRING) return fc.string({ unit: 'binary' })
  if (type === ScalarType.BYTES) return fc.uint8Array()
  if (type === ScalarType.INT64) return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
  if (type === ScalarType.UINT64) return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
  if (type === ScalarType.UINT32) return fc.nat(2 ** 32 - 1)
  return fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
}

function fieldValue(field: DescField, depth: number): fc.Arbitrary<unknown> {
  const item = field.fieldKind === 'list' ? field.listKind : field.fieldKind
  // protobuf-es holds wrappers as what they wrap.
  const wrapped = /^google\.protobuf\.\w+Value$/.test(field.message?.typeName ?? '') && field.message!.fields[0]!.scalar
  const one =
    item === 'message'
      ? wrapped
        ? scalar(wrapped)
        : messageOf(field.message!, depth + 1)
      : item === 'enum'
        ? fc.constantFrom(...field.enum!.values.map(({ number }) => number), 99)
        : scalar(field.scalar!)
  return field.fieldKind === 'list' ? fc.array(one, { maxLength: 3 }) : one
}

function messageOf(type: DescMessage, depth = 0): fc.Arbitrary<unknown> {
  const inside = (field: DescField) => depth < 5 || !(field.message ?? false)
  const plain = type.fields.filter((field) => inside(field) && (field.oneof === undefined || field.proto))
  const lone = plain.filter((field) => field.oneof === undefined)
  const fields = fc.record(Object.fromEntries(lone.map((field) => [field.localName, fieldValue(field, depth)])), {
    requiredKeys: [],
  })
  const choices = type.oneofs.map((oneof) =>
    fc.oneof(
      fc.constant({}),
      ...oneof.fields
        .filter(inside)
        .map((field) =>
          fieldValue(field, depth).map((value) => ({ [oneof.localName]: { case: field.localName, value } })),
        ),
    ),
  )
  return fc.tuple(fields, ...choices).map((parts) => create(type, Object.assign({}, ...parts) as never))
}

describe.each(Object.keys(MESSAGES))('%s', (name) => {
  const type = descriptor(name)
  const messages = messageOf(type) as fc.Arbitrary<Message>
  test('is written and read as protobuf-es does', () => {
    fc.assert(
      fc.property(messages, (message) => {
        const wire = toBinary(type, message)
        const ours = wireToJson(name, wire)
        expect(json(ours)).toEqual(toJson(type, message))
        expect(fromBinary(type, jsonToWire(name, ours))).toEqual(message)
        expect(fromBinary(type, jsonToWire(name, ours))).toEqual(fromJsonString(type, new TextDecoder().decode(ours)))
        const original = JSON.stringify(toJson(type, message, { useProtoFieldName: true, enumAsInteger: true }))
        expect(fromBinary(type, jsonToWire(name, text(original)))).toEqual(message)
      }),
      { numRuns: 15 },
    )
  })
})

const ENTRY = 'spire.api.types.Entry'
const ATTEST = 'spire.api.server.agent.v1.AttestAgentRequest'
const LIST = 'spire.api.server.entry.v1.ListEntriesRequest'
const SIGN = 'spire.api.server.svid.v1.MintX509SVIDRequest'

test.each([
  [
    'the name of the .proto',
    ENTRY,
    '{"parent_id":{"trust_domain":"a","path":"/b"}}',
    { parentId: { trustDomain: 'a', path: '/b' } },
  ],
  ['null', ENTRY, '{"parentId":null,"hint":null,"selectors":null}', {}],
  [
    'integers as strings',
    ENTRY,
    '{"expiresAt":"1700000000","x509SvidTtl":"60"}',
    { expiresAt: '1700000000', x509SvidTtl: 60 },
  ],
  [
    'integers with a point or an exponent',
    ENTRY,
    '{"expiresAt":2.0,"x509SvidTtl":1e3}',
    { expiresAt: '2', x509SvidTtl: 1000 },
  ],
  [
    'the largest 64-bit integer',
    ENTRY,
    '{"revisionNumber":9223372036854775807}',
    { revisionNumber: '9223372036854775807' },
  ],
  ['base64', SIGN, '{"csr":"+/8="}', { csr: '+/8=' }],
  ['base64url', SIGN, '{"csr":"-_8"}', { csr: '+/8=' }],
  [
    'a wrapper',
    LIST,
    '{"filter":{"byHint":"x","byDownstream":false}}',
    { filter: { byHint: 'x', byDownstream: false } },
  ],
  ['an empty oneof member', ATTEST, '{"params":null,"challengeResponse":""}', { challengeResponse: '' }],
  ['space around everything', ENTRY, ' {\n "hint" :\t"x" , "admin" : true } ', { hint: 'x', admin: true }],
  ['escapes', ENTRY, '{"hint":"\\u00e9\\ud83d\\ude00\\"\\\\"}', { hint: 'é😀"\\' }],
])('%s is understood', (_, type, input, wanted) => {
  expect(json(wireToJson(type, jsonToWire(type, text(input))))).toEqual(wanted)
})

test.each([
  ['an unknown field', ENTRY, '{"hnt":"x"}', `unknown field "hnt" in ${ENTRY}`],
  ['a name of Object', ENTRY, '{"constructor":{}}', `unknown field "constructor" in ${ENTRY}`],
  ['__proto__', ENTRY, '{"__proto__":{}}', `unknown field "__proto__" in ${ENTRY}`],
  ['a repeated name', ENTRY, '{"hint":"x","hint":"x"}', 'repeated name at character 18'],
  ['both names of a field', ENTRY, '{"parentId":null,"parent_id":null}', `${ENTRY}.parentId is given twice`],
  [
    'two members of a oneof',
    ATTEST,
    '{"params":{},"challengeResponse":""}',
    `${ATTEST}.challengeResponse excludes another field that is given`,
  ],
  ['a number for a string', ENTRY, '{"hint":7}', `${ENTRY}.hint must be a string`],
  ['a string for a boolean', ENTRY, '{"admin":"true"}', `${ENTRY}.admin must be true or false`],
  ['a list for a message', ENTRY, '{"parentId":[]}', `${ENTRY}.parentId must be an object`],
  ['a message for a list', ENTRY, '{"selectors":{}}', `${ENTRY}.selectors must be a list`],
  ['null in a list', ENTRY, '{"dnsNames":["a",null]}', `${ENTRY}.dnsNames[1] must be a string`],
  ['a fraction', ENTRY, '{"x509SvidTtl":1.5}', `${ENTRY}.x509SvidTtl must be an integer of type int32`],
  [
    'an integer out of range',
    ENTRY,
    '{"x509SvidTtl":2147483648}',
    `${ENTRY}.x509SvidTtl must be an integer of type int32`,
  ],
  [
    'a 64-bit integer out of range',
    ENTRY,
    '{"expiresAt":"9223372036854775808"}',
    `${ENTRY}.expiresAt must be an integer of type int64`,
  ],
  ['space in an integer', ENTRY, '{"expiresAt":" 1"}', `${ENTRY}.expiresAt must be an integer of type int64`],
  ['a huge exponent', ENTRY, '{"expiresAt":1e99}', `${ENTRY}.expiresAt must be an integer of type int64`],
  ['what is not base64', SIGN, '{"csr":"a*b="}', `${SIGN}.csr must be base64`],
  ['base64 that breaks off', SIGN, '{"csr":"abcde"}', `${SIGN}.csr must be base64`],
  ['half a padding', SIGN, '{"csr":"ab="}', `${SIGN}.csr must be base64`],
  [
    'an unknown enum name',
    LIST,
    '{"filter":{"bySelectors":{"match":"MATCH_NONE"}}}',
    `${LIST}.filter.bySelectors.match must be one of the names of spire.api.types.SelectorMatch.MatchBehavior`,
  ],
  ['no object', ENTRY, '"x"', `${ENTRY} must be an object`],
  ['nothing', ENTRY, '', 'expected a value at character 0'],
  ['two values', ENTRY, '{}{}', 'expected the end at character 2'],
  ['a trailing comma', ENTRY, '{"hint":"x",}', 'expected a name at character 12'],
  ['a comment', ENTRY, '{/**/}', 'expected a name at character 1'],
  ['a string that does not end', ENTRY, '{"hint":"x\\"', 'unterminated string at character 12'],
  ['a line break in a string', ENTRY, '{"hint":"\n"}', 'malformed string at character 11'],
  ['half a surrogate pair', ENTRY, '{"hint":"\\ud800"}', 'string is not Unicode at character 16'],
  ['a byte order mark', ENTRY, '\ufeff{}', 'expected a value at character 0'],
  ['deep nesting', ENTRY, `${'['.repeat(100)}`, 'nested too deeply at character 32'],
  ['a long number', ENTRY, `{"expiresAt":${'9'.repeat(100)}}`, 'number is too long at character 13'],
  ['NaN', ENTRY, '{"x509SvidTtl":NaN}', 'expected a value at character 15'],
  ['a leading zero', ENTRY, '{"x509SvidTtl":012}', 'expected "," at character 16'],
])('%s is refused', (_, type, input, complaint) => {
  expect(() => jsonToWire(type, text(input))).toThrow(new Error(complaint))
})

test('bytes that are not UTF-8 are refused', () => {
  expect(() => jsonToWire(ENTRY, Uint8Array.of(0x22, 0xff, 0x22))).toThrow('not UTF-8')
})

test('what the parser takes, JSON.parse takes and reads the same', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), (input) => {
      let ours: unknown
      try {
        ours = parseJson(text(input))
      } catch (error) {
        // fast-check may repeat a name or write half a surrogate pair.
        expect(String(error)).toMatch(/repeated name|not Unicode|too long/)
        return
      }
      const plain = (value: unknown): unknown =>
        value instanceof Map
          ? Object.fromEntries([...value].map(([name, item]) => [name, plain(item)]))
          : Array.isArray(value)
            ? value.map(plain)
            : typeof value === 'object' && value !== null
              ? Number((value as { text: string }).text)
              : value
      expect(plain(ours)).toEqual(JSON.parse(input))
    }),
  )
})

test('anything that is no JSON ends in an error, never in something else', () => {
  const pieces = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    '"',
    '\\',
    ',',
    ':',
    '1',
    '-',
    'e',
    '.',
    'null',
    ' ',
    'hint',
    'u',
    '\u0000',
    '0',
  )
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 40 }), (parts) => {
      const input = parts.join('')
      let valid = true
      try {
        JSON.parse(input)
      } catch {
        valid = false
      }
      if (!valid) expect(() => parseJson(text(input))).toThrow(Error)
    }),
    { numRuns: 2000 },
  )
})

test.each([ENTRY, ATTEST, LIST])('whatever JSON comes for %s, it is refused or read', (type) => {
  const names = fc.constantFrom(
    'hint',
    'parentId',
    'selectors',
    'expires_at',
    'params',
    'challengeResponse',
    'filter',
    'byHint',
    'x',
  )
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom(null, true, 0, -1, 1.5, 2 ** 60, '', 'AAAA', 'x y', '12'),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(names, tie('tree'), { maxKeys: 4 }),
    ),
  }))
  fc.assert(
    fc.property(tree, (value) => {
      let wire: Uint8Array
      try {
        wire = jsonToWire(type, text(JSON.stringify(value)))
      } catch (error) {
        expect(error).toBeInstanceOf(Error)
        expect(String(error)).not.toMatch(/TypeError|RangeError|undefined/)
        return
      }
      fromBinary(descriptor(type), wire)
    }),
    { numRuns: 500 },
  )
})

test('the wire bytes are those that the generated code reads', () => {
  const input = `{"entries":[{"spiffe_id":{"trust_domain":"example.org","path":"/web"},"selectors":[{"type":"unix","value":"uid:0"}],"admin":true}]}`
  const message = BatchCreateEntryRequest.decode(
    jsonToWire('spire.api.server.entry.v1.BatchCreateEntryRequest', text(input)),
  )
  expect(message.entries[0]).toMatchObject({
    spiffeId: { trustDomain: 'example.org', path: '/web' },
    selectors: [{ type: 'unix', value: 'uid:0' }],
    admin: true,
  })
  const listed = ListEntriesRequest.decode(jsonToWire(LIST, text('{"filter":{"by_hint":""},"page_size":3}')))
  expect(listed).toMatchObject({ filter: { byHint: '' }, pageSize: 3 })
  expect(
    json(wireToJson('spire.api.types.JoinToken', JoinToken.encode({ value: 'x', expiresAt: 5 }).finish())),
  ).toEqual({
    value: 'x',
    expiresAt: '5',
  })
  expect(json(wireToJson(ENTRY, Entry.encode(Entry.decode(new Uint8Array())).finish()))).toEqual({})
})
