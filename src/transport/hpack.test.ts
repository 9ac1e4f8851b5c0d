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
  ['an index of nothing', '80', 'there is no field 0'],
  ['an index past both tables', 'be', 'there is no field 62'],
  ['an index that is huge', 'ffffffffffff0f', 'an integer is too large'],
  ['an index that is large in few bytes', 'ffffffff0f', 'an integer is too large'],
  ['an integer that does not end', 'ff8080808080808080808080', 'an integer is too large'],
  ['an integer that is cut short', 'ff', 'the block is cut short'],
  ['a name that is cut short', '400a637573', 'a text is cut short'],
  ['a value that is cut short', '400161 0562', 'a text is cut short'],
  ['a name without value', '4001 61', 'the block is cut short'],
  ['a table that is larger than allowed', '3fe2ff03', 'the table is larger than allowed'],
  ['a table that is larger by a byte', '3fe21f', 'the table is larger than allowed'],
  ['a change of the table size after a field', '82 3fe11f', 'a change of the table size comes after a field'],
  ['a text that ends with zeros', '40 81 00 00', 'a text is padded wrongly'],
  ['a text padded by a whole byte', '40 82 1f ff 00', 'a text is padded wrongly'],
  ['a text with the code that ends it', '40 84 ffffffff 00', 'a text holds the code that ends it'],
])('%s is refused', (_, block, message) => {
  expect(() => decoder().decode(bytes(block))).toThrow(HpackError)
  expect(() => decoder().decode(bytes(block))).toThrow(message)
})

test('a list may be as long as is said, and not a byte longer', () => {
  const block = bytes('0001610262 63'.replaceAll(' ', ''))
  expect(shown(new HpackDecoder(35).decode(block))).toEqual(['a: bc'])
  expect(() => new HpackDecoder(34).decode(block)).toThrow('the header list is too long')
  // Refused by itself, before it is counted with others: in Huffman’s code a text is longer than it comes.
  expect(() => new HpackDecoder(1).decode(block)).toThrow('a text is too long')
})

test('a table keeps what fits, each field counted with 32 bytes more, and forgets the oldest', () => {
  const one = decoder()
  expect(shown(one.decode(bytes('3fe11f 82')))).toEqual([':method: GET'])
  // 33 bytes each: 124 fit into 4096.
  one.decode(Buffer.concat(Array.from({ length: 200 }, () => bytes('40016100'))))
  const index = (number: number) => Buffer.of(0xff, (number - 0x7f) | 0x80, 0)
  expect(shown(one.decode(index(61 + 124)))).toEqual(['a: '])
  expect(() => one.decode(index(61 + 125))).toThrow('there is no field 186')
})

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
