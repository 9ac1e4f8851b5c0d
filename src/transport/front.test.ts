import fc from 'fast-check'
import { expect, test } from 'vitest'
import { rejection } from '../../test/support/server.ts'
import { makeCertificate } from '../../test/support/x509.ts'
import { base64 } from '../core/base64.ts'
import { encodePem } from '../core/pem.ts'
import { type FrontOptions, frontsOf, type TlsClientAuth } from './front.ts'

const SECRET = 's'.repeat(32)
const { der } = await makeCertificate({ name: 'x', uris: ['spiffe://example.org/x'] })
const leaf = `:${base64(der)}:`
/** As the load balancer writes it. */
const pem = encodeURIComponent(encodePem('CERTIFICATE', der))
  .replace(/%2B/g, '+')
  .replace(/%3D/g, '=')
  .replace(/%2F/g, '/')
const good = { 'cf-cert-verified': 'true', 'cf-cert-revoked': 'false' }
const secret = { 'turret-front-secret': SECRET }

const plain: FrontOptions = { name: 'plain', carrier: 'rfc9440', secret: SECRET }
const aws: FrontOptions = { name: 'aws', carrier: 'aws_alb_passthrough', addresses: ['10.0.0.0/8'] }
const twoNetworks: FrontOptions = { ...aws, addresses: ['10.0.0.0/8', '192.168.0.0/16'] }
const awsVerify: FrontOptions = { name: 'aws', carrier: 'aws_alb_verify', addresses: ['10.0.0.0/8'] }
const cloudflare: FrontOptions = { name: 'cf', carrier: 'cloudflare', secret: SECRET }
const here: FrontOptions = { ...plain, addresses: ['127.0.0.1'] }
const ownHeader: FrontOptions = { ...plain, secretHeader: 'x-proof' }
const platform: FrontOptions = { name: 'worker', carrier: 'cloudflare' }

async function look(
  front: FrontOptions | undefined,
  headers: Record<string, string>,
  address = '',
  tls?: TlsClientAuth,
) {
  const fronts = frontsOf(front ? [front] : [])
  const all = new Headers(headers)
  const arrival = fronts.arrivalOf(all, address, tls)
  return { arrival, chain: fronts.certificatesOf(arrival, all, tls) }
}

const fromPlatform = (changes: TlsClientAuth = {}): TlsClientAuth => ({
  certPresented: '1',
  certVerified: 'SUCCESS',
  certRevoked: '0',
  certRFC9440: leaf,
  certRFC9440TooLarge: false,
  certChainRFC9440: '',
  certChainRFC9440TooLarge: false,
  ...changes,
})

test.each<[string, FrontOptions, Record<string, string>, string, TlsClientAuth | undefined, number]>([
  ['RFC 9440', plain, { ...secret, 'client-cert': leaf }, '', undefined, 1],
  [
    'RFC 9440 with a chain',
    plain,
    { ...secret, 'client-cert': leaf, 'client-cert-chain': `${leaf}, ${leaf}` },
    '',
    undefined,
    3,
  ],
  ['a load balancer of AWS', aws, { 'x-amzn-mtls-clientcert': pem + pem }, '10.1.2.3', undefined, 2],
  ['one with a chain of eight', aws, { 'x-amzn-mtls-clientcert': pem.repeat(8) }, '10.1.2.3', undefined, 8],
  ['one in the second of its networks', twoNetworks, { 'x-amzn-mtls-clientcert': pem }, '192.168.1.2', undefined, 1],
  ['one that verifies by itself', awsVerify, { 'x-amzn-mtls-clientcert-leaf': pem }, '::ffff:10.1.2.3', undefined, 1],
  ['Cloudflare', cloudflare, { ...secret, ...good, 'client-cert': leaf }, '', undefined, 1],
  ['Cloudflare around a Worker', platform, {}, '', fromPlatform(), 1],
  ['Cloudflare with a chain', platform, {}, '', fromPlatform({ certChainRFC9440: leaf }), 2],
  ['Cloudflare that says nothing of a chain', platform, {}, '', fromPlatform({ certChainRFC9440: undefined }), 1],
  ['a front on this machine with a secret', here, { ...secret, 'client-cert': leaf }, '127.0.0.1', undefined, 1],
  [
    'a front whose secret has a header of its own',
    ownHeader,
    { 'x-proof': SECRET, 'client-cert': leaf },
    '',
    undefined,
    1,
  ],
])('%s vouches for certificates', async (_, front, headers, address, tls, count) => {
  const { chain, arrival } = await look(front, headers, address, tls)
  expect(chain).toHaveLength(count)
  expect(chain![0]).toEqual(der)
  expect(arrival.front?.name).toBe(front.name)
})

