import { expect, test } from 'vitest'
import type { Agent, Bundle, Entry } from '../../../proto/spire/api/types.ts'
import { fromBase64 } from '../../core/base64.ts'
import { agentBlock } from './agent-block.ts'
import { agentFilter } from './agent-flags.ts'
import { bundleFormat, bundleFromText, bundleText } from './bundle-text.ts'
import { entryBlock, refusedEntry, sortEntries } from './entry-block.ts'
import { entriesFromJson } from './entry-data.ts'
import { relationshipBlock } from './federation-block.ts'

const PLAIN: Entry = {
  id: '',
  spiffeId: { trustDomain: 'example.org', path: '/w1' },
  parentId: { trustDomain: 'example.org', path: '/agent' },
  selectors: [],
  x509SvidTtl: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  revisionNumber: 0,
  storeSvid: false,
  jwtSvidTtl: 0,
  hint: '',
  createdAt: 0,
}

const FULL: Entry = {
  ...PLAIN,
  id: 'e1',
  selectors: [
    { type: 'unix', value: 'uid:0' },
    { type: 'unix', value: 'gid:0' },
  ],
  x509SvidTtl: 300,
  jwtSvidTtl: 60,
  federatesWith: ['foo.org'],
  admin: true,
  downstream: true,
  expiresAt: 2000000000,
  dnsNames: ['a.b'],
  revisionNumber: 3,
  storeSvid: true,
  hint: 'h1',
  additionalAttributes: { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true },
}

const PLAIN_LINES = `Entry ID                : (none)
SPIFFE ID               : spiffe://example.org/w1
Parent ID               : spiffe://example.org/agent
Revision                : 0
X509-SVID TTL           : default
JWT-SVID TTL            : default

`

test('entryBlock leaves out what is not set', () => {
  expect(entryBlock(PLAIN)).toBe(PLAIN_LINES)
})

test('entryBlock prints all there is in SPIRE order', () => {
  expect(entryBlock(FULL)).toBe(`Entry ID                : e1
SPIFFE ID               : spiffe://example.org/w1
Parent ID               : spiffe://example.org/agent
Revision                : 3
Downstream              : true
X509-SVID TTL           : 300
JWT-SVID TTL            : 60
Expiration time         : 2033-05-18 03:33:20 +0000 UTC
Selector                : unix:uid:0
Selector                : unix:gid:0
FederatesWith           : foo.org
DNS name                : a.b
Admin                   : true
StoreSvid               : true
Hint                    : h1
DisableX509SvidPrefetch : true
JwtSvidIncludeJti       : true

`)
})

test('refusedEntry says why', () => {
  const status = { code: 6, message: 'similar "entry"' }
  expect(refusedEntry('create', status, PLAIN)).toBe(
    `Failed to create the following entry (code: AlreadyExists, msg: "similar \\"entry\\""):\n${PLAIN_LINES}`,
  )
})

test('sortEntries goes by ID, parent, TTLs, number of selectors and selectors', () => {
  const selectors = (...values: string[]) => values.map((value) => ({ type: 'a', value }))
  const named = (id: string, change: Partial<Entry>): Entry => ({ ...PLAIN, id, selectors: selectors('x'), ...change })
  const entries = [
    named('8', { spiffeId: { trustDomain: 'example.org', path: '/w2' } }),
    named('7', { parentId: { trustDomain: 'example.org', path: '/b' } }),
    named('6', { x509SvidTtl: 2 }),
    named('5', { x509SvidTtl: 1, jwtSvidTtl: 9 }),
    named('4', { jwtSvidTtl: 1 }),
    named('3', { selectors: selectors('c', 'a') }),
    named('2', { selectors: selectors('b') }),
    named('1', { selectors: selectors('a') }),
  ]
  sortEntries(entries)
  expect(entries.map(({ id }) => id)).toEqual(['1', '2', '3', '4', '5', '6', '7', '8'])
  expect(entries[2]!.selectors).toEqual(selectors('a', 'c'))
})

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))

