import { expect, test } from 'vitest'
import { HOST_VARIABLES } from '../test/support/host.ts'
import { optionsFrom } from './environment.ts'

const ADMIN = { issuer: 'https://login.example.org', audience: 'turret', claims: { email: ['a@example.org'] } }

test('administrators and sources of the exchange are lists of JSON objects', () => {
  const options = optionsFrom({
    ...HOST_VARIABLES,
    OIDC_ADMINS: JSON.stringify([ADMIN]),
    EXCHANGE: '[{ "name": "ci", "type": "github_actions", "audience": "turret" }]',
  })
  expect(options.oidcAdmins).toEqual([ADMIN])
  expect(options.exchange).toEqual([{ name: 'ci', type: 'github_actions', audience: 'turret' }])
})

test.each([
  '{',
  '{}',
  '[null]',
  '["a"]',
  '[[]]',
  JSON.stringify([{ ...ADMIN, issuer: '' }]),
  JSON.stringify([{ ...ADMIN, audience: 1 }]),
  JSON.stringify([{ ...ADMIN, claims: null }]),
  JSON.stringify([{ ...ADMIN, claims: { email: 'a@example.org' } }]),
  JSON.stringify([{ ...ADMIN, claims: { email: [] } }]),
  JSON.stringify([ADMIN, { ...ADMIN, claims: { email: [''] } }]),
])('OIDC_ADMINS %s is refused with an example', (text) => {
  expect(() => optionsFrom({ ...HOST_VARIABLES, OIDC_ADMINS: text })).toThrow(
    /^OIDC_ADMINS must be JSON: \[\{ "issuer"/,
  )
})

test.each(['{', '{}', '[null]', '["a"]', '[[]]'])('EXCHANGE %s is refused with an example', (text) => {
  expect(() => optionsFrom({ ...HOST_VARIABLES, EXCHANGE: text })).toThrow(/^EXCHANGE must be JSON: \[\{ "name"/)
})
