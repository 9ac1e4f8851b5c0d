import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Status } from '../../proto/google/rpc/status.ts'
import { STATUS_CODES, type StatusCode } from '../core/error.ts'
import { decodeStatusDetails, encodeStatus } from './grpc-status.ts'

test('a status with details is what the generated code reads, and its details come back', () => {
  const status = fc.record({
    code: fc.constantFrom(...(Object.keys(STATUS_CODES) as StatusCode[])),
    message: fc.string({ unit: 'grapheme', maxLength: 400 }),
    details: fc.array(
      fc.record({ typeUrl: fc.string({ unit: 'grapheme', maxLength: 200 }), value: fc.uint8Array({ maxLength: 400 }) }),
      { maxLength: 3 },
    ),
  })
  fc.assert(
    fc.property(status, (given) => {
      const bytes = encodeStatus(given)
      const { code, message, details } = Status.decode(bytes)
      expect({
        code,
        message,
        details: details.map(({ typeUrl, value }) => ({ typeUrl, value: Uint8Array.from(value) })),
      }).toEqual({
        ...given,
        code: STATUS_CODES[given.code],
      })
      expect(
        decodeStatusDetails(bytes).map(({ typeUrl, value }) => ({ typeUrl, value: Uint8Array.from(value) })),
      ).toEqual(given.details)
    }),
  )
})

test('any bytes are read as details or as none', () => {
  fc.assert(fc.property(fc.uint8Array(), (bytes) => void decodeStatusDetails(bytes)))
})
