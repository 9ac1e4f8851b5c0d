import { generateKeyPairSync, sign, verify } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DerError, hex } from './der.ts'
import { ecdsaDerToRaw, ecdsaRawToDer } from './ecdsa.ts'

const SIZES = [
  ['P-256', 32, 'sha256'],
  ['P-384', 48, 'sha384'],
  ['P-521', 66, 'sha512'],
] as const

test.each(SIZES)('%s signatures keep their value both ways, and OpenSSL takes them', (namedCurve, size, hash) => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve })
  const data = new TextEncoder().encode('data')
  for (let round = 0; round < 20; round += 1) {
    const raw = new Uint8Array(sign(hash, data, { key: privateKey, dsaEncoding: 'ieee-p1363' }))
    const der = ecdsaRawToDer(raw)
    expect(verify(hash, data, publicKey, der)).toBe(true)
    expect(hex(ecdsaDerToRaw(der, size))).toBe(hex(raw))
  }
})

test.each(SIZES)('%s: numbers with leading zeros and high bits survive', (_, size) => {
  const number = fc
    .tuple(fc.nat({ max: size - 1 }), fc.uint8Array({ minLength: size, maxLength: size }))
    .map(([zeros, value]) => value.fill(0, 0, zeros))
  fc.assert(
    fc.property(number, number, (r, s) => {
      const raw = Uint8Array.from([...r, ...s])
      expect(hex(ecdsaDerToRaw(ecdsaRawToDer(raw), size))).toBe(hex(raw))
    }),
  )
})

test.each([
  ['a negative number', '30060201ff020101'],
  ['a number with needless zeros', '300702020001020101'],
  ['a number missing', '3003020101'],
  ['a number too many', '3009020101020101020101'],
  ['trailing data', '300602010102010100'],
  ['a number that is too large', `3026022101${'00'.repeat(32)}020101`],
])('%s is refused', (_, text) => {
  expect(() => ecdsaDerToRaw(Uint8Array.from(Buffer.from(text, 'hex')), 32)).toThrow(DerError)
})
