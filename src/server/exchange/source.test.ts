import { expect, test } from 'vitest'
import type { ExchangeSourceOptions } from '../../core/exchange.ts'
import { parseTrustDomain } from '../../core/trust-domain.ts'
import { checkSources } from './source.ts'

const TD = parseTrustDomain('example.org')
const GITHUB = { name: 'ci', type: 'github_actions', audience: 'a', allow: { repository_id: ['1'] } }
const check = (...list: readonly Record<string, unknown>[]) =>
  checkSources(TD, list as unknown as ExchangeSourceOptions[])

test('a source has its defaults, and a parent for its entries', () => {
  expect(check(GITHUB)[0]).toMatchObject({
    parentId: 'spiffe://example.org/spire/exchange/ci',
    issuer: 'https://token.actions.githubusercontent.com',
    types: ['jwt'],
    maxTtlSeconds: 3600,
    maxTokenAgeSeconds: 900,
    use: 'token',
    allowAdmin: false,
    allowDownstream: false,
    requireBoundKey: false,
  })
})

const AWS = { name: 'l', type: 'aws', audience: 'a', issuer: 'https://abc-1.tokens.sts.global.api.aws' }
test.each<[string, Record<string, unknown>]>([
  ['an AWS account', AWS],
  [
    'an Azure tenant',
    { ...AWS, type: 'azure', issuer: 'https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/' },
  ],
  ['an organization at Fly', { ...AWS, type: 'fly', issuer: 'https://oidc.fly.io/acme' }],
  ['a team at Vercel', { ...AWS, type: 'vercel', issuer: 'https://oidc.vercel.com/acme' }],
  ['a trust domain', { name: 's', type: 'spiffe', audience: 'a', trustDomain: 'other.org' }],
])('%s has an issuer of its own, and needs no allow list', (_, options) => {
  expect(check(options)).toHaveLength(1)
})

