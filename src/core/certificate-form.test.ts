import { beforeAll, describe, expect, test } from 'vitest'
import { AT, type Made, makeCertificate, makeExtension } from '../../test/support/x509.ts'
import { generateSigner } from '../plugins/signer.ts'
import { parseCertificate, parseCertificates, parseName } from './certificate.ts'
import { createCsr, parseCsr } from './csr.ts'
import { bitString, concat, element, octetString, oid, sequence, TAG, time, unsignedInteger, utf8 } from './der.ts'
import { ecdsaRawToDer } from './ecdsa.ts'
import { StatusError } from './error.ts'
import { signatureAlgorithmIdentifier } from './public-key.ts'
import { encodeName } from './x509-name.ts'

/** One element of DER, with what is in it: elements, or bytes. */
interface Node {
  readonly tag: number
  readonly children: readonly Node[] | undefined
  readonly bytes: Uint8Array
}

function read(der: Uint8Array): Node[] {
  const nodes: Node[] = []
  for (let at = 0; at < der.length; ) {
    const tag = der[at]!
    const first = der[at + 1]!
    const sizeBytes = first < 0x80 ? 0 : first & 0x7f
    const size =
      sizeBytes === 0 ? first : der.subarray(at + 2, at + 2 + sizeBytes).reduce((sum, byte) => sum * 256 + byte, 0)
    const start = at + 2 + sizeBytes
    if (start + size > der.length || Number.isNaN(size)) throw new Error('no DER')
    const bytes = der.subarray(start, start + size)
    nodes.push({
      tag,
      children: tag & 0x20 ? read(bytes) : tag === TAG.octetString ? wrapped(bytes) : undefined,
      bytes,
    })
    at = start + size
  }
  return nodes
}

/** What an OCTET STRING holds, if it is the value of an extension. */
function wrapped(bytes: Uint8Array): Node[] | undefined {
  try {
    const nodes = read(bytes)
    return nodes.length === 1 && [TAG.sequence, TAG.bitString, TAG.octetString].includes(nodes[0]!.tag as never)
      ? nodes
      : undefined
  } catch {
    return undefined
  }
}

const write = ({ tag, children, bytes }: Node): Uint8Array =>
  element(tag, children ? concat(children.map(write)) : bytes)

/** Every way to add one element at the end of something that holds elements, except in the places of `opaque`. */
function* withOneMore(node: Node, opaque: ReadonlySet<string>, place = ''): Generator<[string, Node]> {
  if (!node.children || opaque.has(place)) return
  yield [
    place,
    { ...node, children: [...node.children, { tag: TAG.null, children: undefined, bytes: new Uint8Array(0) }] },
  ]
  for (const [index, child] of node.children.entries())
    for (const [where, changed] of withOneMore(child, opaque, `${place}/${index}`))
      yield [where, { ...node, children: node.children.with(index, changed) }]
}

const san = (...names: Uint8Array[]) => makeExtension('2.5.29.17', false, sequence(...names))
const uri = (text: string) => element(0x86, utf8(text))
const refuses = (der: Uint8Array) => expect(() => parseCertificate(der)).toThrow('x509: malformed certificate')

