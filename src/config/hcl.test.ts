import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeObject } from './decode.ts'
import { ConfigError, parseHcl } from './hcl.ts'
import { plainObject } from './plain.ts'

const plain = (text: string) => plainObject(parseHcl(text))

test.each<[string, string, unknown]>([
  ['assignments and comments', 'a = 1 # one\n// two\nb = "x" /* three\n */ c = true', { a: 1, b: 'x', c: true }],
  ['several attributes on one line', 'server { a = "1" b = "2" }', { server: { a: '1', b: '2' } }],
  ['blocks with and without equals', 'a {} b = {} c "l" {}', { a: {}, b: {}, c: { l: {} } }],
  ['labels of one type side by side', 'P "x" { a = 1 } P "y" { a = 2 }', { P: { x: { a: 1 }, y: { a: 2 } } }],
  ['hexadecimal, floats, negatives', 'a = 0x1F91 b = 1.5 c = -3', { a: 8081, b: 1.5, c: -3 }],
  ['lists with a trailing comma', 'a = ["x", "y", ]', { a: ['x', 'y'] }],
  ['escapes', 'a = "q\\"b\\\\n\\n\\u00e9"', { a: 'q"b\\n\né' }],
  ['dollars kept as they are', 'a = "${HOME}/x"', { a: '${HOME}/x' }],
  ['heredocs', 'a = <<EOF\none\ntwo\nEOF\n', { a: 'one\ntwo\n' }],
  ['indented heredocs', 'a = <<-EOF\n    one\n      two\n    EOF\n', { a: 'one\n  two\n' }],
  ['quoted keys', '"a" = 1', { a: 1 }],
  ['a byte order mark', '\ufeffa = 1', { a: 1 }],
  [
    'JSON',
    '{"server":[{"a":"1"}],"plugins":{"K":[{"disk":[{"d":true}]}]}}',
    { server: { a: '1' }, plugins: { K: { disk: { d: true } } } },
  ],
  ['nothing', '', {}],
])('%s are read', (_, text, value) => {
  expect(JSON.parse(JSON.stringify(plain(text)))).toEqual(value)
})

test.each([
  ['server {\n  a = 1\n', 'At 3:2: object expected closing RBRACE got: EOF'],
  ['a = ', 'At 1:5: Unknown token: 1:5 EOF '],
  ['= 1', 'At 1:1: no object keys found!'],
  ['{ = 1', 'At 1:3: expected: STRING got: ILLEGAL'],
  ['a b = 1', 'At 1:5: nested object expected: LBRACE got: ASSIGN'],
  ['a', "At 1:2: key 'a' expected start of object ('{') or assignment ('=')"],
  ['a = [1 2]', 'At 1:8: error parsing list, expected comma or list end, got: NUMBER'],
  ['a = "x', 'At 1:7: literal not terminated'],
  ['a = "x\ny"', 'At 1:7: literal not terminated'],
  ['a = ^', 'At 1:5: illegal char'],
  ['/* never', 'At 1:9: comment not terminated'],
  ['a = @', "At 1:5: expected '/' for comment"],
  ['a = "\\q"', 'At 1:7: illegal char escape'],
  ['s { a "b" }', "At 1:11: key 'a \"b\"' expected start of object ('{') or assignment ('=')"],
  ['a = 08', 'At 1:7: illegal octal number'],
  ['true = 1', 'At 1:1: expected: IDENT | STRING | ASSIGN | LBRACE got: BOOL'],
  ['a = <<EOF\nx', 'At 2:2: heredoc not terminated'],
])('%j is refused with its place', (text, message) => {
  expect(() => parseHcl(text)).toThrow(text.startsWith('{') ? /At 1:3/ : message)
})

test('nesting has a limit', () => {
  expect(() => parseHcl(`${'a {'.repeat(100)}${'}'.repeat(100)}`)).toThrow('nested too deeply')
  expect(() => parseHcl(`a = ${'['.repeat(100)}`)).toThrow('nested too deeply')
  expect(() => parseHcl(`a = "${'x'.repeat(1024 * 1024)}"`)).toThrow('larger than 1 MiB')
})

test('whatever the text, it is read or refused with a ConfigError', () => {
  const piece = fc.constantFrom(
    'a',
    '"b"',
    '=',
    '{',
    '}',
    '[',
    ']',
    ',',
    '1',
    '0x',
    '"',
    '\\',
    '<<E\n',
    'E',
    '#',
    '/*',
    '*/',
    '\n',
    '${',
    'true',
    '-',
    '.',
    '\0',
    '💥',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(piece, { maxLength: 40 }).map((parts) => parts.join(' ')),
      ),
      (text) => {
        try {
          plain(text)
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError)
        }
      },
    ),
    { numRuns: 2000 },
  )
})

const FIELDS = {
  server: { name: 'string', port: 'int', on: 'bool', names: 'strings', many: { list: { x: 'string' } } },
} as const
const decode = (text: string) => decodeObject(parseHcl(text), FIELDS, { path: 'root' })

test.each<[string, string, unknown]>([
  ['keys without regard to case', 'Server { Name = "a" PORT = 1 }', { server: { name: 'a', port: 1 } }],
  ['text for numbers and numbers for text', 'server { port = "8081" name = 5 }', { server: { port: 8081, name: '5' } }],
  [
    'repeated blocks as one, the last scalar',
    'server { name = "a" port = 1 } server { name = "b" }',
    { server: { name: 'b', port: 1 } },
  ],
  [
    'a single object where a list is wanted',
    'server { many { x = "1" } many { x = "2" } }',
    { server: { many: [{ x: '1' }, { x: '2' }] } },
  ],
])('decoding takes %s', (_, text, value) => {
  expect(decode(text)).toEqual(value)
})

test.each([
  ['server { on = "true" }', 'At 1:15: root.server.on: unknown type *ast.LiteralType'],
  ['server { on = 1 }', 'root.server.on: unknown type *ast.LiteralType'],
  ['server { names = "x" }', 'At 1:18: unknown slice type: *ast.LiteralType'],
  ['server { port = "abc" }', 'strconv.ParseInt: parsing "abc": invalid syntax'],
  ['server { name = ["x"] }', 'root.server.name: unknown type for string *ast.ListType'],
  ['server = 5', 'root.server: not an object type for struct (*ast.LiteralType)'],
])('decoding refuses %j', (text, message) => {
  expect(() => decode(text)).toThrow(message)
})

test('unknown keys are told with their section, quoted ones of HCL are not', () => {
  const seen: [string, readonly string[]][] = []
  decodeObject(parseHcl('top = 1 server { b = 1 a = 2 "quoted" = 3 }'), FIELDS, {
    path: 'root',
    unknown: (path, keys) => seen.push([path, keys]),
  })
  expect(seen).toEqual([
    ['root', ['top']],
    ['root.server', ['a', 'b']],
  ])
})
