import { domainToASCII, domainToUnicode } from 'node:url'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodePunycode } from './punycode.ts'

test.each([
  ['bcher-kva', 'bücher'],
  ['80akhbyknj4f', 'испытание'],
  ['ihqwcrb4cv8a8dqg056pqjye', '他们为什么不说中文'],
  ['3B-ww4c5e180e575a65lsy2b', '3年B組金八先生'],
  ['', ''],
  ['a', '\u0080'],
])('%s is %s', (encoded, text) => {
  expect(decodePunycode(encoded)).toBe(text)
})

test.each(['zzzzzz', 'bcher-kva ', 'bcher-KVA', 'ü', '99999999999999', 'bcher-kv_'])('%s is none', (encoded) => {
  expect(decodePunycode(encoded)).toBeUndefined()
})

test('what Node encodes is decoded', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom(...'abcxyz0äöéßжшнקעבज्ञ中文字한글'), minLength: 1, maxLength: 15 }),
      (text) => {
        const ascii = domainToASCII(text)
        if (ascii.startsWith('xn--')) expect(decodePunycode(ascii.slice(4))).toBe(domainToUnicode(ascii))
      },
    ),
  )
})
