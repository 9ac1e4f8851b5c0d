import { expect, test } from 'vitest'
import type { JwtSvidClaims } from '../core/jwt-svid.ts'
import type { CredentialComposer, X509Attributes } from '../core/plugin.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'
import { composeJwt, composeX509 } from './composition.ts'

const PLAIN: X509Attributes = { subject: { country: ['US'] }, dnsNames: [], policies: [], extraExtensions: [] }
const extension = (oid: string, bytes = 2) => ({ oid, value: new Uint8Array(bytes), critical: false })

function composing(change: Partial<X509Attributes> | undefined): Promise<X509Attributes> {
  const composer: CredentialComposer = {
    name: 'odd',
    composeServerX509Svid: async (said) => change && { ...said, ...change },
  }
  return composeX509([composer], PLAIN, (one, said) => one.composeServerX509Svid?.(said))
}

test('composers are asked in turn, each about what the last one said; who changes nothing is passed over', async () => {
  const adding = (name: string): CredentialComposer => ({
    name,
    composeServerX509Svid: async (said) => ({ ...said, dnsNames: [...said.dnsNames, `${name}.example.org`] }),
  })
  const composers = [adding('one'), { name: 'none' }, adding('two')]
  const composed = await composeX509(composers, PLAIN, (one, said) => one.composeServerX509Svid?.(said))
  expect(composed).toEqual({ ...PLAIN, dnsNames: ['one.example.org', 'two.example.org'] })
  expect(await composing(undefined)).toEqual(PLAIN)
})

test.each<[string, Partial<X509Attributes>, string]>([
  ['another name', { extraExtensions: [extension('2.5.29.17')] }, "extension 2.5.29.17 is not a composer's to set"],
  ['a CA', { extraExtensions: [extension('2.5.29.19')] }, "extension 2.5.29.19 is not a composer's to set"],
  ['another purpose', { extraExtensions: [extension('2.5.29.37')] }, "extension 2.5.29.37 is not a composer's to set"],
  ['an extension twice', { extraExtensions: [extension('1.2.3'), extension('1.2.3')] }, 'an extension comes twice'],
  ['a long extension', { extraExtensions: [extension('1.2.3', 8193)] }, 'extension 1.2.3 is too long'],
  [
    'many extensions',
    { extraExtensions: Array.from({ length: 17 }, (_, index) => extension(`1.2.${index}`)) },
    'too many extensions',
  ],
  ['an OID that is none', { extraExtensions: [extension('1.2.03')] }, 'invalid OID: "1.2.03"'],
  ['a policy that is none', { policies: ['x'] }, 'invalid OID: "x"'],
  ['a type of name that is none', { subject: { extraNames: [{ oid: '9.9.9', value: 'v' }] } }, 'invalid OID: "9.9.9"'],
  ['a DNS name that is none', { dnsNames: ['a.*.b'] }, 'wildcard must be first label'],
  ['many DNS names', { dnsNames: Array.from({ length: 257 }, () => 'a.b') }, 'too many DNS names'],
  ['a long subject', { subject: { commonName: 'x'.repeat(1025) } }, 'the subject is too long'],
  [
    'a long extra name',
    { subject: { extraNames: [{ oid: '1.2.3', value: 'x'.repeat(1025) }] } },
    'subject is too long',
  ],
])('a certificate does not say %s', async (_, change, text) => {
  const refusal = await composing(change).then(
    () => undefined,
    (error) => error,
  )
  expect(refusal).toMatchObject({ code: 'INTERNAL' })
  expect(refusal.message).toContain('credentialcomposer(odd): plugin returned invalid attributes: ')
  expect(refusal.message).toContain(text)
})

const CLAIMS: JwtSvidClaims = { aud: ['a'], exp: 1300, iat: 1000, sub: 'spiffe://example.org/w' as SpiffeId }

function claiming(change: Readonly<Record<string, unknown>>) {
  return composeJwt([{ name: 'odd', composeWorkloadJwtSvid: async (_, said) => ({ ...said, ...change }) }], CLAIMS)
}

test('a composer adds claims and may shorten the time', async () => {
  expect(await claiming({ more: [1], exp: 1100, aud: 'b' })).toEqual({ ...CLAIMS, more: [1], exp: 1100, aud: ['b'] })
})

test.each([
  ['of somebody else', { sub: 'spiffe://example.org/other' }, 'the subject is "spiffe://example.org/other"'],
  ['of nobody', { sub: undefined }, 'the subject is undefined'],
  ['for longer', { exp: 1301 }, 'exp is not within the time'],
  ['without end', { exp: undefined }, 'exp is not within the time'],
  ['for no time', { exp: 1000 }, 'exp is not within the time'],
  ['with half seconds', { exp: 1200.5 }, 'exp is not within the time'],
  ['from later on', { iat: 2000 }, 'iat is no time'],
  ['for nobody', { aud: [] }, 'the audience is empty'],
  ['for what is no name', { aud: [1] }, 'the audience is empty'],
])('a token is not %s', async (_, change, text) => {
  await expect(claiming(change)).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining(text) })
})
