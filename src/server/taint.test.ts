import { expect, test } from 'vitest'
import { makeCertificate } from '../../test/support/x509.ts'
import { hex } from '../core/der.ts'
import { subjectKeyId } from '../core/public-key.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { generateSigner } from '../plugins/signer.ts'
import { revokeRoot, rootKeyId, taintRoot } from './taint.ts'

const key = await generateSigner('ec-p256')
const [one, again, other] = await Promise.all([
  makeCertificate({ name: 'root', ca: true, key }),
  makeCertificate({ name: 'root', ca: true, key }),
  makeCertificate({ name: 'other', ca: true }),
])
const id = hex(subjectKeyId(key.publicKey))
const bundle = (...roots: readonly (readonly [{ der: Uint8Array }, boolean])[]) => ({
  trustDomain: parseTrustDomainName('example.org'),
  x509Authorities: roots.map(([{ der }, tainted]) => ({ der, tainted })),
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHintSeconds: 0,
  sequenceNumber: 1,
})

test('a key that was certified twice is tainted and revoked in both certificates', () => {
  const tainted = taintRoot(bundle([one, false], [again, true], [other, false]), id)
  expect(tainted.x509Authorities.map((root) => root.tainted)).toEqual([true, true, false])
  const revoked = revokeRoot(tainted, id)
  expect(revoked.x509Authorities.map(({ der }) => der)).toEqual([other.der])
})

test('while one of its certificates is not tainted, it is not revoked', () => {
  expect(() => revokeRoot(bundle([one, true], [again, false]), id)).toThrow(
    'it is not possible to revoke an untainted root CA',
  )
})

test('a key that is tainted in all its certificates is so already', () => {
  expect(() => taintRoot(bundle([one, true], [again, true]), id)).toThrow('root CA is already tainted')
})

test('roots that do not state a key id are told apart by their keys', () => {
  const ids = [one, other].map(({ der }) => rootKeyId({ der, tainted: false }))
  expect(new Set(ids).size).toBe(2)
})
