import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PLATFORM_TOKENS } from '../../../test/support/platform-tokens.ts'
import type { ExchangeSourceOptions } from '../../core/exchange.ts'
import { parseTrustDomain } from '../../core/trust-domain.ts'
import { checkSources } from './source.ts'
import { notAllowed, tokenFacts, tokenSelectors } from './token-selectors.ts'

const TD = parseTrustDomain('example.org')

function source(type: string, more: Readonly<Record<string, unknown>>) {
  const options = { name: 's', type, audience: 'a', issuer: 'https://issuer.example', ...more } as ExchangeSourceOptions
  return checkSources(TD, [options])[0]!
}

function earned(type: string, more: Readonly<Record<string, unknown>>, claims: Readonly<Record<string, unknown>>) {
  const from = source(type, more)
  return tokenSelectors(from, tokenFacts(from, claims)).map((selector) => {
    expect(selector.type).toBe(type)
    return selector.value
  })
}

test.each(PLATFORM_TOKENS)('a token of $type earns its selectors, and no others', ({ type, claims, source, earns }) => {
  expect(earned(type, source, claims)).toEqual([...earns].sort())
})

test('a JWT-SVID earns its ID, its trust domain and its path', () => {
  const spiffe = { issuer: undefined, trustDomain: 'other.org' }
  expect(earned('spiffe', spiffe, { sub: 'spiffe://other.org/a/b' })).toEqual([
    'source_path:/a/b',
    'source_spiffe_id:spiffe%3A%2F%2Fother.org%2Fa%2Fb',
    'source_spiffe_id:spiffe://other.org/a/b',
    'source_trust_domain:other.org',
  ])
  expect(earned('spiffe', spiffe, { sub: 'spiffe://other.org' })).toEqual([])
})

const github = { allow: { repository_owner_id: ['65'] } }
test.each<[string, Record<string, unknown>, string[]]>([
  [
    'a workflow that could be cut in two ways',
    { job_workflow_ref: 'o/r/.github/workflows/x@y.yml@refs/heads/main' },
    [],
  ],
  ['a workflow elsewhere', { job_workflow_ref: 'o/r/x.yml@main' }, []],
  ['a tag', { ref: 'refs/heads/main', ref_type: 'tag' }, []],
  [
    'a branch with an at sign',
    { job_workflow_ref: 'o/r/.github/workflows/x.yml@refs/heads/a@b' },
    [
      'job_workflow_ref:path:.github/workflows/x.yml',
      'job_workflow_ref:ref:refs/heads/a@b',
      'job_workflow_ref:repo:o/r',
    ],
  ],
])('parts of claims are only made where they are plain: %s', (_, claims, expected) => {
  const parts = earned('github_actions', github, claims).filter((value) =>
    /^(branch|job_workflow_ref:(repo|path|ref)):/.test(value),
  )
  expect(parts).toEqual(expected)
})

test.each<[string, unknown]>([
  ['an object', { a: 1 }],
  ['null', null],
  ['a fraction', 1.5],
  ['a number that is not exact', 2 ** 60],
  ['nothing', ''],
  ['a line break', 'a\nb'],
  ['no end', 'x'.repeat(1025)],
  ['a list in a list', [['a']]],
])('a claim of %s makes no selector', (_, value) => {
  expect(earned('github_actions', github, { repository_id: value })).toEqual([])
})

test('an address that was not verified makes no selector', () => {
  const google = { issuer: undefined, allow: { email: ['a@b'] } }
  for (const email_verified of [false, 'true', undefined, 1, null, [true], {}]) {
    expect(earned('google', google, { sub: '1', email: 'a@b', email_verified })).toEqual(['sub:1'])
  }
})

test('claims of any shape make selectors that entries can have, or none', () => {
  const value = fc.jsonValue()
  const claims = fc.dictionary(
    fc.constantFrom(
      'repository_id',
      'kubernetes.io',
      'google',
      'sub',
      'email',
      'email_verified',
      'https://sts.amazonaws.com/',
      'job_workflow_ref',
      'ci_config_ref_uri',
      'ref',
      'ref_type',
      'org',
    ),
    value,
  )
  fc.assert(
    fc.property(claims, (given) => {
      for (const { type, source: more } of PLATFORM_TOKENS) {
        for (const text of earned(type, more, given)) expect(text).toMatch(/^[^:]+:.+$/)
      }
    }),
  )
})

test('inherited members are no claims', () => {
  expect(earned('oidc', { claims: ['constructor', 'toString'], allow: { toString: ['x'] } }, {})).toEqual([])
})

test('each key of the allow list must be met by one of its values', () => {
  const from = source('github_actions', { allow: { repository_owner_id: ['1', '65'], environment: ['prod'] } })
  const missed = (claims: Record<string, unknown>) => notAllowed(from, tokenFacts(from, claims))
  expect(missed({ repository_owner_id: '65', environment: 'prod' })).toBeUndefined()
  expect(missed({ repository_owner_id: '66', environment: 'prod' })).toBe('repository_owner_id')
  expect(missed({ repository_owner_id: '65' })).toBe('environment')
  expect(missed({})).toBe('repository_owner_id')
})
