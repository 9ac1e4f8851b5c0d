import { expect, test } from 'vitest'
import { rejection } from '../../test/support/server.ts'
import { proveJoinToken, provenJoinToken, readJoinTokenProof } from './join-token-proof.ts'
import { parseTrustDomain } from './trust-domain.ts'

const TOKEN = '5cbb8a1c-7f0e-4a43-9d6b-6f1e2f3a4b5c'
const NOW = 1_800_000_000
const terms = { trustDomain: parseTrustDomain('example.org'), csr: Uint8Array.of(1, 2, 3) }
const text = new TextDecoder()
const prove = async (token: string) => text.decode(await proveJoinToken(token, terms, NOW))
const read = async (token = TOKEN) => readJoinTokenProof(await prove(token))!

test('a proof is good for its token, trust domain, CSR and time alone', async () => {
  const proof = await read()
  const others = ['5cbb8a1c-other', 'x']
  expect(await provenJoinToken(proof, [...others, TOKEN], terms, NOW + 90)).toBe(TOKEN)
  expect(await provenJoinToken(proof, others, terms, NOW)).toBeUndefined()
  expect(await provenJoinToken(proof, [TOKEN], { ...terms, csr: Uint8Array.of(1, 2, 4) }, NOW)).toBeUndefined()
  const elsewhere = { ...terms, trustDomain: parseTrustDomain('other.org') }
  expect(await provenJoinToken(proof, [TOKEN], elsewhere, NOW)).toBeUndefined()
  expect(await provenJoinToken({ ...proof, madeAt: NOW + 1 }, [TOKEN], terms, NOW)).toBeUndefined()
  for (const now of [NOW - 91, NOW + 91])
    expect(await rejection(provenJoinToken(proof, [TOKEN], terms, now))).toMatch(/^INVALID_ARGUMENT: .*too old/)
})

test.each([
  [TOKEN, '5cbb8a1c'],
  ['golden-a', 'go'],
  ['abc', ''],
  ['ÄÖÜß-ÄÖÜß', 'ÄÖ'],
])('of the token %s only the beginning is told', async (token, hint) => {
  const proof = await read(token)
  expect(proof.hint).toBe(hint)
  expect(await prove(token)).not.toContain(token.slice(hint.length))
  expect(await provenJoinToken(proof, [token], terms, NOW)).toBe(token)
})

test.each([TOKEN, '', 'turret-join-token-proof-1', 'turret-join-token-proof-1.a.1.b'])(
  '%s is a token, not a proof',
  (payload) => expect(readJoinTokenProof(payload)).toBeUndefined(),
)