test.each<[string, FrontOptions | undefined, Record<string, string>, string, TlsClientAuth | undefined]>([
  ['without certificate', plain, secret, '', undefined],
  ['without certificate', aws, {}, '10.1.2.3', undefined],
  ['without certificate', platform, {}, '', fromPlatform({ certPresented: '0' })],
  ['of no front', undefined, {}, '192.0.2.1', undefined],
  ['of no platform where one is configured', platform, {}, '192.0.2.1', undefined],
  ['with a secret where fronts are known by their addresses', aws, { 'turret-front-secret': 'x' }, '', undefined],
  ['with a secret in another header than that of its front', ownHeader, secret, '', undefined],
  ['of a Worker where nobody configured one', undefined, {}, '192.0.2.1', fromPlatform()],
])('a request %s is nobody’s', async (_, front, headers, address, tls) => {
  expect((await look(front, headers, address, tls)).chain).toBeUndefined()
})

const STRANGER = 'no front vouches'
test.each<[string, FrontOptions | undefined, Record<string, string>, string, TlsClientAuth | undefined, string]>([
  ['a certificate, no fronts', undefined, { 'client-cert': leaf }, '', undefined, STRANGER],
  ['a chain alone, no fronts', undefined, { 'client-cert-chain': leaf }, '', undefined, STRANGER],
  ['PEM, no fronts', undefined, { 'x-amzn-mtls-clientcert': pem }, '', undefined, STRANGER],
  ['a certificate without the secret', plain, { 'client-cert': leaf }, '', undefined, STRANGER],
  ['another secret', plain, { 'turret-front-secret': 'x'.repeat(32), 'client-cert': leaf }, '', undefined, 'no front'],
  ['a part of the secret', plain, { 'turret-front-secret': SECRET.slice(1) }, '', undefined, 'no front'],
  ['more than the secret', plain, { 'turret-front-secret': `${SECRET}s` }, '', undefined, 'no front'],
  ['another secret in the header of its front', ownHeader, { 'x-proof': 'x'.repeat(32) }, '', undefined, 'no front'],
  [
    'a certificate with the secret in another header',
    ownHeader,
    { ...secret, 'client-cert': leaf },
    '',
    undefined,
    STRANGER,
  ],
  ['a certificate where no platform is', platform, { 'client-cert': leaf }, '', undefined, STRANGER],
  ['PEM from another address', aws, { 'x-amzn-mtls-clientcert': pem }, '11.0.0.1', undefined, STRANGER],
  ['PEM from none of two networks', twoNetworks, { 'x-amzn-mtls-clientcert': pem }, '172.16.0.1', undefined, STRANGER],
  ['PEM from nowhere', aws, { 'x-amzn-mtls-clientcert': pem }, '', undefined, STRANGER],
  [
    'an address, but not the secret',
    { ...plain, addresses: ['10.0.0.0/8'] },
    { 'client-cert': leaf },
    '10.0.0.1',
    undefined,
    STRANGER,
  ],
  [
    'the secret, but not the address',
    { ...plain, addresses: ['10.0.0.0/8'] },
    { ...secret, 'client-cert': leaf },
    '11.0.0.1',
    undefined,
    'no front',
  ],
  [
    'what a client put beside the word of a load balancer',
    aws,
    { 'x-amzn-mtls-clientcert': pem, 'x-amzn-mtls-clientcert-leaf': pem },
    '10.1.2.3',
    undefined,
    STRANGER,
  ],
  ['the header of the other mode', aws, { 'x-amzn-mtls-clientcert-leaf': pem }, '10.1.2.3', undefined, STRANGER],
  ['the other way round', awsVerify, { 'x-amzn-mtls-clientcert': pem }, '10.1.2.3', undefined, STRANGER],
  ['what another kind of front sends', aws, { 'client-cert': leaf }, '10.1.2.3', undefined, STRANGER],
  ['a copy of a client in a Worker', platform, { 'client-cert': leaf }, '', fromPlatform(), STRANGER],
  [
    'what Cloudflare did not verify',
    cloudflare,
    { ...secret, ...good, 'cf-cert-verified': 'false', 'client-cert': leaf },
    '',
    undefined,
    'did not find',
  ],
  ['what Cloudflare says nothing of', cloudflare, { ...secret, 'client-cert': leaf }, '', undefined, 'did not find'],
  [
    'what Cloudflare does not say to be good still',
    cloudflare,
    { ...secret, 'cf-cert-verified': 'true', 'client-cert': leaf },
    '',
    undefined,
    'revoked',
  ],
  [
    'what Cloudflare says twice',
    cloudflare,
    { ...secret, ...good, 'cf-cert-verified': 'true, true', 'client-cert': leaf },
    '',
    undefined,
    'did not find',
  ],
  [
    'what is revoked',
    cloudflare,
    { ...secret, ...good, 'cf-cert-revoked': 'true', 'client-cert': leaf },
    '',
    undefined,
    'revoked',
  ],
  ['what is revoked, says the platform', platform, {}, '', fromPlatform({ certRevoked: '1' }), 'revoked'],
  ['what the platform says too little of', platform, {}, '', fromPlatform({ certRevoked: undefined }), 'revoked'],
  [
    'what the platform did not verify',
    platform,
    {},
    '',
    fromPlatform({ certVerified: 'FAILED:self signed certificate' }),
    'did not find',
  ],
  [
    'what was too long for the platform',
    platform,
    {},
    '',
    fromPlatform({ certRFC9440: '', certRFC9440TooLarge: true }),
    'too long',
  ],
  ['a chain that was', platform, {}, '', fromPlatform({ certChainRFC9440TooLarge: true }), 'too long'],
  ['a leaf that is not there', platform, {}, '', fromPlatform({ certRFC9440: undefined }), 'too long'],
  ['a leaf twice', plain, { ...secret, 'client-cert': `${leaf}, ${leaf}` }, '', undefined, 'malformed'],
  ['no base64', plain, { ...secret, 'client-cert': ':*:' }, '', undefined, 'malformed'],
  ['more than 10 KiB', plain, { ...secret, 'client-cert': `:${'A'.repeat(10_240)}:` }, '', undefined, 'too long'],
  ['more than 10 KiB of PEM', aws, { 'x-amzn-mtls-clientcert': 'A'.repeat(10_241) }, '10.0.0.1', undefined, 'too long'],
  [
    '10 KiB of what is no PEM',
    aws,
    { 'x-amzn-mtls-clientcert': 'A'.repeat(10_240) },
    '10.0.0.1',
    undefined,
    'malformed',
  ],
  ['nine certificates in PEM', aws, { 'x-amzn-mtls-clientcert': pem.repeat(9) }, '10.0.0.1', undefined, 'malformed'],
  [
    'nine certificates',
    plain,
    { ...secret, 'client-cert': ':AAAA:', 'client-cert-chain': Array(8).fill(':AAAA:').join(', ') },
    '',
    undefined,
    'too long',
  ],
  ['a broken escape', aws, { 'x-amzn-mtls-clientcert': '%zz' }, '10.0.0.1', undefined, 'malformed'],
  [
    'PEM of something else',
    aws,
    { 'x-amzn-mtls-clientcert': encodeURIComponent(encodePem('PUBLIC KEY', der)) },
    '10.0.0.1',
    undefined,
    'malformed',
  ],
])('%s is refused', async (_, front, headers, address, tls, reason) => {
  const outcome = await rejection(look(front, headers, address, tls))
  expect(outcome).toMatch(/^UNAUTHENTICATED: /)
  expect(outcome).toContain(reason)
  expect(outcome).not.toContain(SECRET.slice(1))
})

