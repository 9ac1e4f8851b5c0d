import { expect, test } from 'vitest'
import { generateSigner, nodeVerifier } from '../plugins/signer.ts'
import { parsePublicKey } from './public-key.ts'
import { rememberingVerifier } from './remembering-verifier.ts'

const signer = await generateSigner('ec-p256')
const scheme = { kind: 'ecdsa', hash: 'SHA-256' } as const
const bytes = (text: string) => new TextEncoder().encode(text)

function counting(size = 10) {
  let calls = 0
  const real = nodeVerifier()
  const verify = rememberingVerifier((...args) => {
    calls += 1
    return real(...args)
  }, size)
  return { verify, calls: () => calls }
}

test('a good signature is checked once; another key, other data and bad signatures always are', async () => {
  const { verify, calls } = counting()
  const key = parsePublicKey(signer.publicKey)
  const signature = await signer.sign(bytes('data'))
  expect(await verify(key, scheme, bytes('data'), signature)).toBe(true)
  expect(await verify(key, scheme, bytes('data'), signature)).toBe(true)
  expect(await verify(parsePublicKey(signer.publicKey), scheme, bytes('data'), signature)).toBe(true)
  expect(calls()).toBe(1)
  expect(await verify(key, scheme, bytes('datA'), signature)).toBe(false)
  expect(
    await verify(parsePublicKey((await generateSigner('ec-p256')).publicKey), scheme, bytes('data'), signature),
  ).toBe(false)
  expect(await verify(key, { ...scheme, hash: 'SHA-384' }, bytes('data'), signature)).toBe(false)
  const bad = Uint8Array.from(signature, (byte, index) => (index === 5 ? byte ^ 1 : byte))
  expect(await verify(key, scheme, bytes('data'), bad)).toBe(false)
  expect(await verify(key, scheme, bytes('data'), bad)).toBe(false)
  expect(calls()).toBe(6)
})

test('the least recently used signature is forgotten first', async () => {
  const { verify, calls } = counting(2)
  const key = parsePublicKey(signer.publicKey)
  const signatures = await Promise.all(
    ['a', 'b', 'c'].map(async (text) => [bytes(text), await signer.sign(bytes(text))] as const),
  )
  const check = async (index: number) => verify(key, scheme, ...signatures[index]!)
  for (const index of [0, 1, 0, 2]) await check(index)
  expect(calls()).toBe(3)
  await check(0)
  expect(calls()).toBe(3)
  await check(1)
  expect(calls()).toBe(4)
})