test('entriesFromJson reads the members of stored entries in any case', () => {
  const given = {
    Entries: [
      {
        entry_id: 'e1',
        PARENT_ID: 'spiffe://example.org/agent',
        spiffe_id: 'spiffe://example.org/w1',
        selectors: [{ type: 'unix', value: 'uid:0' }],
        x509_svid_ttl: 60,
        federates_with: ['spiffe://other.org'],
        entryExpiry: 5,
        additional_attributes: { jwt_svid_include_jti: true },
        unknown: 1,
      },
    ],
  }
  expect(entriesFromJson(json(given))).toEqual([
    {
      ...PLAIN,
      id: 'e1',
      selectors: [{ type: 'unix', value: 'uid:0' }],
      x509SvidTtl: 60,
      federatesWith: ['other.org'],
      expiresAt: 5,
      additionalAttributes: { disableX509SvidPrefetch: false, jwtSvidIncludeJti: true },
    },
  ])
})

test.each([
  ['no JSON', new Uint8Array(0), 'unexpected end of JSON input'],
  ['a list', json([]), 'json: cannot unmarshal array into RegistrationEntries of type object'],
  ['entries that are no list', json({ entries: 1 }), 'json: cannot unmarshal number'],
  ['an ID that is none', json({ entries: [{ spiffe_id: 'x' }] }), 'invalid SPIFFE ID: scheme is missing or invalid'],
  [
    'a number too large',
    json({
      entries: [{ spiffe_id: 'spiffe://a/b', parent_id: 'spiffe://a/c', x509_svid_ttl: 2 ** 31 }],
    }),
    'x509_svid_ttl: overflow',
  ],
])('entriesFromJson refuses %s', (_title, bytes, message) => {
  expect(() => entriesFromJson(bytes)).toThrow(message)
})

const AGENT: Agent = {
  id: { trustDomain: 'example.org', path: '/spire/agent/x509pop/a' },
  attestationType: 'x509pop',
  x509svidSerialNumber: '42',
  x509svidExpiresAt: 2000000000,
  selectors: [],
  banned: false,
  canReattest: true,
  agentVersion: '1.15.3',
}

test('agentBlock shows the serial number, or that the agent is banned', () => {
  const lines = agentBlock(AGENT, {}).split('\n')
  expect(lines.toSpliced(2, 1)).toEqual([
    'SPIFFE ID         : spiffe://example.org/spire/agent/x509pop/a',
    'Attestation type  : x509pop',
    'Serial number     : 42',
    'Can re-attest     : true',
    'Agent version     : 1.15.3',
    '',
    '',
  ])
  const banned = agentBlock({ ...AGENT, banned: true, agentVersion: '' }, {})
  expect(banned.split('\n').slice(3)).toEqual(['Banned            : true', 'Can re-attest     : true', '', ''])
})

const NO_FILTER = {
  selector: [],
  attestationType: '',
  canReattest: undefined,
  banned: undefined,
  expiresBefore: '',
  matchSelectorsOn: 'superset',
}

test.each([
  ['2030-01-02 03:04:05 +0000 +00', undefined],
  ['foo', 'parsing time "foo" as "2006-01-02 15:04:05 -0700 -07": cannot parse "foo" as "2006"'],
  ['2030-13-02 03:04:05 +0000 +00', 'parsing time "2030-13-02 03:04:05 +0000 +00": month out of range'],
  ['2030-01-02', 'parsing time "2030-01-02" as "2006-01-02 15:04:05 -0700 -07": cannot parse "" as "15"'],
  ['2030-01-02 03:04:05 +0000 +00 x', 'extra text: " x"'],
])('agentFilter checks the moment %j as Go does', (expiresBefore, complaint) => {
  const filter = () => agentFilter({ ...NO_FILTER, expiresBefore })
  if (complaint === undefined) expect(filter().byExpiresBefore).toBe(expiresBefore)
  else expect(filter).toThrow(complaint)
})