test('a front says from where the client is, the last of those that are named', async () => {
  const front = { ...plain, addressHeader: 'x-forwarded-for' }
  const from = async (headers: Record<string, string>) => (await look(front, headers, '10.0.0.1')).arrival.address
  expect(await from({ ...secret, 'x-forwarded-for': '203.0.113.7, 198.51.100.2' })).toBe('198.51.100.2')
  expect(await from(secret)).toBe('10.0.0.1')
  expect(await from({ 'x-forwarded-for': '198.51.100.2' })).toBe('10.0.0.1')
  expect(await rejection(from({ ...secret, 'x-forwarded-for': '198.51.100.2, x' }))).toMatch(/^UNAUTHENTICATED/)
})

test('a front that is known by its address alone may be on this machine if it vouches for addresses only', async () => {
  const front: FrontOptions = {
    name: 'sidecar',
    carrier: 'none',
    addresses: ['127.0.0.1'],
    addressHeader: 'x-forwarded-for',
  }
  const told = { 'x-forwarded-for': '198.51.100.2' }
  expect((await look(front, told, '127.0.0.1')).arrival.address).toBe('198.51.100.2')
  expect((await look(front, told, '192.0.2.1')).arrival.address).toBe('192.0.2.1')
  expect(await rejection(look(front, { 'client-cert': leaf }, '127.0.0.1'))).toContain(STRANGER)
})

