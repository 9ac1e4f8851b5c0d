import { expect, test } from 'vitest'
import { readHandshake } from './handshake.ts'

test.each([
  ['1|1|unix|/tmp/p.sock|grpc|', 'unix:/tmp/p.sock'],
  ['1|1|tcp|127.0.0.1:7|grpc|', 'dns:///127.0.0.1:7'],
  // What go-plugin writes that knows of multiplexing.
  ['1|1|unix|/tmp/p.sock|grpc||false\r', 'unix:/tmp/p.sock'],
])('%s is where a plugin listens', (line, target) => {
  expect(readHandshake(line)).toBe(target)
})

test.each([
  ['hello', 'Unrecognized remote plugin message: hello'],
  ['1|1|unix', 'Unrecognized remote plugin message: 1|1|unix'],
  ['2|1|unix|/s|grpc', 'incompatible core API version with plugin. Plugin version: 2, Core version: 1'],
  ['1|2|unix|/s|grpc', 'incompatible API version with plugin. Plugin version: 2, Client versions: [1]'],
  ['1|1|unix|/s|netrpc', 'unsupported plugin protocol "netrpc". Supported: [grpc]'],
  ['1|1|unix|/s', 'unsupported plugin protocol "netrpc". Supported: [grpc]'],
  ['1|1|udp|/s|grpc', 'unknown address type: /s'],
  ['1|1|unix||grpc', 'the plugin names no address'],
  [`1|1|unix|/s|grpc|${'M'.repeat(51)}`, 'the plugin asks for TLS, which was not offered'],
])('%s is refused', (line, text) => {
  expect(() => readHandshake(line)).toThrow(text)
})
