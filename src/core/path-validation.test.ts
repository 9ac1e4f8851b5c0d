import { expect, test } from 'vitest'
import { AT, type Made, makeCertificate } from '../../test/support/x509.ts'
import { nodeVerifier } from '../plugins/signer.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { verifyPath, verifyX509Svid } from './path-validation.ts'
import type { VerifySignature } from './public-key.ts'

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
