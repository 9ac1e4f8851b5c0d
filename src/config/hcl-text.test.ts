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
  const awkward = ['$', '{', '}', '"', '\\', '\n', '\0', '\x7f', '\u2028', '\ud800', '😀', 'é', 'a']
  const text = fc.array(fc.constantFrom(...awkward), { maxLength: 12 }).map((parts) => parts.join(''))
  fc.assert(
    fc.property(text, text, (key, value) => {
      const parsed = parseHcl(JSON.stringify({ [`k${key}`]: value }))
      expect(hclText(parseHcl(hclText(parsed)))).toBe(hclText(parsed))
      expect(plainObject(parseHcl(hclText(parsed)))[`k${key}`]).toBe(value)
    }),
  )
})
