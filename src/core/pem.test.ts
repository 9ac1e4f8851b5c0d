import fc from 'fast-check'
import { expect, test } from 'vitest'
import { hex } from './der.ts'
import { certificatesFromPem, decodePem, encodePem } from './pem.ts'

const one = encodePem('CERTIFICATE', Uint8Array.of(1, 2, 3))

test('what is encoded has lines of 64 characters and is decoded to the same bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      const text = encodePem('PRIVATE KEY', bytes)
      expect(text.split('\n').every((line) => line.length <= 64)).toBe(true)
      const [block, ...more] = decodePem(text)
      expect(more).toEqual([])
      expect(block?.label).toBe('PRIVATE KEY')
      expect(hex(block!.bytes)).toBe(hex(bytes))
    }),
  )
})

test.each([
  ['text around blocks', `Bag Attributes\n    friendlyName: x\n${one}subject=/O=x\n${one}`, 2],
  ['line ends of Windows', one.replaceAll('\n', '\r\n'), 1],
  ['blanks after the first line', one.replace('CERTIFICATE-----\n', 'CERTIFICATE----- \t\n'), 1],
  ['a block with another label', `${encodePem('PRIVATE KEY', Uint8Array.of(9))}${one}`, 1],
  ['a block that never ends', `-----BEGIN CERTIFICATE-----\nAQID\n${one}`, 1],
  ['labels that differ', one.replace('END CERTIFICATE', 'END CERTIFICATES'), 0],
  ['what is not base64', one.replace('AQID', 'AQ*D'), 0],
  ['base64 that is cut short', one.replace('AQID', 'AQI'), 0],
  ['a beginning inside a line', `x${one}`, 0],
  ['nothing', '', 0],
])('%s', (_, text, count) => {
  expect(certificatesFromPem(text).map(hex)).toEqual(new Array(count).fill('010203'))
})

test('a text made to cost time costs none', () => {
  const started = performance.now()
  decodePem('-----BEGIN CERTIFICATE-----\n'.repeat(50_000))
  decodePem(`-----BEGIN CERTIFICATE-----\n${'\n'.repeat(500_000)}`)
  expect(performance.now() - started).toBeLessThan(2000)
})