test('where no platform is nobody speaks for it', async () => {
  const front: FrontOptions = { ...platform, addressHeader: 'cf-connecting-ip' }
  const told = { 'cf-connecting-ip': '198.51.100.2' }
  expect((await look(front, told, '192.0.2.1')).arrival).toEqual({ address: '192.0.2.1', front: undefined })
  expect((await look(front, told, '192.0.2.1', fromPlatform())).arrival.address).toBe('198.51.100.2')
})

test.each<[FrontOptions, string]>([
  [{ name: 'x', carrier: 'rfc9440' }, 'the front "x" has neither a secret nor addresses to be known by'],
  [{ name: 'x', carrier: 'aws_alb_passthrough', addresses: ['10.0.0.0/99'] }, 'no address or network'],
  [{ name: 'x', carrier: 'rfc9440', addresses: ['10.0.0.1', '127.0.0.1'] }, 'the front "x" needs a secret'],
  [{ name: 'x', carrier: 'rfc9440', secret: 'short' }, 'less than 32 characters'],
  [{ name: 'x', carrier: 'cloudflare', secret: '' }, 'less than 32 characters'],
])('a front that cannot prove itself is refused: %j', (front, reason) => {
  expect(() => frontsOf([front])).toThrow(reason)
})

test('whatever stands in these headers is certificates, nothing, or refused', async () => {
  const piece = fc.constantFrom(
    ':',
    leaf,
    ', ',
    'AAAA',
    '%0A',
    '-----BEGIN CERTIFICATE-----',
    '-----END CERTIFICATE-----',
    '=',
    pem,
    '%',
  )
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(plain, cloudflare, aws),
      fc.constantFrom('client-cert', 'client-cert-chain', 'x-amzn-mtls-clientcert', 'x-amzn-mtls-clientcert-leaf'),
      fc.array(piece, { maxLength: 10 }).map((pieces) => pieces.join('')),
      async (front, name, text) => {
        const outcome = await rejection(look(front, { ...secret, ...good, [name]: text }, '10.0.0.1'))
        expect(outcome).toMatch(/^(OK$|UNAUTHENTICATED: )/)
      },
    ),
    { numRuns: 300 },
  )
})
