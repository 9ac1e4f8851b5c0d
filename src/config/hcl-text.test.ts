import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseHcl } from './hcl.ts'
import { hclText } from './hcl-text.ts'
import { plainObject } from './plain.ts'

test('a block is written without comments, in one way', () => {
  const text = `# why
    a = "x" // no
    b "l" { c = [1, 2.5, true,] } d { } e = <<E
one
E
`
  expect(hclText(parseHcl(text))).toBe('a = "x"\nb "l" {\n  c = [1, 2.5, true]\n}\nd {}\ne = "one\\u000a"\n')
})

test('JSON becomes HCL that says the same', () => {
  const json = '{"a": "q\\"${b", "b": {"c d": [{"e": 1}]}, "f": -2}'
  const object = parseHcl(json)
  const text = hclText(object)
  expect(text).toBe('"a" = "q\\"\\u0024{b"\n"b" {\n  "c d" = [{\n    "e" = 1\n  }]\n}\n"f" = -2\n')
  expect(plainObject(parseHcl(text))).toEqual(plainObject(object))
})

test('whatever a text holds, it is read again as it was', () => {
  const value = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom('$', '{', '}', '"', '\\', '\n', 'a') }),
  )
  fc.assert(
    fc.property(
      fc.dictionary(
        value.filter((key) => key !== ''),
        value,
        { noNullPrototype: true, maxKeys: 3 },
      ),
      (object) => {
        const parsed = parseHcl(JSON.stringify(object))
        expect(plainObject(parseHcl(hclText(parsed)))).toEqual(plainObject(parsed))
      },
    ),
  )
})
