import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  parseSpiffeId,
  pathOf,
  requireAgentId,
  requireMember,
  requireWorkloadId,
  serverId,
  spiffeId,
  trustDomainId,
  trustDomainOf,
} from './spiffe-id.ts'
import { parseTrustDomain, parseTrustDomainName } from './trust-domain.ts'

const TD = parseTrustDomainName('example.org')
const refusal = (message: string) => expect.objectContaining({ code: 'INVALID_ARGUMENT', message })
const CHARACTERS = 'path segment characters are limited to letters, numbers, dots, dashes, and underscores'

test.each([
  ['', 'cannot be empty'],
  ['example.org/a', 'scheme is missing or invalid'],
  ['SPIFFE://example.org/a', 'scheme is missing or invalid'],
  ['https://example.org/a', 'scheme is missing or invalid'],
  ['spiffe:/example.org/a', 'scheme is missing or invalid'],
  [' spiffe://example.org/a', 'scheme is missing or invalid'],
  ['spiffe://', 'trust domain is missing'],
  ['spiffe:///a', 'trust domain is missing'],
  ['spiffe://example.org/', 'path cannot have a trailing slash'],
  ['spiffe://example.org/a/', 'path cannot have a trailing slash'],
  ['spiffe://example.org//a', 'path cannot contain empty segments'],
  ['spiffe://example.org/a//b', 'path cannot contain empty segments'],
  ['spiffe://example.org/.', 'path cannot contain dot segments'],
  ['spiffe://example.org/a/../b', 'path cannot contain dot segments'],
  ['spiffe://example.org/a/./b', 'path cannot contain dot segments'],
  ['spiffe://example.org/a%2fb', CHARACTERS],
  ['spiffe://example.org/a b', CHARACTERS],
  ['spiffe://example.org/a\n', CHARACTERS],
  ['spiffe://example.org/\na', CHARACTERS],
  ['spiffe://example.org/a?b', CHARACTERS],
  ['spiffe://example.org/a#b', CHARACTERS],
  ['spiffe://example.org/ä', CHARACTERS],
  [`spiffe://example.org/${'a'.repeat(2028)}`, 'SPIFFE ID is longer than 2048 bytes'],
])('%j is no SPIFFE ID', (text, message) => {
  expect(() => parseSpiffeId(text)).toThrow(refusal(message))
})

test.each(['EXAMPLE.org', 'example.org:8080', 'user@example.org', 'exa mple', 'exämple', 'a%41', 'a?b', 'a#b', 'a\n'])(
  '%j is no trust domain',
  (name) => {
    const message = 'trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores'
    expect(() => parseSpiffeId(`spiffe://${name}/a`)).toThrow(refusal(message))
    expect(() => parseTrustDomainName(name)).toThrow(refusal(message))
  },
)

test.each([
  ['spiffe://example.org', 'example.org', ''],
  ['spiffe://example.org/a', 'example.org', '/a'],
  ['spiffe://a_b-c.0/A-z/._-/...', 'a_b-c.0', '/A-z/._-/...'],
  [`spiffe://example.org/${'a'.repeat(2027)}`, 'example.org', `/${'a'.repeat(2027)}`],
])('%s is one', (text, trustDomain, path) => {
  const id = parseSpiffeId(text)
  expect([trustDomainOf(id), pathOf(id)]).toEqual([trustDomain, path])
  expect(spiffeId(parseTrustDomain(trustDomain), path)).toBe(text)
})

test.each([
  ['a', 'path must have a leading slash'],
  ['/', 'path cannot have a trailing slash'],
  ['/a/..', 'path cannot contain dot segments'],
  [`/${'a'.repeat(2028)}`, 'SPIFFE ID is longer than 2048 bytes'],
])('no ID is put together from the path %j', (path, message) => {
  expect(() => spiffeId(TD, path)).toThrow(refusal(message))
})

test('whatever text is taken for an ID is put together again from its parts', () => {
  const segments = fc.array(fc.string({ maxLength: 4 }), { maxLength: 4 })
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z.\n]{0,6}$/), segments, (name, parts) => {
      const text = `spiffe://${name}${parts.map((part) => `/${part}`).join('')}`
      let id: ReturnType<typeof parseSpiffeId>
      try {
        id = parseSpiffeId(text)
      } catch {
        return
      }
      expect(spiffeId(parseTrustDomainName(trustDomainOf(id)), pathOf(id))).toBe(text)
      expect(new URL(text).pathname).toBe(pathOf(id))
    }),
  )
})

describe('which namespace an ID is in', () => {
  const own = (path: string) => parseSpiffeId(`spiffe://example.org${path}`)
  const foreign = parseSpiffeId('spiffe://other.org/spire/agent/a')

  test('the ID of a trust domain and of its server', () => {
    expect([trustDomainId(TD), serverId(TD)]).toEqual(['spiffe://example.org', 'spiffe://example.org/spire/server'])
  })

  test.each([requireMember, requireAgentId, requireWorkloadId])('%o refuses another trust domain', (require) => {
    expect(() => require(foreign, TD)).toThrow(refusal(`"${foreign}" is not a member of trust domain "example.org"`))
    expect(() => require(parseSpiffeId('spiffe://example.org.evil/spire/agent/a'), TD)).toThrow('is not a member')
  })

  test.each([requireMember, requireAgentId, requireWorkloadId])('%o refuses the trust domain itself', (require) => {
    expect(() => require(own(''), TD)).toThrow('path is empty')
  })

  test.each(['/spire', '/spire/server', '/spire/agent/a', '/spire/x'])('%s is no workload', (path) => {
    expect(() => requireWorkloadId(own(path), TD)).toThrow(
      refusal(`"${own(path)}" is not a workload in trust domain "example.org"; path is in the reserved namespace`),
    )
    expect(requireMember(own(path), TD)).toBe(own(path))
  })

  test.each(['/a', '/spire/agent', '/spire/agentx/a', '/x/spire/agent/a', '/spire/server'])(
    '%s is no agent',
    (path) => {
      expect(() => requireAgentId(own(path), TD)).toThrow(
        refusal(`"${own(path)}" is not an agent in trust domain "example.org"; path is not in the agent namespace`),
      )
    },
  )

  test('workloads and agents are taken', () => {
    for (const path of ['/a', '/spirex', '/x/spire/agent/a', '/Spire/agent/a'])
      expect(requireWorkloadId(own(path), TD)).toBe(own(path))
    expect(requireAgentId(own('/spire/agent/a/b'), TD)).toBe(own('/spire/agent/a/b'))
  })
})