test.each<[string, Record<string, unknown>, string]>([
  ['an option that there is not', { ...GITHUB, alow: {} }, 'there is no option "alow"'],
  ['an allow list that is text', { ...GITHUB, allow: 'x' }, 'allow must be lists of texts by name'],
  ['a number in the allow list', { ...GITHUB, allow: { repository_id: [1] } }, 'allow must be lists of texts by name'],
  ['text for a truth', { ...GITHUB, allowAdmin: 'false' }, 'allowAdmin must be true or false'],
  ['no type at all', { ...GITHUB, type: undefined }, 'type must be configured'],
  ['no type', { ...GITHUB, type: '' }, 'type "" is none of github_actions, gitlab_ci, k8s_psat, spiffe, aws,'],
  ['a type that every object has', { ...GITHUB, type: 'constructor' }, 'is none of'],
  ['a name that is no segment', { ...GITHUB, name: 'a/b' }, 'a name is at most 64'],
  ['a name of dots', { ...GITHUB, name: '..' }, 'a name is at most 64'],
  ['no audience', { ...GITHUB, audience: '' }, 'audience must be configured'],
  ['an audience with a key', { ...GITHUB, audience: 'a#b' }, 'has no "#"'],
  [
    'no allow list',
    { ...GITHUB, allow: undefined },
    'allow must name whose tokens are taken: repository_owner_id or repository_id',
  ],
  [
    'an allow list without owner',
    { ...GITHUB, allow: { ref: ['refs/heads/main'] } },
    'allow must name whose tokens are taken',
  ],
  [
    'an empty allow list',
    { ...GITHUB, allow: { repository_id: [] } },
    'allow.repository_id must have at least one value',
  ],
  ['a pattern', { ...GITHUB, allow: { repository_id: ['*'] } }, '"*" is a pattern'],
  [
    'an allowed claim that there is not',
    { ...GITHUB, allow: { actor: ['x'], repository_id: ['1'] } },
    'github_actions has no "actor"',
  ],
  ['an issuer without TLS', { ...GITHUB, issuer: 'http://issuer.example' }, 'issuer must be a https:// URL'],
  ['an issuer with a password', { ...GITHUB, issuer: 'https://a:b@issuer.example' }, 'issuer must be a https:// URL'],
  ['keys without TLS', { ...GITHUB, jwksUri: 'http://issuer.example/keys' }, 'jwks_uri must be a https:// URL'],
  ['keys twice', { ...GITHUB, jwksUri: 'https://issuer.example/keys', jwks: { keys: [] } }, 'either jwks_uri or jwks'],
  ['a lifetime over an hour', { ...GITHUB, maxTtlSeconds: 3601 }, 'max_ttl must be between 1 and 3600 seconds'],
  ['an age over 15 minutes', { ...GITHUB, maxTokenAgeSeconds: 901 }, 'max_token_age must be between 1 and 900 seconds'],
  ['claims of its own', { ...GITHUB, claims: ['sub'] }, 'claims is for type "oidc" alone'],
  [
    'Google without allow list',
    { name: 'g', type: 'google', audience: 'a' },
    'allow must name whose tokens are taken: sub or email',
  ],
  [
    'Vercel by its shared issuer',
    { ...AWS, type: 'vercel', issuer: 'https://oidc.vercel.com' },
    'allow must name whose',
  ],
  [
    'an AWS issuer that only looks like one',
    { ...AWS, issuer: 'https://tokens.sts.global.api.aws.evil.example' },
    'allow must name whose',
  ],
  [
    'a cluster without issuer',
    { name: 'k', type: 'k8s_psat', audience: 'a', clusterName: 'c', allow: { namespace: ['n'] } },
    'issuer must be configured',
  ],
  [
    'a cluster without name',
    { name: 'k', type: 'k8s_psat', audience: 'a', issuer: 'https://k', allow: { namespace: ['n'] } },
    'cluster_name must be configured',
  ],
  [
    'a cluster without namespaces',
    { name: 'k', type: 'k8s_psat', audience: 'a', issuer: 'https://k', clusterName: 'c' },
    'whose tokens are taken: namespace',
  ],
  ['a trust domain that is missing', { name: 's', type: 'spiffe', audience: 'a' }, 'trust_domain must be configured'],
  [
    'the own trust domain',
    { name: 's', type: 'spiffe', audience: 'a', trustDomain: 'example.org' },
    'another one than the own',
  ],
  [
    'a generic issuer without claims',
    { name: 'o', type: 'oidc', audience: 'a', issuer: 'https://o' },
    'claims must name',
  ],
  [
    'a generic issuer without allow list',
    { name: 'o', type: 'oidc', audience: 'a', issuer: 'https://o', claims: ['sub'] },
    'whose tokens are taken: sub',
  ],
  [
    'a claim with a colon',
    { name: 'o', type: 'oidc', audience: 'a', issuer: 'https://o', claims: ['a:b'] },
    '"a:b" is not a name',
  ],
])('a source with %s is refused', (_, options, reason) => {
  expect(() => check(options)).toThrow(reason)
})

test('two sources of one name are refused', () => {
  expect(() => check(GITHUB, GITHUB)).toThrow('exchange "ci": there are two sources of this name')
})

test('sources that take the same tokens agree on how often one is good', () => {
  const other = { ...GITHUB, name: 'other' }
  expect(check(GITHUB, other)).toHaveLength(2)
  expect(check(GITHUB, { ...other, audience: 'b', use: 'svid_type' })).toHaveLength(2)
  expect(() => check(GITHUB, { ...other, use: 'svid_type' })).toThrow(
    'exchange "other": use must be that of "ci", which takes the same tokens',
  )
})

test('the own issuer is no source', () => {
  const own = { name: 'o', type: 'oidc', audience: 'a', issuer: 'https://id', claims: ['sub'], allow: { sub: ['me'] } }
  const sources = [own] as unknown as ExchangeSourceOptions[]
  expect(checkSources(TD, sources, 'https://other')).toHaveLength(1)
  expect(() => checkSources(TD, sources, 'https://id')).toThrow('exchange "o": issuer must be another one than the own')
})
