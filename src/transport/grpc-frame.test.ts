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
