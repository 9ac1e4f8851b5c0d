import fc from 'fast-check'
import { expect, test } from 'vitest'
import { requireDnsName, requireNoWildcardOverlap } from './dns-name.ts'

test.each([
  'example.org',
  '*.example.org',
  'a',
  '1.2',
  `${'a'.repeat(63)}.b`,
  'a_b.c',
  '_a._tcp.org',
  'A.Org',
  'xn--bcher-kva.org',
  'a--b.org',
  '*.xn--80ak6aa92e',
])('%s is taken', (name) => {
  expect(requireDnsName(name)).toBe(name)
})

test.each([
  ['', 'empty or only whitespace'],
  ['*.', 'empty or only whitespace'],
  [' \n', 'empty or only whitespace'],
  ['example.org\n', 'disallowed rune U+000A'],
  [' example.org', 'disallowed rune U+0020'],
  ['*. example.org', 'disallowed rune U+0020'],
  ['*.example.org\t', 'disallowed rune U+0009'],
  ['example.org.', 'domain ends with dot'],
  ['exämple.org', 'name must be ascii'],
  ['*.*.example.org', 'too many wildcards'],
  ['a.*.org', 'wildcard must be first label'],
  ['a*.org', 'wildcard must be first label'],
  ['*', 'wildcard must be first label'],
  ['a..b', 'invalid label "a..b"'],
  ['.a.b', 'invalid label ".a.b"'],
  ['-A.b', 'invalid label "-A"'],
  ['a-.b', 'invalid label "a-"'],
  ['xn--n3h.b', 'invalid label "xn--n3h"'],
  ['xn--.b', 'invalid label "xn--"'],
  ['xn--a.b', 'invalid label "xn--a"'],
  ['xn--zzzzzz.b', 'invalid label "xn--zzzzzz"'],
  ['xn--bcher-Kva.b', 'invalid label "xn--bcher-Kva"'],
  ['XN--BCHER-KVA.b', 'invalid label "XN--BCHER-KVA"'],
  ['a.b/', 'disallowed rune U+002F'],
  ['a.b:80', 'disallowed rune U+003A'],
  ['a\0b', 'disallowed rune U+0000'],
  ['a b', 'disallowed rune U+0020'],
  ['a%b', 'disallowed rune U+0025'],
  ['-a.b', 'invalid label "-a"'],
  ['ab--c.d', 'invalid label "ab--c"'],
  [`${'a'.repeat(64)}.b`, 'invalid label'],
  [Array.from({ length: 128 }, () => 'a').join('.'), 'invalid label'],
])('%j is refused', (name, message) => {
  expect(() => requireDnsName(name)).toThrow(message)
})

test('whatever is taken is a name of letters, digits, hyphens and underscores', () => {
  const part = fc.oneof(
    fc.constantFrom('a', 'example', '-', '.', '*', '*.', ' ', '\n', '\0', 'A', 'xn--a'),
    fc.string(),
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
      const name = parts.join('')
      try {
        requireDnsName(name)
      } catch {
        return
      }
      expect(name).toMatch(/^(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*$/i)
    }),
  )
})

test.each([[['*.a.org', 'b.a.org']], [['b.a.org', '*.a.org']], [['x.org', '*.org']]])('%j overlap', (names) => {
  expect(() => requireNoWildcardOverlap(names)).toThrow('wildcard overlap')
})

test.each([[['*.a.org', 'a.org']], [['*.a.org', 'b.c.a.org']], [['*.a.org', '*.b.a.org']]])(
  '%j do not overlap',
  (names) => {
    requireNoWildcardOverlap(names)
  },
)

const LABEL = 'a'.repeat(63)
const LONGEST = `${LABEL}.${LABEL}.${LABEL}.${'a'.repeat(61)}`

test('a label has at most 63 letters and a name 253', () => {
  for (const name of [LABEL, LONGEST, `*.${LONGEST}`, 'xn-a.b']) expect(requireDnsName(name)).toBe(name)
  for (const name of [`${LABEL}a`, `${LONGEST}a`, `b.${LONGEST}`])
    expect(() => requireDnsName(name)).toThrow('invalid label')
})

test.each([
  ['xn--a.b', 'invalid label "xn--a"'],
  ['a-.b', 'invalid label "a-"'],
  ['.a', 'invalid label ".a"'],
  ['a\u212a', 'name must be ascii'],
])('%j is refused', (name, message) => {
  expect(() => requireDnsName(name)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) }),
  )
})

test('a wildcard covers a name without dots, and not itself', () => {
  expect(() => requireNoWildcardOverlap(['a', '*'])).toThrow('name "a" overlaps')
  expect(() => requireNoWildcardOverlap(['*.b', '*.b', '*b'])).not.toThrow()
})
