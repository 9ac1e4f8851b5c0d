import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AT, type Made, makeCertificate, makeExtension } from '../../test/support/x509.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { type Certificate, parseCertificate, parseName } from './certificate.ts'
import { hex } from './der.ts'
import { issuingKeyId, verifyPath, verifyPaths, verifyX509Svid } from './path-validation.ts'
import { subjectKeyId, type VerifySignature } from './public-key.ts'

const parse = (made: Made) => parseCertificate(made.der)

function counting() {
  const counter = { checks: 0 }
  const inner = nodeVerifier()
  const verify: VerifySignature = (...args) => {
    counter.checks += 1
    return inner(...args)
  }
  return { counter, verify }
}

const CA_DEFECTS = ['expired', 'early', 'no CA', 'no certSign', 'path too long', 'critical', 'forged'] as const
const LEAF_DEFECTS = [
  'expired',
  'early',
  'critical',
  'forged',
  'no URI',
  'two URIs',
  'no SPIFFE ID',
  'another trust domain',
  'a CA',
  'certSign',
  'crlSign',
  'no signing',
] as const

test('a chain is good if nothing is wrong with any certificate of it, and bad otherwise', async () => {
  const odd = makeExtension('1.3.6.1.4.1.99999.1', true, Uint8Array.of(5, 0))
  const whatever = await generateSigner('ec-p256')
  const chains = fc.record({
    between: fc.nat(3),
    /** Defects by certificate, root first; half of the chains have none. */
    wrong: fc.option(fc.array(fc.tuple(fc.nat(4), fc.nat(100)), { minLength: 1, maxLength: 2 })),
    trusted: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  })
  const seen = { good: 0, bad: 0 }
  await fc.assert(
    fc.asyncProperty(chains, async ({ between, wrong, trusted }) => {
      const defects = new Set<string>()
      const defectOf = (index: number, kinds: readonly string[]) => {
        const found = wrong?.find(([at]) => at % (between + 2) === index)
        const kind = found && kinds[found[1] % kinds.length]
        // Nobody signed for a root, and nothing is below the last CA that could be too long.
        if (kind === undefined || (kind === 'forged' && index === 0) || (kind === 'path too long' && index === between))
          return
        defects.add(`${index} ${kind}`)
        return kind
      }
      const timesOf = (kind: string | undefined) =>
        kind === 'expired' ? { notAfter: AT - 1 } : kind === 'early' ? { notBefore: AT + 1 } : {}
      const common = (kind: string | undefined) => ({
        ...timesOf(kind),
        ...(kind === 'critical' ? { extra: [odd] } : {}),
      })
      /** Signed under the issuer's name and key identifier, by another key. */
      const issuerFor = (issuer: Made, kind: string | undefined) =>
        kind === 'forged' ? { ...issuer, key: whatever } : issuer
      const chain: Made[] = []
      for (let index = 0; index <= between; index += 1) {
        const kind = defectOf(index, CA_DEFECTS)
        const above = chain.at(-1)
        const made = await makeCertificate(
          {
            name: `ca ${index}`,
            ca: kind !== 'no CA',
            keyUsage: kind === 'no certSign' ? Uint8Array.of(7, 0b1000_0000) : Uint8Array.of(1, 0b110),
            ...(kind === 'no CA' ? {} : { pathLength: between - index - (kind === 'path too long' ? 1 : 0) }),
            ...(above ? { authorityKeyId: subjectKeyId(above.key.publicKey) } : {}),
            ...common(kind),
          },
          above && issuerFor(above, kind),
        )
        chain.push(made)
      }
      const kind = defectOf(between + 1, LEAF_DEFECTS)
      const bits = { certSign: 0b1000_0100, crlSign: 0b1000_0010, 'no signing': 0b0010_0000 }[kind ?? ''] ?? 0b1000_0000
      const uris = {
        'no URI': [],
        'two URIs': ['spiffe://example.org/web', 'spiffe://example.org/web'],
        'no SPIFFE ID': ['https://example.org/web'],
        'another trust domain': ['spiffe://other.org/web'],
      }[kind ?? ''] ?? ['spiffe://example.org/web']
      const above = chain.at(-1)!
      const leaf = await makeCertificate(
        {
          name: 'leaf',
          uris,
          ca: kind === 'a CA',
          keyUsage: Uint8Array.of(1, bits),
          authorityKeyId: subjectKeyId(above.key.publicKey),
          ...common(kind),
        },
        issuerFor(above, kind),
      )
      const stranger = await makeCertificate({ name: 'ca 0', ca: true })
      const good = defects.size === 0 && trusted
      seen[good ? 'good' : 'bad'] += 1
      const attempt = verifyX509Svid({
        chain: [leaf, ...chain.slice(1).reverse()].map(({ der }) => der),
        rootsOf: (name) => (name === 'example.org' ? [parse(trusted ? chain[0]! : stranger)] : undefined),
        at: AT,
        verify: nodeVerifier(),
      })
      if (good) expect((await attempt).path).toHaveLength(between + 2)
      else await expect(attempt, [...defects].join()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    }),
    { numRuns: 250 },
  )
  expect(seen.good).toBeGreaterThan(30)
  expect(seen.bad).toBeGreaterThan(60)
})

test('a crowd of authorities that could all have signed costs a bounded number of signature checks', async () => {
  const root = await makeCertificate({ name: 'root', ca: true })
  const key = root.key
  // Same name and key everywhere: every certificate is an issuer of every other.
  const one = await makeCertificate({ name: 'crowd', ca: true, key })
  const crowd: Certificate[] = []
  for (let index = 0; index < 40; index += 1) {
    crowd.push(parse(await makeCertificate({ name: 'crowd', ca: true, key }, one)))
  }
  const leaf = parse(await makeCertificate({ name: 'leaf' }, one))
  const { counter, verify } = counting()
  const attempt = verifyPath({ leaf, intermediates: crowd, roots: [parse(root)], at: AT, verify })
  await expect(attempt).rejects.toThrow('x509: ')
  expect(counter.checks).toBeLessThanOrEqual(24)
})

test('thousands of names under thousands of constraints are refused before they cost time', async () => {
  const excluded = Array.from({ length: 1000 }, (_, index) => [2, `${index}.test`] as const)
  const root = await makeCertificate({ name: 'root', ca: true, constraints: { excluded } })
  const dnsNames = Array.from({ length: 1000 }, (_, index) => `${index}.example`)
  const leaf = await makeCertificate({ name: 'leaf', dnsNames }, root)
  await expect(
    verifyPath({ leaf: parse(leaf), intermediates: [], roots: [parse(root)], at: AT, verify: nodeVerifier() }),
  ).rejects.toThrow('x509: too many name constraints comparisons')
})

test('a chain has at most 16 certificates, and at least one', async () => {
  const { der } = await makeCertificate({ name: 'leaf', uris: ['spiffe://example.org/web'] })
  const { counter, verify } = counting()
  const check = (chain: Uint8Array[]) => verifyX509Svid({ chain, rootsOf: () => [], at: AT, verify })
  await expect(check([])).rejects.toThrow('empty certificates chain')
  await expect(check(new Array(17).fill(der))).rejects.toThrow('too many certificates')
  expect(counter.checks).toBe(0)
})

test('a path of nine certificates is found, one of ten is not', async () => {
  const root = await makeCertificate({ name: 'root', ca: true })
  const chain: Made[] = []
  let issuer = root
  for (let depth = 1; depth <= 8; depth += 1) {
    issuer = await makeCertificate({ name: `ca ${depth}`, ca: true }, issuer)
    chain.push(issuer)
  }
  const check = async (authority: Made) =>
    verifyPath({
      leaf: parse(await makeCertificate({ name: 'leaf' }, authority)),
      intermediates: chain.map(parse),
      roots: [parse(root)],
      at: AT,
      verify: nodeVerifier(),
    })
  expect(await check(chain[6]!)).toHaveLength(9)
  await expect(check(chain[7]!)).rejects.toThrow('x509: too many intermediates for path length constraint')
})

const below = async (says: Partial<Parameters<typeof makeCertificate>[0]>, issuer: Made) =>
  makeCertificate({ name: 'leaf', uris: ['spiffe://example.org/w'], ...says }, issuer)
const outcomeOf = async (chain: readonly Made[], roots: readonly Made[], at = AT) => {
  const [leaf, ...intermediates] = chain.map(parse) as [Certificate, ...Certificate[]]
  try {
    return (await verifyPath({ leaf, intermediates, roots: roots.map(parse), at, verify: nodeVerifier() })).length
  } catch (error) {
    return (error as Error).message
  }
}
const UNKNOWN = 'x509: certificate signed by unknown authority'

test('a certificate is good from the second in which it begins to the one in which it ends', async () => {
  const root = await makeCertificate({ name: 'root', ca: true })
  const leaf = await below({ notBefore: AT, notAfter: AT + 10 }, root)
  expect(await outcomeOf([leaf], [root], AT)).toBe(2)
  expect(await outcomeOf([leaf], [root], AT + 10)).toBe(2)
  const expired = 'x509: certificate has expired or is not yet valid: current time'
  expect(await outcomeOf([leaf], [root], AT - 1)).toBe(`${expired} 2027-01-15T07:59:59Z is before 2027-01-15T08:00:00Z`)
  expect(await outcomeOf([leaf], [root], AT + 11)).toBe(`${expired} 2027-01-15T08:00:11Z is after 2027-01-15T08:00:10Z`)
})

test('an issuer is told by its name and key id; without key ids the name is enough, and the signature decides', async () => {
  const key = await generateSigner('ec-p256')
  const root = await makeCertificate({ name: 'root', ca: true, key })
  expect(await outcomeOf([await below({}, root)], [root])).toBe(2)
  expect(await outcomeOf([await below({ authorityKeyId: Uint8Array.of(9) }, root)], [root])).toBe(UNKNOWN)
  const elsewhere = await makeCertificate({ name: 'elsewhere', ca: true, key })
  expect(await outcomeOf([await below({}, elsewhere)], [root])).toBe(UNKNOWN)
  const without = (made: Certificate) => ({ ...made, subjectKeyId: undefined })
  const leaf = parse(await below({}, root))
  const input = { leaf, intermediates: [], roots: [without(parse(root))], at: AT, verify: nodeVerifier() }
  expect(await verifyPath(input)).toHaveLength(2)
  expect(await verifyPath({ ...input, leaf: { ...leaf, authorityKeyId: undefined } })).toHaveLength(2)
})

test('an authority need not say what its key is for; if it does, it must be for certificates', async () => {
  const usages = [
    undefined,
    Uint8Array.of(2, 0b0000_0100),
    Uint8Array.of(1, 0b0000_0010),
    Uint8Array.of(7, 0b1000_0000),
  ]
  const outcomes = await Promise.all(
    usages.map(async (keyUsage) => {
      const root = await makeCertificate({ name: 'root', ca: true, keyUsage })
      return outcomeOf([await below({}, root)], [root])
    }),
  )
  const wrong = 'x509: invalid signature: parent certificate cannot sign this kind of certificate'
  expect(outcomes).toEqual([2, 2, wrong, wrong])
})

test('a path length counts the authorities below, without those that issued themselves', async () => {
  const long = 'x509: too many intermediates for path length constraint'
  const root = await makeCertificate({ name: 'root', ca: true, pathLength: 1 })
  const first = await makeCertificate({ name: 'first', ca: true }, root)
  const second = await makeCertificate({ name: 'second', ca: true }, first)
  const renewed = await makeCertificate({ name: 'first', ca: true }, first)
  expect(await outcomeOf([await below({}, first), first], [root])).toBe(3)
  expect(await outcomeOf([await below({}, second), second, first], [root])).toBe(long)
  expect(await outcomeOf([await below({}, renewed), renewed, first], [root])).toBe(4)
  const none = await makeCertificate({ name: 'root', ca: true, pathLength: 0 })
  expect(await outcomeOf([await below({}, none)], [none])).toBe(2)
})

test('a root that cannot have signed does not hide another one that did, nor does a dead end', async () => {
  const key = await generateSigner('ec-p256')
  const expired = await makeCertificate({ name: 'root', ca: true, key, notAfter: AT - 1 })
  const good = await makeCertificate({ name: 'root', ca: true, key })
  expect(await outcomeOf([await below({}, good)], [expired, good])).toBe(2)
  expect(await outcomeOf([await below({}, good)], [expired])).toMatch(/certificate has expired/)
  const middleKey = await generateSigner('ec-p256')
  const nowhere = await makeCertificate(
    { name: 'middle', ca: true, key: middleKey },
    await makeCertificate({ name: 'lost', ca: true }),
  )
  const middle = await makeCertificate({ name: 'middle', ca: true, key: middleKey }, good)
  expect(await outcomeOf([await below({}, middle), nowhere, middle], [good])).toBe(3)
})

test('an algorithm that nobody knows is said', async () => {
  const root = await makeCertificate({ name: 'root', ca: true })
  const leaf = { ...parse(await below({}, root)), signatureAlgorithm: '1.2.3' }
  const attempt = verifyPath({ leaf, intermediates: [], roots: [parse(root)], at: AT, verify: nodeVerifier() })
  await expect(attempt).rejects.toMatchObject({
    code: 'UNAUTHENTICATED',
    message: 'x509: unsupported signature algorithm 1.2.3',
  })
})

test('sixteen certificates are not too many', async () => {
  const root = await makeCertificate({ name: 'root', ca: true })
  const { der } = await below({}, root)
  const input = { rootsOf: () => [parse(root)], at: AT, verify: nodeVerifier() }
  expect((await verifyX509Svid({ chain: new Array(16).fill(der), ...input })).spiffeId).toBe('spiffe://example.org/w')
})

test('the key that issued a certificate is known by its id, or not at all', async () => {
  const root = await makeCertificate({ name: 'root', ca: true })
  expect(issuingKeyId(parse(await below({}, root)))).toBe(hex(parse(root).subjectKeyId!))
  expect(issuingKeyId(parse(root))).toBe('')
})

test('all paths are found, and no more signatures are looked at than for one', async () => {
  const roots = await Promise.all(['one', 'two'].map((name) => makeCertificate({ name, ca: true })))
  const middle = await makeCertificate({ name: 'middle', ca: true }, roots[0])
  const across = await makeCertificate({ name: 'middle', ca: true, key: middle.key }, roots[1])
  const leaf = await makeCertificate({ name: 'leaf' }, middle)
  const parsed = (made: readonly Made[]) => made.map(({ der }) => parseCertificate(der))
  const [parsedLeaf] = parsed([leaf])
  const namesOf = (paths: readonly (readonly Certificate[])[]) =>
    paths.map((path) => parseName(path.at(-1)!.subject)[0]?.value)
  const input = { leaf: parsedLeaf!, roots: parsed(roots), at: AT, verify: nodeVerifier() }
  expect(namesOf(await verifyPaths({ ...input, intermediates: parsed([middle, across]) }))).toEqual(['one', 'two'])
  expect(namesOf(await verifyPaths({ ...input, intermediates: parsed([across]) }))).toEqual(['two'])
  await expect(verifyPaths({ ...input, intermediates: [] })).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })

  // Every certificate issues every other: there are more paths than anybody could walk.
  const key = middle.key
  const crowd = await Promise.all(
    Array.from({ length: 16 }, () => makeCertificate({ name: 'middle', ca: true, key }, middle)),
  )
  const { counter, verify } = counting()
  const found = await verifyPaths({ ...input, verify, intermediates: parsed([middle, ...crowd]) })
  expect(found.length).toBeGreaterThan(0)
  expect(counter.checks).toBeLessThanOrEqual(24)
})
