import fc from 'fast-check'
import { expect, test } from 'vitest'
import { StatusError } from '../core/error.ts'
import { FrameReader, frameMessage } from './grpc-frame.ts'
import { decodeStatusDetails, encodeGrpcMessage, encodeStatus, parseGrpcTimeout } from './grpc-status.ts'
import { inflate } from './gzip.ts'

test('messages survive any way of cutting the body into pieces', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 17 }), { minLength: 1 }),
      (messages, cuts) => {
        const body = Buffer.concat(messages.map(frameMessage))
        const reader = new FrameReader()
        const read: number[][] = []
        for (let at = 0, cut = 0; at < body.length; cut++) {
          const size = cuts[cut % cuts.length]!
          reader.push(body.subarray(at, at + size))
          at += size
          for (let message = reader.next(); message; message = reader.next()) read.push([...message])
        }
        expect(read).toEqual(messages.map((message) => [...message]))
        expect(reader.unreadBytes).toBe(0)
      },
    ),
  )
})

test('malformed bodies give a StatusError or wait, nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (body) => {
      const reader = new FrameReader({ maxMessageBytes: 20, encoding: 'gzip', inflate })
      reader.push(body)
      try {
        for (let message = reader.next(); message; message = reader.next())
          expect(message.length).toBeLessThanOrEqual(20)
      } catch (error) {
        expect(error).toBeInstanceOf(StatusError)
      }
    }),
  )
})

test('a length of four gigabytes is refused from its prefix alone', () => {
  const reader = new FrameReader()
  reader.push(Uint8Array.of(0, 255, 255, 255, 255))
  expect(() => reader.next()).toThrow('grpc: received message larger than max (4294967295 vs. 4194304)')
})

test('a message may be as long as is said, and not a byte longer', () => {
  const reader = new FrameReader({ maxMessageBytes: 3 })
  reader.push(frameMessage(Uint8Array.of(1, 2, 3)))
  expect([...reader.next()!]).toEqual([1, 2, 3])
  reader.push(frameMessage(Uint8Array.of(1, 2, 3, 4)))
  expect(() => reader.next()).toThrow('grpc: received message larger than max (4 vs. 3)')
})

test('a compressed message is inflated to no more than a message may have', () => {
  const asked: unknown[] = []
  const reader = new FrameReader({
    maxMessageBytes: 3,
    encoding: 'gzip',
    inflate: (message, maxBytes) => {
      asked.push([...message], maxBytes)
      return Uint8Array.of(9)
    },
  })
  reader.push(Uint8Array.of(1, 0, 0, 0, 2, 5, 6))
  expect(reader.next()).toEqual(Uint8Array.of(9))
  expect(asked).toEqual([[5, 6], 3])
})

const IDENTITY = 'INTERNAL: grpc: compressed flag set with identity or empty encoding'
test.each<[number, string | undefined, typeof inflate | undefined, string]>([
  [2, 'gzip', inflate, 'INTERNAL: grpc: received unexpected payload format 2'],
  [255, undefined, undefined, 'INTERNAL: grpc: received unexpected payload format 255'],
  [1, undefined, inflate, IDENTITY],
  [1, '', inflate, IDENTITY],
  [1, 'identity', inflate, IDENTITY],
  [1, 'br', inflate, 'UNIMPLEMENTED: grpc: Decompressor is not installed for grpc-encoding "br"'],
  [1, 'gzip', undefined, 'UNIMPLEMENTED: grpc: Decompressor is not installed for grpc-encoding "gzip"'],
])('a message with the flags %i and the encoding %s is refused', (flags, encoding, inflates, refusal) => {
  const reader = new FrameReader({ encoding, ...(inflates ? { inflate: inflates } : {}) })
  reader.push(Uint8Array.of(flags, 0, 0, 0, 1, 7))
  let refused = ''
  try {
    reader.next()
  } catch (error) {
    if (error instanceof StatusError) refused = `${error.code}: ${error.message}`
  }
  expect(refused).toBe(refusal)
})

test.each([
  ['30S', 30_000],
  ['1H', 3_600_000],
  ['5m', 5],
  ['2500u', 2.5],
  ['123456789S', undefined],
  ['-1S', undefined],
  ['1', undefined],
  ['', undefined],
])('grpc-timeout %s is %s ms', (text, expected) => expect(parseGrpcTimeout(text)).toBe(expected))

test('grpc-message comes out in ASCII and decodes to what went in', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      const encoded = encodeGrpcMessage(text)
      expect(encoded).toMatch(/^[ -~]*$/)
      expect(decodeURIComponent(encoded)).toBe(text)
    }),
  )
})

test('a blank at either end of a message is encoded: HTTP/2 drops such a header', () => {
  expect([' a b ', ' ', '', 'a b'].map(encodeGrpcMessage)).toEqual(['%20a b%20', '%20', '', 'a b'])
})

test('status details survive, and malformed ones are none', () => {
  const details = [{ typeUrl: 'type.googleapis.com/a.B', value: Uint8Array.of(1, 2) }]
  const encoded = encodeStatus({ code: 'NOT_FOUND', message: 'é', details })
  expect(decodeStatusDetails(encoded).map((d) => [d.typeUrl, ...d.value])).toEqual([[details[0]!.typeUrl, 1, 2]])
  expect(decodeStatusDetails(encoded.subarray(0, -1))).toEqual([])
})
