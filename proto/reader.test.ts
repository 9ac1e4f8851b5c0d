import { expect, test } from 'vitest'
import { Struct } from './google/protobuf/struct.ts'
import { Reader } from './reader.ts'
import { ValidateJWTSVIDResponse, X509SVIDResponse } from './spiffe/workload.ts'
import { AttestAgentRequest, ListAgentsRequest } from './spire/api/server/agent/v1.ts'
import { Entry, JoinToken, JWTKey, SPIFFEID, X509Certificate } from './spire/api/types.ts'

const MALFORMED = 'proto: cannot parse invalid wire-format data'
const NOT_UTF8 = 'string field contains invalid UTF-8'

const bytes = (hex: string) =>
  Uint8Array.from(hex.replaceAll(' ', '').match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
const id = (hex: string) => SPIFFEID.decode(bytes(hex))

test('a well-formed message is decoded', () => {
  expect(id('0a01611203c3a962')).toEqual({ trustDomain: 'a', path: 'éb' })
  expect(id('')).toEqual({ trustDomain: '', path: '' })
})

test.each([
  ['an unknown field of each wire type', '7800 79 0102030405060708 7a02ffff 7d 01020304 0a0161 120162'],
  ['a group, with groups in it', '1b 23 0800 24 2a01ff 1c 0a0161 120162'],
  [
    'a known field as a varint, a group, or four or eight bytes',
    '0a0161 0805 0b0c 0d01020304 09 0102030405060708 120162',
  ],
  ['a tag and a length with more bytes than needed', '8a8000 818000 61 928080808000 8180808080808080 8000 62'],
  ['the greatest field number', '0a0161 faffffff0f 00 120162'],
  ['a field that comes twice: the last one counts', '0a0178 0a0161 120162'],
])('%s is taken', (_name, hex) => {
  expect(id(hex)).toEqual({ trustDomain: 'a', path: 'b' })
})

test.each([
  ['field zero', '00'],
  ['field zero after a field', '0a0161 00 120162'],
  ['field zero with a length', '0a0161 0200'],
  ['field zero in more bytes than needed', '828000 00'],
  ['the end of a group that did not begin', '0a0161 0c 120162'],
  ['the end of an unknown group that did not begin', '7c'],
  ['a group that does not end', '1b 0800'],
  ['a group that ends with another number', '1b 0800 24'],
  ['groups that cross', '1b 23 1c 24'],
  ['field zero in a group', '1b 0000 1c'],
  ['wire type six', '0e'],
  ['wire type seven', '0f'],
  ['wire type seven in a group', '1b 0f 1c'],
  ['a field number of more than 29 bits', '8280808010 0161'],
  ['a tag of more than 64 bits', '8a808080808080808002 0161'],
  ['a string longer than the message', '0a0561'],
  ['a string longer than the message by more than 2^32', '0a8180808010 61'],
  ['a length without end', '0affffffffffffffffffff01'],
  ['an unknown varint of eleven bytes', '78ffffffffffffffffffff01'],
  ['an unknown varint of more than 64 bits', '78ffffffffffffffffff02'],
  ['an unknown varint that is cut off', '78ff'],
  ['an unknown field of four bytes that is cut off', '7d010203'],
  ['an unknown field of eight bytes that is cut off', '7901020304050607'],
  ['an unknown field with a length that is cut off', '7a0201'],
  ['a tag that is cut off', '0a016180'],
  ['a tag without a value', '0a'],
])('%s is refused', (_name, hex) => {
  expect(() => id(hex)).toThrow(new SyntaxError(MALFORMED))
})

test.each([
  ['a short string', '0a02ffff'],
  ['a long string', `0a40${'61'.repeat(63)}ff`],
  ['half a surrogate pair', '0a03eda080'],
  ['a letter in more bytes than needed', '0a02c1a1'],
  ['a character beyond the last one', '0a04f4908080'],
  ['a character that is cut off', '0a01c3'],
])('%s that is not UTF-8 is refused', (_name, hex) => {
  expect(() => id(hex)).toThrow(new SyntaxError(NOT_UTF8))
})

test('a byte order mark is text, and a zero byte is', () => {
  expect(id('0a04efbbbf61 120100')).toEqual({ trustDomain: '\ufeffa', path: '\0' })
})

test('a message inside is held to the same rules, and to its length', () => {
  expect(() => Entry.decode(bytes('12040a02ffff'))).toThrow(NOT_UTF8)
  expect(() => Entry.decode(bytes('120200 00'))).toThrow(MALFORMED)
  // The string would end in the message around.
  expect(() => Entry.decode(bytes('12030a03 61 120162'))).toThrow(MALFORMED)
  expect(() => Entry.decode(bytes('12010a 0161'))).toThrow(MALFORMED)
  expect(() => Entry.decode(bytes('1202 38ff 01'))).toThrow(MALFORMED)
  expect(() => Entry.decode(bytes('1203 7d0102 0304'))).toThrow(MALFORMED)
  // The group would end there.
  expect(() => Entry.decode(bytes('12011b 1c'))).toThrow(MALFORMED)
})

test('a message that comes in pieces is merged', () => {
  const entry = Entry.decode(bytes('12030a0161 1203120162 12030a0163'))
  expect(entry.spiffeId).toEqual({ trustDomain: 'c', path: 'b' })
  const { filter } = ListAgentsRequest.decode(bytes('0a041a020801 0a0412021001 0a021a00'))
  expect(filter).toMatchObject({ byBanned: true, bySelectorMatch: { match: 1 } })
})

test('of a oneof the last member counts, and only pieces of the same one are merged', () => {
  const whole = AttestAgentRequest.decode(bytes('0a050a030a0161 0a050a03120162'))
  expect(whole).toMatchObject({ params: { data: { type: 'a', payload: bytes('62') } }, challengeResponse: undefined })
  expect(AttestAgentRequest.decode(bytes('0a050a030a0161 120163'))).toEqual({
    params: undefined,
    challengeResponse: bytes('63'),
  })
  expect(AttestAgentRequest.decode(bytes('0a050a030a0161 120163 0a050a03120162'))).toMatchObject({
    params: { data: { type: '', payload: bytes('62') } },
    challengeResponse: undefined,
  })
})

test('of a key of a map the last value counts; an entry may lack both', () => {
  const { federatedBundles } = X509SVIDResponse.decode(
    bytes('1a060a0161120162 1a060a0161120163 1a00 1a09120164 120165 0a0166'),
  )
  expect(federatedBundles).toEqual({ a: bytes('63'), '': bytes(''), f: bytes('65') })
})

test('a key of a map is never the prototype of anything', () => {
  const name = '095f5f70726f746f5f5f'
  const { federatedBundles } = X509SVIDResponse.decode(bytes(`1a0e 0a${name} 120162`))
  expect(Object.keys(federatedBundles)).toEqual(['__proto__'])
  const { fields } = Struct.decode(bytes(`0a18 0a${name} 120b 2a09 0a07 0a0178 1202 2001`))
  expect(Object.entries(fields)).toEqual([['__proto__', { x: true }]])
  expect(fields).not.toHaveProperty('x')
})

test.each([
  ['1000', 0],
  ['10ffffffff0f', 0xffffffff],
  ['10ffffffffffffffffff01', -1],
  ['10ffffffffffffff0f', Number.MAX_SAFE_INTEGER],
  ['1081808080808080f0ff01', -Number.MAX_SAFE_INTEGER],
])('the 64-bit integer %s is %d', (hex, value) => {
  expect(JoinToken.decode(bytes(hex)).expiresAt).toBe(value)
})

test.each(['108080808080808010', '1080808080808080f0ff01', '1080808080808080808001'])(
  'the integer %s, which a number cannot hold, is refused',
  (hex) => {
    expect(() => JoinToken.decode(bytes(hex))).toThrow('proto: integer is beyond 2^53')
  },
)

test('of an integer of 32 bits that is longer the lowest bits count, and any bit makes a boolean true', () => {
  expect(Entry.decode(bytes('2885808080f0ffffff7f')).x509SvidTtl).toBe(5)
  expect(Entry.decode(bytes('28ffffffffffffffffff01')).x509SvidTtl).toBe(-1)
  expect(JWTKey.decode(bytes('2080808080808080808001')).tainted).toBe(true)
  expect(JWTKey.decode(bytes('20808000')).tainted).toBe(false)
})

test('floating point', () => {
  const { claims } = ValidateJWTSVIDResponse.decode(bytes('1212 0a10 0a0178 120b 11 0000000000000840 7800'))
  expect(claims).toEqual({ x: 3 })
  expect(() => Struct.decode(bytes('0a09 0a0178 1204 11010203'))).toThrow(MALFORMED)
})

test('messages nest up to a depth of 100', () => {
  const nested = (levels: number) => {
    let list = new Uint8Array(0)
    // Value 6 is a ListValue, whose 1 is a Value.
    const inside = (number: number) => {
      const length = list.length < 128 ? [list.length] : [(list.length & 127) | 128, list.length >> 7]
      list = Uint8Array.of(number * 8 + 2, ...length, ...list)
    }
    for (let level = 0; level < levels; level++) inside(level % 2 === 0 ? 6 : 1)
    inside(2)
    inside(1)
    return list
  }
  Struct.decode(nested(97))
  expect(() => Struct.decode(nested(99))).toThrow(new SyntaxError('proto: message is nested too deeply'))
})

test('messages beside each other are no depth', () => {
  expect(Entry.decode(bytes('2200'.repeat(1000))).selectors).toHaveLength(1000)
})

test('groups nest up to a depth of 10,000, without a stack', () => {
  const nested = (depth: number) => Uint8Array.from({ length: 2 * depth }, (_, index) => (index < depth ? 0x1b : 0x1c))
  expect(SPIFFEID.decode(nested(10_000))).toEqual({ trustDomain: '', path: '' })
  expect(() => SPIFFEID.decode(nested(10_001))).toThrow(MALFORMED)
})

test('fields are counted, in messages and in groups that are left out', () => {
  const message = bytes('12030a0161 1b 0800 1c')
  expect(Entry.decode(new Reader(message, 5)).spiffeId?.trustDomain).toBe('a')
  expect(() => Entry.decode(new Reader(message, 4))).toThrow(new SyntaxError('proto: message has too many fields'))
})

test('bytes of a Buffer come out as plain Uint8Array', () => {
  const { asn1 } = X509Certificate.decode(Buffer.from('0a020102', 'hex'))
  expect(asn1.constructor).toBe(Uint8Array)
  expect([...asn1]).toEqual([1, 2])
})
