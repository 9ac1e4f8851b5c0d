import { expect, test } from 'vitest'
import { decodeStrict } from './reader.ts'
import { Entry, SPIFFEID, X509Certificate } from './spire/api/types.ts'

const bytes = (hex: string) => Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))

test('a well-formed message is decoded', () => {
  expect(decodeStrict(SPIFFEID, bytes('0a01611203c3a962'))).toEqual({ trustDomain: 'a', path: 'éb' })
  expect(decodeStrict(SPIFFEID, bytes(''))).toEqual({ trustDomain: '', path: '' })
})

test('an unknown field is skipped', () => {
  expect(decodeStrict(SPIFFEID, bytes('0a01617a02ffff120162'))).toEqual({ trustDomain: 'a', path: 'b' })
})

test.each([
  ['a short string that is not UTF-8', '0a02ffff'],
  ['a long string that is not UTF-8', `0a40${'61'.repeat(63)}ff`],
  ['a zero tag', '0a016100120162'],
  ['a stray end of a group', '0a01610c120162'],
  ['a string longer than the message', '0a0561'],
  ['a varint without end', '0affffffffffffffffffff01'],
  ['a length beyond 32 bits of input', '0affffffff0f61'],
  ['a tag of a wire type that does not exist', '0f'],
])('%s is an error', (_name, hex) => {
  expect(() => decodeStrict(SPIFFEID, bytes(hex))).toThrow()
})

test('a nested message is held to the same rules', () => {
  expect(() => decodeStrict(Entry, bytes('12040a02ffff'))).toThrow()
})

test('bytes of a Buffer come out as plain Uint8Array', () => {
  const { asn1 } = decodeStrict(X509Certificate, Buffer.from('0a020102', 'hex'))
  expect(asn1.constructor).toBe(Uint8Array)
  expect([...asn1]).toEqual([1, 2])
})
