import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseJson } from './json-object.ts'

test('what has every member once is read as JSON.parse reads it', () => {
  fc.assert(
    fc.property(fc.json({ stringUnit: 'binary' }), (text) => {
      expect(parseJson(text)).toEqual(JSON.parse(text))
    }),
  )
})

test('a member that is written again, anywhere, is refused', () => {
  const object = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue(), { minKeys: 1, maxKeys: 5 })
  fc.assert(
    fc.property(object, fc.nat(), fc.jsonValue(), fc.boolean(), (value, pick, other, inside) => {
      const members = Object.entries(value).map(([name, member]) => `${JSON.stringify(name)}:${JSON.stringify(member)}`)
      const name = Object.keys(value)[pick % members.length]!
      const twice = `{${members.join(',')},${JSON.stringify(name)}:${JSON.stringify(other)}}`
      expect(() => parseJson(inside ? `{"in":[1,${twice}]}` : twice)).toThrow('json: duplicate key in object')
    }),
  )
})

describe.each([
  ['the same value', '{"a":1,"a":1}'],
  ['a name that is escaped once', '{"a":1,"\\u0061":2}'],
  ['a name with colons and quotes', '{"a\\":":1,"a\\":":2}'],
  ['the empty name', '{"":1,"":2}'],
  ['the name of the prototype', '{"__proto__":1,"__proto__":2}'],
  ['an object that another value replaces', '{"a":{"b":1,"c":2},"a":{"b":1}}'],
])('twice %s', (_, text) => {
  test('is refused', () => {
    expect(() => JSON.parse(text)).not.toThrow()
    expect(() => parseJson(text)).toThrow('json: duplicate key in object')
  })
})

test.each(['{"a":":","b":"\\":"}', '{"a":{"a":{"a":[{"a":1},{"a":1}]}}}', '[]', '":"', ' {"__proto__" : {} } '])(
  '%s is taken',
  (text) => {
    expect(parseJson(text)).toEqual(JSON.parse(text))
  },
)

test('depth costs no stack', () => {
  const depth = 10_000
  expect(() => parseJson('['.repeat(depth) + ']'.repeat(depth))).not.toThrow()
})
