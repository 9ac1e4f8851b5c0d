import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeLiterals, type HeaderField, HpackDecoder, HpackError } from './hpack.ts'

const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex')
const shown = (fields: readonly HeaderField[]) => fields.map(({ name, value }) => `${name}: ${value}`)
const decoder = () => new HpackDecoder(64 * 1024)

/** RFC 7541 appendix C.3, C.4 and C.6: three blocks on one connection. */
test.each([
  [
    'literals',
    [
      '828684410f7777772e6578616d706c652e636f6d',
      '828684be58086e6f2d6361636865',
      '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
    ],
  ],
  [
    'Huffman’s code',
    [
      '828684418cf1e3c2e5f23a6ba0ab90f4ff',
      '828684be5886a8eb10649cbf',
      '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
    ],
  ],
])('the requests of the standard with %s', (_, blocks) => {
  const one = decoder()
  expect(blocks.map((block) => shown(one.decode(bytes(block))))).toEqual([
    [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'],
    [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com', 'cache-control: no-cache'],
    [':method: GET', ':scheme: https', ':path: /index.html', ':authority: www.example.com', 'custom-key: custom-value'],
  ])
})

test.each([
  ['a literal with indexing', '400a637573746f6d2d6b65790d637573746f6d2d686561646572', 'custom-key: custom-header'],
  ['a literal without', '040c2f73616d706c652f70617468', ':path: /sample/path'],
  ['a literal that is never indexed', '100870617373776f726406736563726574', 'password: secret'],
  ['an indexed field', '82', ':method: GET'],
])('the standard’s %s', (_, block, expected) => expect(shown(decoder().decode(bytes(block)))).toEqual([expected]))

test.each([
  ['an index of nothing', '80'],
  ['an index past both tables', 'be'],
  ['an index that is huge', 'ffffffffffff0f'],
  ['an integer that does not end', 'ff8080808080808080808080'],
  ['a text that is cut short', '400a637573'],
  ['a name without value', '4001 61'],
  ['a table that is larger than allowed', '3fe2ff03'],
  ['a change of the table size after a field', '82 3fe11f'],
  ['a text that ends with zeros', '40 81 00 00'],
  ['a text padded by a whole byte', '40 82 1f ff 00'],
  ['a text with the code that ends it', '40 84 ffffffff 00'],
])('%s is refused', (_, block) => expect(() => decoder().decode(bytes(block))).toThrow(HpackError))

test('a table that was made smaller forgets, and can grow again', () => {
  const one = decoder()
  one.decode(bytes('400a637573746f6d2d6b65790d637573746f6d2d686561646572'))
  expect(shown(one.decode(bytes('be')))).toEqual(['custom-key: custom-header'])
  one.decode(bytes('20'))
  expect(() => one.decode(bytes('be'))).toThrow(HpackError)
})

test('a field larger than the table empties it and is not kept', () => {
  const one = decoder()
  one.decode(bytes('4001610162'))
  one.decode(
    Buffer.concat([bytes('400163'), bytes('7fe11f'), Buffer.alloc(0x7f + 0xf61 + 0x80, 'x')].map((part) => part)),
  )
  expect(() => one.decode(bytes('be'))).toThrow(HpackError)
})

test('references to one large field come to no more than a list may', () => {
  const one = new HpackDecoder(64 * 1024)
  const value = Buffer.alloc(4000, 'v')
  one.decode(Buffer.concat([bytes('400161'), bytes('7fa11e'), value]))
  expect(() => one.decode(Buffer.alloc(1000, 0xbe))).toThrow('the header list is too long')
})

test('what is encoded is decoded again', () => {
  const texts = fc.string({
    unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
    maxLength: 400,
  })
  fc.assert(
    fc.property(fc.array(fc.record({ name: texts, value: texts })), (fields) => {
      expect(decoder().decode(encodeLiterals(fields))).toEqual(fields)
    }),
  )
})

test('no bytes make it fail in another way, or take long', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (block) => {
      try {
        decoder().decode(block)
      } catch (error) {
        expect(error).toBeInstanceOf(HpackError)
      }
    }),
    { numRuns: 1000 },
  )
})
