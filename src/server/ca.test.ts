import { decodeJwt } from 'jose'
import { expect, test } from 'vitest'
import { AT } from '../../test/support/x509.ts'
import { parseCertificate } from '../core/certificate.ts'
import { jwtSigner } from '../core/jwt-svid.ts'
import { parsePublicKey } from '../core/public-key.ts'
import { spiffeId } from '../core/spiffe-id.ts'
import { parseTrustDomainName } from '../core/trust-domain.ts'
import { witKeyOf } from '../core/wit-svid.ts'
import { generateSigner } from '../plugins/signer.ts'
import { Ca, selfSignCa } from './ca.ts'

const TD = parseTrustDomainName('example.org')
const id = spiffeId(TD, '/w')
const key = await generateSigner('ec-p256')
const random = (bytes: Uint8Array) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

/** A CA whose authorities all end after this many seconds. */
async function caUntil(seconds: number): Promise<Ca> {
  const ca = new Ca({
    trustDomain: TD,
    x509SvidTtlSeconds: 3600,
    jwtSvidTtlSeconds: 300,
    agentTtlSeconds: 3600,
    caTtlSeconds: 86_400,
    clock: { nowMs: () => AT * 1000 },
    random,
  })
  const notAfter = AT + seconds
  ca.setX509(await selfSignCa({ trustDomain: TD, signer: key, subject: {}, notAfter, now: AT, random }))
  ca.setJwt({ ...jwtSigner(key, 'j'), notAfter })
  ca.setWit({ ...jwtSigner(key, 'w', 'wit+jwt'), notAfter })
  return ca
}

/** Until when each kind of thing that a CA signs is good, as it says itself and as it is told. */
async function ends(ca: Ca, ttlSeconds: number, atMostSeconds?: number) {
  const limits = { ttlSeconds, ...(atMostSeconds === undefined ? {} : { atMostSeconds }) }
  const spki = key.publicKey
  const jwk = witKeyOf(parsePublicKey(spki), 'ES256')
  const x509 = await ca.signWorkloadX509({ id, spki, ...limits })
  const jwt = await ca.signJwt({ id, audience: ['a'], ...limits })
  const wit = await ca.signWit({ id, jwk, ...limits })
  expect(parseCertificate(x509.chain[0]!).notAfter).toBe(x509.expiresAt)
  for (const { token, expiresAt } of [jwt, wit]) expect(decodeJwt(token).exp).toBe(expiresAt)
  return [x509, jwt, wit].map(({ expiresAt }) => expiresAt - AT)
}

test('nothing is good for longer than the authority that signed it', async () => {
  const ca = await caUntil(30)
  expect(await ends(ca, 60)).toEqual([30, 30, 30])
  const { publicKey } = key
  const others = [ca.signAgentX509(id, publicKey), ca.signServerX509(publicKey), ca.signDownstreamCa(publicKey, 60)]
  for (const { expiresAt, chain } of await Promise.all(others)) {
    expect([expiresAt, parseCertificate(chain[0]!).notAfter]).toEqual([AT + 30, AT + 30])
  }
})

test('a lifetime is what was asked for, else the default, and at most what the caller may have', async () => {
  const ca = await caUntil(86_400)
  expect(await ends(ca, 60)).toEqual([60, 60, 60])
  expect(await ends(ca, 0)).toEqual([3600, 300, 3600])
  expect(await ends(ca, -5)).toEqual([3600, 300, 3600])
  expect(await ends(ca, 60, 20)).toEqual([20, 20, 20])
  expect(await ends(ca, 0, 20)).toEqual([20, 20, 20])
  expect(await ends(ca, 10, 20)).toEqual([10, 10, 10])
})

test('without authorities nothing is signed', async () => {
  const ca = new Ca({
    trustDomain: TD,
    x509SvidTtlSeconds: 1,
    jwtSvidTtlSeconds: 1,
    agentTtlSeconds: 1,
    caTtlSeconds: 1,
    clock: { nowMs: () => AT * 1000 },
    random,
  })
  const code = 'INTERNAL'
  await expect(ends(ca, 0)).rejects.toMatchObject({ code, message: 'X509 CA is not available for signing' })
  await expect(ca.signJwt({ id, audience: ['a'], ttlSeconds: 0 })).rejects.toMatchObject({ code })
  const jwk = witKeyOf(parsePublicKey(key.publicKey), 'ES256')
  await expect(ca.signWit({ id, jwk, ttlSeconds: 0 })).rejects.toMatchObject({ code })
})

test('what is looked at first can forbid a signature', async () => {
  const ca = await caUntil(60)
  ca.lookFirst(() => Promise.reject(new Error('the lease is lost')))
  const jwk = witKeyOf(parsePublicKey(key.publicKey), 'ES256')
  for (const signature of [
    ca.signServerX509(key.publicKey),
    ca.signDownstreamCa(key.publicKey, 0),
    ca.signJwt({ id, audience: ['a'], ttlSeconds: 0 }),
    ca.signWit({ id, jwk, ttlSeconds: 0 }),
  ])
    await expect(signature).rejects.toThrow('the lease is lost')
})
