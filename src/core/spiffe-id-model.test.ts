import fc from 'fast-check'
import { expect, test } from 'vitest'
import { StatusError } from './error.ts'
import {
  parseSpiffeId,
  pathOf,
  requireAgentId,
  requireMember,
  requireWorkloadId,
  spiffeId,
  trustDomainOf,
} from './spiffe-id.ts'
import { parseTrustDomain, parseTrustDomainName } from './trust-domain.ts'

const TD = parseTrustDomainName('example.org')

/** What SPIFFE-ID 2 says, in one expression; neither `.` nor `..` is a segment. */
const GRAMMAR = /^spiffe:\/\/([a-z0-9._-]+)((?:\/(?!\.{1,2}(?:\/|$))[a-zA-Z0-9._-]+)*)$/

/** Texts near to IDs: made of their pieces, and of what breaks them. */
const near = fc
  .array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc.constantFrom('spiffe://', 'example.org', '/', 'a', 'spire', 'agent', '.', '..', '-', '_', 'B1'),
      },
      {
        weight: 1,
        arbitrary: fc.constantFrom(
          'spiffe:',
          'SPIFFE://',
          'A.org',
          ':8080',
          'u@',
          '?',
          '#',
          '%2f',
          '//',
          '\\',
          ' ',
          '\n',
          '\0',
          'é',
          'K',
          '*',
        ),
      },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 3 }) },
    ),
    { maxLength: 9 },
  )
  .map((parts) => parts.join(''))
const candidates = fc.oneof(
  near,
  near.map((text) => `spiffe://${text}`),
  near.map((text) => `spiffe://example.org/${text}`),
)

function accepted<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    expect(error).toBeInstanceOf(StatusError)
    expect((error as StatusError).code).toBe('INVALID_ARGUMENT')
    return undefined
  }
}

test('what is an ID is what the grammar says, and its parts put it together again', () => {
  let good = 0
  fc.assert(
    fc.property(candidates, (text) => {
      const model = GRAMMAR.exec(text)
      const id = accepted(() => parseSpiffeId(text))
      expect(id).toBe(model ? text : undefined)
      if (!id) return
      good += 1
      expect([trustDomainOf(id), pathOf(id)]).toEqual([model![1], model![2]])
      expect(spiffeId(trustDomainOf(id), pathOf(id))).toBe(id)
      expect(parseTrustDomain(text)).toBe(model![1])
    }),
    { numRuns: 3000 },
  )
  expect(good).toBeGreaterThan(100)
})

test('a trust domain and a path make an ID if the ID can be parsed', () => {
  fc.assert(
    fc.property(near, (path) => {
      const id = accepted(() => spiffeId(TD, path))
      expect(id).toBe(
        path === '' || path.startsWith('/') ? accepted(() => parseSpiffeId(`spiffe://example.org${path}`)) : undefined,
      )
    }),
    { numRuns: 1000 },
  )
})

test('the rooms of workloads and of agents do not meet, and both are in the trust domain', () => {
  const ids = candidates.map((text) => accepted(() => parseSpiffeId(text))).filter((id) => id !== undefined)
  const rooms = fc.constantFrom(
    '',
    '/spire',
    '/spire/',
    '/spire/agent',
    '/spire/agent/a',
    '/spire/agent/a/b',
    '/spire/server',
    '/spirea',
    '/spire.a/b',
    '/w',
  )
  const inRooms = fc
    .tuple(fc.constantFrom('example.org', 'example.com', 'a.example.org'), rooms)
    .map(([name, path]) => accepted(() => parseSpiffeId(`spiffe://${name}${path}`)))
    .filter((id) => id !== undefined)
  fc.assert(
    fc.property(fc.oneof(ids, inRooms), (id) => {
      const [name, ...segments] = id.slice('spiffe://'.length).split('/')
      const member = name === 'example.org' && segments.length > 0
      expect(accepted(() => requireMember(id, TD)) !== undefined).toBe(member)
      expect(accepted(() => requireWorkloadId(id, TD)) !== undefined).toBe(member && segments[0] !== 'spire')
      expect(accepted(() => requireAgentId(id, TD)) !== undefined).toBe(
        member && segments[0] === 'spire' && segments[1] === 'agent' && segments.length > 2,
      )
    }),
    { numRuns: 1000 },
  )
})
