import { expect, test } from 'vitest'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as Reason } from '../proto/spire/api/types.ts'
import { type StatusCode, StatusError, wrapError } from '../src/core/error.ts'
import { denialOf } from './denial.ts'

const TYPE = 'type.googleapis.com/spire.api.types.PermissionDeniedDetails'
const refusal = (reason: Reason, code: StatusCode = 'PERMISSION_DENIED', typeUrl = TYPE) =>
  new StatusError(code, 'no', { details: [{ typeUrl, value: PermissionDeniedDetails.encode({ reason }).finish() }] })

test.each([
  [Reason.AGENT_EXPIRED, 'reattest'],
  [Reason.AGENT_NOT_ACTIVE, 'reattest'],
  [Reason.AGENT_NOT_ATTESTED, 'reattest'],
  [Reason.AGENT_MUST_REATTEST, 'reattest'],
  [Reason.AGENT_BANNED, 'banned'],
  [Reason.UNKNOWN, undefined],
])('a refusal for the reason %s means %s', (reason, meaning) => {
  expect(denialOf(refusal(reason))).toBe(meaning)
  expect(denialOf(wrapError('UNAVAILABLE', 'while syncing', refusal(reason)))).toBe(meaning)
})

test('only a refusal of the server with its details means anything', () => {
  for (const error of [
    undefined,
    new Error('no'),
    new StatusError('PERMISSION_DENIED', 'no'),
    refusal(Reason.AGENT_BANNED, 'UNAUTHENTICATED'),
    refusal(Reason.AGENT_BANNED, 'PERMISSION_DENIED', 'type.googleapis.com/a.B'),
    new Error('no', { cause: refusal(Reason.AGENT_BANNED) }),
  ])
    expect(denialOf(error)).toBeUndefined()
})

test('details that cannot be read mean nothing', () => {
  const value = Uint8Array.of(0x08)
  expect(denialOf(new StatusError('PERMISSION_DENIED', 'no', { details: [{ typeUrl: TYPE, value }] }))).toBeUndefined()
})