test('one element more, wherever it is, makes a certificate malformed', async () => {
  const { der } = await makeCertificate({
    name: 'x',
    ca: true,
    pathLength: 1,
    uris: ['spiffe://example.org/x'],
    authorityKeyId: Uint8Array.of(1),
    constraints: { permitted: [[6, 'example.org']], excluded: [[2, 'example.com']] },
    extra: [makeExtension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1')))],
  })
  const [root] = read(der)
  expect(write(root!)).toEqual(der)
  parseCertificate(der)
  // The names and the key are kept as they are, and read by whoever needs them; issuer and serial may follow the key id.
  const authorityKeyId = /^\/0\/7\/0\/\d+\/\d+\/0$/
  const places: string[] = []
  for (const [place, changed] of withOneMore(root!, new Set(['/0/3', '/0/5', '/0/6']))) {
    places.push(place)
    const bytes = write(changed)
    if (authorityKeyId.test(place) && isAuthorityKeyId(root!, place))
      expect(parseCertificate(bytes).authorityKeyId).toEqual(Uint8Array.of(1))
    else expect(() => parseCertificate(bytes), `one more in ${place}`).toThrow('x509: malformed certificate')
  }
  expect(places.length).toBeGreaterThan(30)
})

function isAuthorityKeyId(root: Node, place: string): boolean {
  const extension = root.children![0]!.children![7]!.children![0]!.children![Number(place.split('/')[4])]!
  return Buffer.from(extension.children![0]!.bytes).equals(Buffer.from(oid('2.5.29.35').subarray(2)))
}

test('one element more, wherever it is, makes a CSR malformed', async () => {
  const key = (await makeCertificate({ name: 'any' })).key
  const der = await createCsr({ subject: encodeName({}), uris: ['spiffe://a/b'], dnsNames: ['a.b'] }, key)
  const [root] = read(der)
  expect(write(root!)).toEqual(der)
  // Parameters of an algorithm that has none are not looked at.
  const opaque = new Set(['/0/1', '/0/2'])
  const taken: string[] = []
  for (const [place, changed] of withOneMore(root!, opaque)) {
    try {
      expect(parseCsr(write(changed)).uris).toEqual(['spiffe://a/b'])
      taken.push(place)
    } catch (error) {
      expect(error).toBeInstanceOf(StatusError)
    }
  }
  expect(taken).toEqual(['/1'])
})

describe('a certificate that is put together by hand', () => {
  let made: Made
  beforeAll(async () => {
    made = await makeCertificate({ name: 'x' })
  })
  const name = encodeName({ commonName: 'x' })
  const validity = sequence(time(AT - 60), time(AT + 60))
  const ecdsa256 = signatureAlgorithmIdentifier('ec-p256')
  const ecdsa384 = signatureAlgorithmIdentifier('ec-p384')
  const VERSION_3 = element(0xa0, unsignedInteger(Uint8Array.of(2)))

  async function certificate(
    changes: {
      version?: Uint8Array[]
      inner?: Uint8Array
      outer?: Uint8Array
      afterKey?: Uint8Array[]
      extensions?: Uint8Array[]
    } = {},
  ): Promise<Uint8Array> {
    const { version = [VERSION_3], inner = ecdsa256, outer = ecdsa256, afterKey = [], extensions = [] } = changes
    const tbs = sequence(
      ...version,
      unsignedInteger(Uint8Array.of(1)),
      inner,
      name,
      validity,
      name,
      made.key.publicKey,
      ...afterKey,
      ...(extensions.length > 0 ? [element(0xa3, sequence(...extensions))] : []),
    )
    return sequence(tbs, outer, bitString(ecdsaRawToDer(await made.key.sign(tbs))))
  }

  test('is taken without extensions, and is then neither a CA nor anything else', async () => {
    expect(parseCertificate(await certificate())).toMatchObject({
      isCa: false,
      basicConstraintsPresent: false,
      pathLength: undefined,
      keyUsage: undefined,
      extendedKeyUsage: undefined,
      uris: [],
      nameConstraints: undefined,
      unknownCritical: [],
    })
  })

  test('must name one signature algorithm inside and outside of what is signed', async () => {
    refuses(await certificate({ outer: ecdsa384 }))
    refuses(await certificate({ inner: ecdsa384 }))
    expect(parseCertificate(await certificate({ inner: ecdsa384, outer: ecdsa384 }))).toBeDefined()
  })

  test.each([
    ['1, which is not written', []],
    ['1', [element(0xa0, unsignedInteger(Uint8Array.of(0)))]],
    ['2', [element(0xa0, unsignedInteger(Uint8Array.of(1)))]],
    ['4', [element(0xa0, unsignedInteger(Uint8Array.of(3)))]],
    ['3 and 3', [element(0xa0, unsignedInteger(Uint8Array.of(2)), unsignedInteger(Uint8Array.of(2)))]],
  ])('must be of version 3, not %s', async (_, version) => {
    refuses(await certificate({ version }))
  })

  test('may carry unique identifiers of its issuer and subject, which say nothing', async () => {
    const identifier = Uint8Array.of(0, 1)
    const extensions = [san(uri('spiffe://a/b'))]
    for (const afterKey of [
      [element(0x81, identifier), element(0x82, identifier)],
      [element(0x81, identifier)],
      [element(0x82, identifier)],
    ])
      expect(parseCertificate(await certificate({ afterKey, extensions })).uris).toEqual(['spiffe://a/b'])
    refuses(await certificate({ afterKey: [element(0x82, identifier), element(0x81, identifier)] }))
  })

  test('says which critical extensions nobody understands, and keeps silent about others', async () => {
    const value = sequence()
    const extensions = [
      makeExtension('1.2.3.4', true, value),
      makeExtension('1.2.3.5', false, value),
      makeExtension('2.5.29.37', true, sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2'))),
      sequence(oid('1.2.3.6'), Uint8Array.of(TAG.boolean, 1, 0xff), octetString(value)),
    ]
    expect(parseCertificate(await certificate({ extensions }))).toMatchObject({
      unknownCritical: ['1.2.3.4', '1.2.3.6'],
      extendedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
    })
  })

  test.each([
    ['no basic constraints', [], { isCa: false, basicConstraintsPresent: false, pathLength: undefined }],
    ['empty ones', [sequence()], { isCa: false, basicConstraintsPresent: true, pathLength: undefined }],
    ['those of a CA', [sequence(Uint8Array.of(1, 1, 0xff))], { isCa: true, pathLength: undefined }],
    ['a path length', [sequence(Uint8Array.of(1, 1, 0xff), Uint8Array.of(2, 1, 3))], { isCa: true, pathLength: 3 }],
  ])('with %s is what they say', async (_, values, wanted) => {
    const extensions = [san(uri('a:b')), ...values.map((value) => makeExtension('2.5.29.19', true, value))]
    expect(parseCertificate(await certificate({ extensions }))).toMatchObject(wanted)
  })

  test.each([
    [[7, 0b1000_0000], 0b1],
    [[0, 0b1000_0110], 0b110_0001],
    [[7, 0b0000_0001, 0b1000_0000], 0b1_1000_0000],
    [[0, 0b1000_0000, 0b0111_1111, 0xff], 0b1],
  ])('the bits of the key usage %j are read as %i', async (bits, usage) => {
    const extensions = [makeExtension('2.5.29.15', true, element(TAG.bitString, Uint8Array.from(bits)))]
    const der = await certificate({ extensions })
    expect(parseCertificate(der).keyUsage).toBe(usage)
  })

  test.each([
    ['1024 names', 1024, true],
    ['1025 names', 1025, false],
  ])('with %s is taken: %3$s', async (_, count, taken) => {
    const der = await certificate({ extensions: [san(...Array.from({ length: count }, () => uri('a:b')))] })
    if (taken) expect(parseCertificate(der).uris).toHaveLength(count)
    else refuses(der)
  })

  test.each([
    ['a registered ID', element(0x88, Uint8Array.of(42)), true],
    ['a directory name', element(0xa4, name), true],
    ['a directory name as plain bytes', element(0x84, Uint8Array.of(1)), false],
    ['another name', element(0xa0, oid('1.2.3'), element(0xa0, element(TAG.null))), true],
    ['a name of type 9', element(0x89, Uint8Array.of(42)), false],
    ['a URI that is a list', element(0xa6, uri('a:b')), false],
    ['a URI of another class', element(0x46, utf8('a:b')), false],
  ])('with %s among its names is taken: %3$s', async (_, other, taken) => {
    const der = await certificate({ extensions: [san(other, uri('a:b'))] })
    if (taken) expect(parseCertificate(der).uris).toEqual(['a:b'])
    else refuses(der)
  })

  test('constraints that permit as many names as they exclude are not empty', async () => {
    const base = sequence(uri('example.org'))
    const extensions = [makeExtension('2.5.29.30', true, sequence(element(0xa0, base), element(0xa1, base)))]
    expect(parseCertificate(await certificate({ extensions })).nameConstraints).toMatchObject({
      permitted: [{ type: 6 }],
      excluded: [{ type: 6 }],
    })
  })
})

test('64 KiB and 64 extensions are taken, and not one more', async () => {
  // Signatures of RSA are all of one length.
  const key = await generateSigner('rsa-2048')
  const filled = async (bytes: number, count = 1) => {
    const extra = Array.from({ length: count }, (_, index) =>
      makeExtension(`1.2.3.${index}`, false, new Uint8Array(index === 0 ? bytes : 0)),
    )
    return (await makeCertificate({ name: 'x', key, serial: Uint8Array.of(1), extra })).der
  }
  const spare = 65_536 - (await filled(60_000)).length
  const largest = await filled(60_000 + spare)
  expect(largest).toHaveLength(65_536)
  expect(parseCertificate(largest)).toBeDefined()
  refuses(await filled(60_001 + spare))
  // Three come with each certificate.
  expect(parseCertificate(await filled(0, 61))).toBeDefined()
  refuses(await filled(0, 62))
})

test('a chain of certificates is malformed wherever it is', async () => {
  const { der } = await makeCertificate({ name: 'x' })
  for (const bytes of [
    concat([der, der.subarray(0, 20)]),
    concat([Uint8Array.of(0x30), der]),
    concat([der, Uint8Array.of(0x30, 0x80)]),
  ])
    expect(() => parseCertificates(bytes)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: 'x509: malformed certificate' }),
    )
})

