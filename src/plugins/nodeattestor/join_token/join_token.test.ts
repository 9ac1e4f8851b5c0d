import { expect, test } from 'vitest'
import { rejection } from '../../../../test/support/server.ts'
import { parseTrustDomainName } from '../../../core/trust-domain.ts'
import type { AgentHost } from '../../plugin.ts'
import { joinTokenAttestor } from './agent.ts'
import declaration from './plugin.ts'

const host: AgentHost = { trustDomain: parseTrustDomainName('example.org'), dataDir: '/d', env: {} }
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

test('a token is what is sent, where it can be sent itself', async () => {
  const attestor = joinTokenAttestor('a-token')
  const { payload } = await attestor.begin(undefined)
  expect([attestor.name, text(payload)]).toEqual(['join_token', 'a-token'])
})

test('where others could read it, proof of it is sent, and not the token', async () => {
  const terms = { trustDomain: host.trustDomain, csr: new Uint8Array(1), now: 7 }
  const { payload } = await joinTokenAttestor('a-token-with-a-secret').begin(terms)
  expect(text(payload)).toMatch(/^turret-join-token-proof-1\.[\w-]+\.7\.[\w-]{43}$/)
  expect(text(payload)).not.toContain('secret')
})

test('an empty token is none, and no token answers a challenge', async () => {
  expect(() => joinTokenAttestor('')).toThrow('join token is empty')
  const { respond } = await joinTokenAttestor('a-token').begin(undefined)
  expect(await rejection(respond(new Uint8Array(1)))).toBe('INTERNAL: join token attestation has no challenge')
})

test('an agent that is configured for a token and has none does not attest', async () => {
  const attestor = await declaration.agent!.make({}, host)
  expect(await rejection(attestor.begin(undefined))).toBe(
    'INVALID_ARGUMENT: nodeattestor(join_token): join token was not provided',
  )
})

test('what is configured for the server is odd', async () => {
  expect(await declaration.server!.check({}, host)).toEqual([])
  expect(await declaration.server!.check({ token: 'x' }, host)).toEqual(['unknown setting "token" encountered'])
})