const ROOT = fromBase64(
  'MIICAzCCAaigAwIBAgIRAOJvGiK2fkh7pgicBY1b1pcwCgYIKoZIzj0EAwIwUDELMAkGA1UEBhMCVVMxDzANBgNVBAoTBlNQSUZGRTEwMC4GA1UEBRMnMzAwOTgyNDAyMDkxNTc0NTEyMzAzNTAyMjk4OTQ3MzUyNTE2MjQ3MB4XDTI2MTEyNDEwNTkxMFoXDTI2MTEyNTEwNTkyMFowUDELMAkGA1UEBhMCVVMxDzANBgNVBAoTBlNQSUZGRTEwMC4GA1UEBRMnMzAwOTgyNDAyMDkxNTc0NTEyMzAzNTAyMjk4OTQ3MzUyNTE2MjQ3MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoJRChOfv1lc4KLh4PW82cKf3Oyp4w75PmSs9dpkf5VZxY7oEe+sZc+jRg0e9AOSaRAFZSmyqokhTTc0cKV5VyaNjMGEwDgYDVR0PAQH/BAQDAgEGMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFMhW3+EFxbYXt5Ol4FQ62flZo6KYMB8GA1UdEQQYMBaGFHNwaWZmZTovL2V4YW1wbGUub3JnMAoGCCqGSM49BAMCA0kAMEYCIQCTGBQQOuUsouNsvLOwOtFHgF/EoHu9jyj+GnXcnsMeEwIhAIVO24XiW+7Hw8aSOwdU9cebrLwcSrIbkzvrMUqeoWY3',
)
const BUNDLE: Bundle = {
  trustDomain: 'example.org',
  x509Authorities: [{ asn1: ROOT, tainted: false }],
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHint: 60,
  sequenceNumber: 4,
}

test.each(['pem', 'spiffe'] as const)('a bundle written as %s is read back', async (format) => {
  const text = await bundleText(BUNDLE, format, false)
  const back = await bundleFromText(new TextEncoder().encode(text), format, 'example.org')
  expect(back.x509Authorities).toEqual(BUNDLE.x509Authorities)
  expect([back.refreshHint, back.sequenceNumber]).toEqual(format === 'pem' ? [0, 0] : [60, 4])
})

test('a bundle in a list has a banner', async () => {
  expect((await bundleText(BUNDLE, 'pem', true)).split('\n').slice(0, 4)).toEqual([
    '****************************************',
    '* example.org',
    '****************************************',
    '-----BEGIN CERTIFICATE-----',
  ])
})

test.each([
  ['', 'pem', 'unable to parse bundle data: no PEM blocks'],
  ['-----BEGIN X-----\nAAAA\n-----END X-----\n', 'pem', 'expected block type "CERTIFICATE"; got "X"'],
  ['', 'spiffe', 'unable to parse to spiffe bundle: spiffebundle: unable to parse JWKS: unexpected end of JSON input'],
] as const)('bundle data %j as %s is refused', async (text, format, message) => {
  await expect(bundleFromText(new TextEncoder().encode(text), format, 'example.org')).rejects.toThrow(message)
})

test('bundleFormat takes any case and nothing for PEM', () => {
  expect(['', 'PEM', 'Spiffe'].map(bundleFormat)).toEqual(['pem', 'pem', 'spiffe'])
  expect(() => bundleFormat('Foo')).toThrow('invalid format: "foo"')
})

test('relationshipBlock shows the endpoint only where a profile has one', () => {
  const url = 'https://bar.org/b'
  const common = { trustDomain: 'bar.org', bundleEndpointUrl: url, trustDomainBundle: undefined }
  expect(relationshipBlock({ ...common, httpsSpiffe: { endpointSpiffeId: 'spiffe://bar.org/ep' } })).toBe(
    `Trust domain              : bar.org
Bundle endpoint URL       : https://bar.org/b
Bundle endpoint profile   : https_spiffe
Endpoint SPIFFE ID        : spiffe://bar.org/ep
`,
  )
  expect(relationshipBlock({ ...common, httpsWeb: {} })).toContain('https_web\n')
})