test.each([
  [
    'one byte of a letter of two',
    sequence(element(TAG.set, sequence(oid('2.5.4.3'), element(0x1e, Uint8Array.of(0, 0x41, 0))))),
  ],
  ['a set beside its set', concat([sequence(), sequence()])],
  ['an attribute with two values', sequence(element(TAG.set, sequence(oid('2.5.4.3'), element(0x0c), element(0x0c))))],
])('a name with %s is malformed', (_, der) => {
  expect(() => parseName(der)).toThrow('DER')
})

describe('a CSR that is put together by hand', () => {
  const EXTENSIONS = '1.2.840.113549.1.9.14'
  let made: Made
  beforeAll(async () => {
    made = await makeCertificate({ name: 'x' })
  })

  /** Nothing verifies the signature when a CSR is read. */
  function csr({ version = 0, key = made.key.publicKey, attributes = [] as Uint8Array[] } = {}): Uint8Array {
    const info = sequence(Uint8Array.of(TAG.integer, 1, version), encodeName({}), key, element(0xa0, ...attributes))
    return sequence(info, signatureAlgorithmIdentifier('ec-p256'), bitString(new Uint8Array(8)))
  }
  const attribute = (type: string, ...extensions: Uint8Array[]) =>
    sequence(oid(type), element(TAG.set, sequence(...extensions)))

  test('is taken without attributes, and asks for nothing then', () => {
    expect(parseCsr(csr())).toMatchObject({ uris: [], dnsNames: [] })
    const info = sequence(Uint8Array.of(TAG.integer, 1, 0), encodeName({}), made.key.publicKey)
    const bare = sequence(info, signatureAlgorithmIdentifier('ec-p256'), bitString(new Uint8Array(8)))
    expect(parseCsr(bare)).toMatchObject({ uris: [], dnsNames: [] })
  })

  test('must be of version 1 and hold a key', () => {
    for (const version of [1, 2]) expect(() => parseCsr(csr({ version }))).toThrow('CSR is not version 1')
    expect(() => parseCsr(csr({ key: sequence(sequence(oid('1.2.3')), bitString(Uint8Array.of(1))) }))).toThrow()
  })

  test('asks by its names alone: other attributes and extensions say nothing', () => {
    const names = san(uri('spiffe://a/b'), element(0x82, utf8('a.b')))
    const others = [
      makeExtension('2.5.29.19', true, sequence(Uint8Array.of(1, 1, 0xff))),
      makeExtension('1.2.3', false, sequence(uri('spiffe://c/d'))),
    ]
    const attributes = [attribute('1.2.3', san(uri('spiffe://c/d'))), attribute(EXTENSIONS, ...others, names)]
    expect(parseCsr(csr({ attributes }))).toMatchObject({ uris: ['spiffe://a/b'], dnsNames: ['a.b'] })
  })

  test.each([
    ['twice in one attribute', () => [attribute(EXTENSIONS, san(uri('a:b')), san(uri('a:c')))]],
    ['in two attributes', () => [attribute(EXTENSIONS, san(uri('a:b'))), attribute(EXTENSIONS, san(uri('a:c')))]],
  ])('with its names %s is refused', (_, attributes) => {
    expect(() => parseCsr(csr({ attributes: attributes() }))).toThrow('CSR repeats an extension')
  })

  test.each([
    ['no list of extensions', element(TAG.set)],
    ['two lists of extensions', element(TAG.set, sequence(san(uri('a:b'))), sequence(san(uri('a:c'))))],
    ['something after the list', element(TAG.set, sequence(san(uri('a:b'))), Uint8Array.of(5, 0))],
    ['something after its values', concat([element(TAG.set, sequence(san(uri('a:b')))), Uint8Array.of(5, 0)])],
  ])('with %s is refused', (_, values) => {
    expect(() => parseCsr(csr({ attributes: [sequence(oid(EXTENSIONS), values)] }))).toThrow('DER')
  })

  test('whose extension is critical in another way than true or false is refused', () => {
    const odd = (flag: number) => sequence(oid('1.2.3'), Uint8Array.of(TAG.boolean, 1, flag), octetString(sequence()))
    expect(() => parseCsr(csr({ attributes: [attribute(EXTENSIONS, odd(0x7f))] }))).toThrow('DER')
    expect(parseCsr(csr({ attributes: [attribute(EXTENSIONS, odd(0xff))] })).uris).toEqual([])
  })

  test('is taken up to 64 KiB', () => {
    const sized = (bytes: number) =>
      csr({ attributes: [attribute(EXTENSIONS, makeExtension('1.2.3', false, new Uint8Array(bytes)))] })
    const spare = 65_536 - sized(60_000).length
    expect(sized(60_000 + spare)).toHaveLength(65_536)
    expect(parseCsr(sized(60_000 + spare)).uris).toEqual([])
    expect(() => parseCsr(sized(60_001 + spare))).toThrow('CSR is larger than 64 KiB')
  })
})
