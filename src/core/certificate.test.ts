import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { AT, makeCertificate, makeExtension } from '../../test/support/x509.ts'
import {
  type Certificate,
  nameText,
  parseCertificate,
  parseCertificates,
  parseName,
  serialText,
} from './certificate.ts'
import { createCsr, parseCsr, verifyCsrSignature } from './csr.ts'
import { bitString, concat, element, oid, sequence, TAG, unsignedInteger, utf8 } from './der.ts'
import { StatusError } from './error.ts'
import type { Signer } from './key-type.ts'
import { leafSpiffeId } from './path-validation.ts'
import { parsePublicKey, rsaSpki, signatureAlgorithmIdentifier, webCryptoVerifier } from './public-key.ts'
import { decodeName, encodeName } from './x509-name.ts'

const san = (...names: Uint8Array[]) => makeExtension('2.5.29.17', false, sequence(...names))
const uri = (text: string) => element(0x86, utf8(text))
const basic = makeExtension('2.5.29.19', true, sequence())

describe('parseCertificate', () => {
  test.each([
    ['an extension twice', { extra: [basic] }],
    ['a negative serial number', { serial: Uint8Array.of(0x80) }],
    ['an empty serial number', { serial: new Uint8Array(0) }],
    ['a URI whose tag says that it holds elements', { extra: [san(element(0xa6, uri('spiffe://a/b')))] }],
    ['a name of an unknown kind', { extra: [san(element(0x89, utf8('x')))] }],
    ['a URI that is not ASCII', { extra: [san(element(0x86, utf8('spiffe://exämple/b')))] }],
    [
      'bytes after the names',
      { extra: [makeExtension('2.5.29.17', false, concat([sequence(uri('a:b')), uri('a:b')]))] },
    ],
    ['empty name constraints', { constraints: {} }],
    [
      'more than 64 extensions',
      { extra: Array.from({ length: 64 }, (_, n) => makeExtension(`1.2.3.${n}`, false, sequence())) },
    ],
  ])('refuses %s', async (_, says) => {
    const { der } = await makeCertificate({ name: 'x', ...says })
    expect(() => parseCertificate(der)).toThrow('x509: malformed certificate')
  })

  test.each([
    ['nothing', new Uint8Array(0)],
    ['a string', utf8('not a certificate')],
    ['64 KiB and more', sequence(new Uint8Array(65536))],
  ])('refuses %s', (_, der) => {
    expect(() => parseCertificate(der)).toThrow('x509: malformed certificate')
  })

  test('refuses trailing bytes, and takes concatenated certificates where they are expected', async () => {
    const one = (await makeCertificate({ name: 'one' })).der
    const two = (await makeCertificate({ name: 'two' })).der
    expect(() => parseCertificate(concat([one, two]))).toThrow('x509: malformed certificate')
    expect(parseCertificates(concat([one, two])).map((found) => nameText(found.subject))).toEqual(['CN=one', 'CN=two'])
    expect(parseCertificates(new Uint8Array(0))).toEqual([])
  })

  test('fields are views into the input', async () => {
    const { der } = await makeCertificate({ name: 'x', uris: ['spiffe://example.org/x'], serial: Uint8Array.of(1, 0) })
    const found = parseCertificate(der)
    expect(found.tbs.buffer).toBe(der.buffer)
    expect(serialText(found)).toBe('256')
    expect([found.notBefore, found.notAfter]).toEqual([AT - 3600, AT + 3600])
  })
})

describe('leafSpiffeId', () => {
  test.each([
    ['no URI', {}, 'certificate contains no URI SAN'],
    ['two URIs', { uris: ['spiffe://a/b', 'spiffe://a/c'] }, 'certificate contains more than one URI SAN'],
    ['no key usage', { keyUsage: undefined }, 'without digitalSignature'],
    ['keyCertSign', { keyUsage: Uint8Array.of(2, 0b1000_0100) }, 'KeyCertSign'],
    ['cRLSign', { keyUsage: Uint8Array.of(1, 0b1000_0010) }, 'KeyCrlSign'],
    ['a CA', { ca: true }, 'CA flag set to true'],
  ])('refuses a leaf with %s', async (_, says, text) => {
    const uris = text.includes('URI SAN') ? {} : { uris: ['spiffe://a/b'] }
    const { der } = await makeCertificate({ name: 'x', ...uris, ...says })
    expect(() => leafSpiffeId(parseCertificate(der))).toThrow(text)
  })
})

test.each([
  ['1', [1], false],
  ['2', [2], false],
  ['65536', [1, 0, 0], false],
  ['3', [3], true],
  ['65537', [1, 0, 1], true],
])('an RSA key with the exponent %s: %o, a key: %s', (_, exponent, good) => {
  const spki = rsaSpki(unsignedInteger(new Uint8Array(256).fill(0xc1)), unsignedInteger(Uint8Array.from(exponent)))
  if (good) expect(parsePublicKey(spki)).toMatchObject({ kind: 'rsa', bits: 2048 })
  else expect(() => parsePublicKey(spki)).toThrow('RSA public exponent is even or 1')
})

