import { expect, test } from 'vitest'
import { handshakeLine, wantsOneConnection } from './handshake.ts'

const place = { network: 'unix', address: '/s', certificate: undefined } as const

test.each([
  ['plain', {}, undefined, '1|1|unix|/s|grpc|\n'],
  ['with a certificate', {}, Uint8Array.of(1, 2, 3, 4), '1|1|unix|/s|grpc|AQIDBA\n'],
  ['where the host knows of one connection', { PLUGIN_MULTIPLEX_GRPC: 'false' }, undefined, '1|1|unix|/s|grpc||true\n'],
])('the line %s', (_, env, certificate, line) => {
  expect(handshakeLine({ ...place, certificate }, env)).toBe(line)
})

test('one connection is used where the host says so', () => {
  const wants = (value?: string) => wantsOneConnection({ PLUGIN_MULTIPLEX_GRPC: value })
  expect([wants('true'), wants('1'), wants('false'), wants('yes'), wants('')]).toEqual([
    true,
    true,
    false,
    false,
    false,
  ])
})
