import { BlockList, isIP } from 'node:net'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { hex } from './der.ts'
import { isOfThisMachine, parseIpAddress, parseIpNetwork } from './ip-address.ts'

test.each([
  ['192.0.2.9', 'c0000209'],
  ['::1', '00000000000000000000000000000001'],
  ['::', '00000000000000000000000000000000'],
  ['2001:db8::a:1', '20010db80000000000000000000a0001'],
  ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
  ['64:ff9b::192.0.2.33', '0064ff9b0000000000000000c0000221'],
  ['::ffff:192.0.2.9', 'c0000209'],
])('%s is %s', (text, expected) => {
  expect(hex(parseIpAddress(text)!)).toBe(expected)
})

test.each([
  '',
  '1.2.3',
  '1.2.3.256',
  '01.2.3.4',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1::2::3',
  ':1',
  '1:',
  '::1%lo',
  '1:2:3:4:5:6:7:8::',
  'g::',
  '::1.2.3.4:5',
])('%j is no address', (text) => expect(parseIpAddress(text)).toBeUndefined())

test('it takes what node:net takes, and means the same', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV6(), fc.ipV4(), fc.string({ unit: fc.constantFrom(...':.0123456789af'), maxLength: 20 })),
      (text) => {
        const parsed = parseIpAddress(text)
        expect(parsed !== undefined).toBe(isIP(text) !== 0)
        if (!parsed) return
        const list = new BlockList()
        if (parsed.length === 4) list.addAddress(parsed.join('.'), 'ipv4')
        else list.addAddress(hex(parsed).replace(/(.{4})(?!$)/g, '$1:'), 'ipv6')
        expect(list.check(text, isIP(text) === 4 ? 'ipv4' : 'ipv6')).toBe(true)
      },
    ),
    { numRuns: 2000 },
  )
})

test.each([
  ['192.0.2.0/24', '192.0.2.255', true],
  ['192.0.2.0/24', '192.0.3.0', false],
  ['192.0.2.128/25', '192.0.2.127', false],
  ['192.0.2.128/25', '192.0.2.200', true],
  ['192.0.2.7', '192.0.2.7', true],
  ['192.0.2.7', '192.0.2.6', false],
  ['127.0.0.0/8', '::ffff:127.1.2.3', true],
  ['0.0.0.0/0', '203.0.113.1', true],
  ['0.0.0.0/0', '2001:db8::1', false],
  ['2001:db8::/33', '2001:db8:7fff::1', true],
  ['2001:db8::/33', '2001:db8:8000::1', false],
  ['::1/128', '::1', true],
])('in the network %s the address %s is: %s', (network, address, expected) => {
  expect(parseIpNetwork(network)!(parseIpAddress(address)!)).toBe(expected)
})

test.each(['', '/8', '192.0.2.0/33', '192.0.2.0/', '192.0.2.0/-1', '::/129', '192.0.2/24', '10.0.0.0/8/8', 'all'])(
  '%j is no network',
  (text) => expect(parseIpNetwork(text)).toBeUndefined(),
)

test.each([
  ['127.0.0.1', true],
  ['127.9.0.0/16', true],
  ['0.0.0.0/0', true],
  ['::1', true],
  ['::/0', true],
  ['::ffff:127.0.0.1', true],
  ['10.0.0.0/8', false],
  ['128.0.0.0/1', false],
  ['2001:db8::/32', false],
])('%s has addresses of this machine itself: %s', (network, expected) => {
  expect(isOfThisMachine(network)).toBe(expected)
})
