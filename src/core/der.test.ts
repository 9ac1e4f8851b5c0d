import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type DerElement,
  DerError,
  DerReader,
  element,
  hex,
  oid,
  readBitString,
  readBits,
  readBoolean,
  readInteger,
  readOid,
  readSmallInteger,
  readText,
  readTime,
  TAG,
  time,
  unsignedInteger,
} from './der.ts'
import { sha1 } from './sha1.ts'

const bytes = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
const read = (text: string) => {
  const reader = new DerReader(bytes(text))
  const found = reader.next()
  reader.end()
  return found
}

test.each([0, 1, 127, 128, 255, 256, 65535, 65536])('an element of %i bytes is read back', (length) => {
  const contents = new Uint8Array(length).fill(7)
  const whole = element(TAG.octetString, contents)
  const reader = new DerReader(whole)
  const found = reader.expect(TAG.octetString)
  reader.end()
  expect(hex(found.contents)).toBe(hex(contents))
  expect(found.raw.length).toBe(whole.length)
  expect(found.contents.buffer).toBe(whole.buffer)
})

test.each([
  ['nothing', ''],
  ['a tag alone', '30'],
  ['contents that end early', '300201'],
  ['an indefinite length', '30800000'],
  ['a long form where the short one fits', '308101 00'.replace(' ', '')],
  ['a long form with a leading zero', `30820080${'00'.repeat(128)}`],
  ['a length of five bytes', '30850000000001ff'],
  ['a length beyond the input', '3084ffffffff'],
  ['a tag of several bytes', '1f8100'],
  ['trailing data', '050000'],
])('%s is refused', (_, text) => {
  expect(() => read(text)).toThrow(DerError)
})

describe('values', () => {
  const cases: [string, (found: DerElement) => unknown, string][] = [
    ['an empty integer', readInteger, '0200'],
    ['a padded integer', readInteger, '02020001'],
    ['a padded negative integer', readInteger, '0202ff80'],
    ['a negative small integer', readSmallInteger, '0201ff'],
    ['a small integer of five bytes', readSmallInteger, '02050100000000'],
    ['a boolean of 1', readBoolean, '010101'],
    ['a boolean of two bytes', readBoolean, '0102ffff'],
    ['a bit string without the count of unused bits', readBits, '0300'],
    ['eight unused bits', readBits, '03020800'],
    ['unused bits of nothing', readBits, '030101'],
    ['unused bits that are set', readBits, '03020101'],
    ['bytes with unused bits', readBitString, '03020100'],
    ['an empty OID', readOid, '0600'],
    ['an OID with a padded arc', readOid, '0603558001'],
    ['an OID that ends inside an arc', readOid, '06025581'],
    ['text that is not ASCII', readText, '1301c3'],
    ['text that is not UTF-8', readText, '0c01c3'],
    ['a string type of no use', readText, '1b0141'],
  ]
  test.each(cases)('%s is refused', (_, reader, text) => {
    expect(() => reader(read(text))).toThrow(DerError)
  })
})

test.each([
  ['1.2.840.113549.1.1.11', '06092a864886f70d01010b'],
  ['2.5.29.17', '0603551d11'],
  ['1.3.101.112', '06032b6570'],
])('OID %s', (dotted, encoded) => {
  expect(hex(oid(dotted))).toBe(encoded)
  expect(readOid(read(encoded))).toBe(dotted)
})

test.each([
  ['00', '020100'],
  ['7f', '02017f'],
  ['80', '02020080'],
  ['000080', '02020080'],
  ['', '020100'],
])('unsigned integer %s', (value, encoded) => {
  expect(hex(unsignedInteger(bytes(value)))).toBe(encoded)
})

test.each([
  ['1949-12-31T23:59:59Z', 'generalized', '19491231235959Z'],
  ['1950-01-01T00:00:00Z', 'utc', '500101000000Z'],
  ['2049-12-31T23:59:59Z', 'utc', '491231235959Z'],
  ['2050-01-01T00:00:00Z', 'generalized', '20500101000000Z'],
  ['9999-12-31T23:59:59Z', 'generalized', '99991231235959Z'],
])('time %s is %s', (iso, kind, text) => {
  const seconds = Date.parse(iso) / 1000
  const encoded = time(seconds)
  expect(encoded[0]).toBe(kind === 'utc' ? TAG.utcTime : TAG.generalizedTime)
  expect(new TextDecoder().decode(encoded.subarray(2))).toBe(text)
  expect(readTime(new DerReader(encoded).next())).toBe(seconds)
})

test.each(['250229000000Z', '251301000000Z', '250100000000Z', '250101240000Z', '2501010000Z', '250101000000+0000'])(
  'UTCTime %s is refused',
  (text) => {
    const encoded = element(TAG.utcTime, new TextEncoder().encode(text))
    expect(() => readTime(new DerReader(encoded).next())).toThrow(DerError)
  },
)

test('a year of five digits cannot be written', () => {
  expect(() => time(253402300800)).toThrow(DerError)
  expect(() => time(Number.NaN)).toThrow(DerError)
})

test('nesting has a limit', () => {
  let nested = element(TAG.sequence)
  for (let depth = 0; depth < 40; depth += 1) nested = element(TAG.sequence, nested)
  expect(() => {
    let reader = new DerReader(nested)
    for (;;) reader = reader.enter(TAG.sequence)
  }).toThrow('nested too deeply')
})

test('any bytes are read or refused with DerError, and what is read is encoded the same way', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (input) => {
      try {
        const { tag, raw, contents } = new DerReader(input).next()
        expect(hex(element(tag, contents))).toBe(hex(raw))
      } catch (error) {
        expect(error).toBeInstanceOf(DerError)
      }
    }),
  )
})

test('SHA-1 is that of OpenSSL for every length around block borders', () => {
  for (let length = 0; length < 200; length += 1) {
    const message = Uint8Array.from({ length }, (_, index) => (index * 167 + length) & 0xff)
    expect(hex(sha1(message))).toBe(createHash('sha1').update(message).digest('hex'))
  }
})