describe('names', () => {
  const rdn = (...attributes: [string, number, string][]) =>
    element(TAG.set, ...attributes.map(([type, tag, text]) => sequence(oid(type), element(tag, utf8(text)))))

  test.each([
    ['the usual', encodeName({ country: ['US'], organization: ['SPIRE'], commonName: 'web' }), 'CN=web,O=SPIRE,C=US'],
    ['nothing', encodeName({}), ''],
    ['several values', encodeName({ organization: ['b', 'a'] }), 'O=a+O=b'],
    ['letters to escape', encodeName({ commonName: ' a,b+c"d\\e<f>g;h ' }), 'CN=\\ a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h\\ '],
    ['a number sign first', encodeName({ commonName: '#a#' }), 'CN=\\#a#'],
    [
      'an unusual attribute',
      sequence(rdn(['2.5.4.45', 0x13, 'id']), rdn(['2.5.4.10', 0x13, 'O'])),
      'O=O,2.5.4.45=#13026964',
    ],
    ['another order', sequence(rdn(['2.5.4.3', 0x0c, 'web']), rdn(['2.5.4.6', 0x13, 'US'])), 'CN=web,C=US'],
  ])('%s reads as Go prints it', (_, der, text) => {
    expect(nameText(der)).toBe(text)
  })

  test('string types of old authorities are read', () => {
    const name = sequence(
      rdn(['2.5.4.5', 0x12, '42']),
      element(TAG.set, sequence(oid('2.5.4.10'), element(0x14, Uint8Array.of(0xe9)))),
      element(TAG.set, sequence(oid('2.5.4.3'), element(0x1e, Uint8Array.of(0x26, 0x3a)))),
    )
    expect(parseName(name).map(({ value }) => value)).toEqual(['42', 'é', '☺'])
  })

  test('what is encoded is decoded', () => {
    const name = {
      country: ['US'],
      organization: ['A', 'ü'],
      organizationalUnit: ['x'],
      commonName: 'c',
      serialNumber: '7',
    }
    expect(decodeName(encodeName(name))).toEqual(name)
  })
})

describe('CSR', () => {
  const verify = webCryptoVerifier()
  let key: Signer
  beforeAll(async () => {
    key = (await makeCertificate({ name: 'any' })).key
  })

  const request = async (...extensions: Uint8Array[]) => {
    const attribute = sequence(oid('1.2.840.113549.1.9.14'), element(TAG.set, sequence(...extensions)))
    const info = sequence(Uint8Array.of(TAG.integer, 1, 0), sequence(), key.publicKey, element(0xa0, attribute))
    return sequence(info, signatureAlgorithmIdentifier(key.keyType), bitString(new Uint8Array(8)))
  }

  test('refuses an extension twice', async () => {
    expect(parseCsr(await request(san(uri('spiffe://a/b')))).uris).toEqual(['spiffe://a/b'])
    const twice = await request(san(uri('spiffe://a/b')), san(uri('spiffe://a/c')))
    expect(() => parseCsr(twice)).toThrow('CSR repeats an extension')
  })

  test('refuses a signature by another key, with the text of Go', async () => {
    const other = (await makeCertificate({ name: 'any' })).key
    const der = await createCsr({ subject: encodeName({}) }, { ...key, sign: (data: Uint8Array) => other.sign(data) })
    await expect(verifyCsrSignature(parseCsr(der), verify)).rejects.toThrow('x509: ECDSA verification failure')
    const garbage = parseCsr(await request(san(uri('spiffe://a/b'))))
    await expect(verifyCsrSignature(garbage, verify)).rejects.toThrow('x509: ECDSA verification failure')
  })
})

describe('whatever comes', () => {
  let certificate: Uint8Array
  let csr: Uint8Array
  beforeAll(async () => {
    const made = await makeCertificate({
      name: 'x',
      uris: ['spiffe://example.org/x'],
      dnsNames: ['x.example.org'],
      constraints: { permitted: [[6, 'example.org']] },
    })
    certificate = made.der
    csr = await createCsr({ subject: encodeName({ commonName: 'x' }), uris: ['spiffe://a/b'] }, made.key)
  })

  const mutations = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 })
  const mutate = (bytes: Uint8Array, changes: [number, number][], cut: number) => {
    const copy = new Uint8Array(bytes)
    for (const [at, value] of changes) copy[at % copy.length] = value
    return cut % 4 === 0 ? copy.subarray(0, cut % copy.length) : copy
  }
  const use = (found: Certificate) => [serialText(found), found.uris.length, found.spki.length]

  test('a mutated certificate or CSR is parsed or refused with INVALID_ARGUMENT, nothing else', () => {
    fc.assert(
      fc.property(mutations, fc.nat(), (changes, cut) => {
        for (const attempt of [
          () => use(parseCertificate(mutate(certificate, changes, cut))),
          () => parseCsr(mutate(csr, changes, cut)),
        ]) {
          try {
            attempt()
          } catch (error) {
            expect(error).toBeInstanceOf(StatusError)
            expect((error as StatusError).code).toBe('INVALID_ARGUMENT')
          }
        }
      }),
      { numRuns: 3000 },
    )
  })

  test('core needs nothing of Node to do this', () => {
    for (const file of ['der', 'certificate', 'csr', 'pem', 'public-key', 'x509-svid', 'path-validation', 'sha1']) {
      expect(readFileSync(new URL(`./${file}.ts`, import.meta.url), 'utf8')).not.toMatch(/from 'node:|\bBuffer\b/)
    }
  })
})
