import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AT, type Made, makeCertificate, makeExtension } from '../../test/support/x509.ts'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { verifyPath, verifyX509Svid } from './path-validation.ts'
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
