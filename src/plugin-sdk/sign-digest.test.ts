import { constants, createHash, generateKeyPairSync, verify } from 'node:crypto'
import { expect, test } from 'vitest'
import { HashAlgorithm } from '../../proto/spire/plugin/server/keymanager/v1.ts'
import { signDigest } from './sign-digest.ts'

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const HASHES = [
  ['sha224', HashAlgorithm.SHA224],
  ['sha256', HashAlgorithm.SHA256],
  ['sha384', HashAlgorithm.SHA384],
  ['sha512', HashAlgorithm.SHA512],
  ['sha512-224', HashAlgorithm.SHA512_224],
  ['sha512-256', HashAlgorithm.SHA512_256],
  ['sha3-224', HashAlgorithm.SHA3_224],
  ['sha3-256', HashAlgorithm.SHA3_256],
  ['sha3-384', HashAlgorithm.SHA3_384],
  ['sha3-512', HashAlgorithm.SHA3_512],
] as const
const message = Buffer.from('what was hashed before')

test.each(HASHES)('a digest of %s is signed as the message would be', async (name, hashAlgorithm) => {
  const digest = createHash(name).update(message).digest()
  for (const { privateKey, publicKey } of [p256, p384, rsa]) {
    const signature = await signDigest(privateKey, digest, { hashAlgorithm })
    expect(verify(name, message, publicKey, signature)).toBe(true)
  }
  const salts = [
    [0, constants.RSA_PSS_SALTLEN_MAX_SIGN],
    [-1, constants.RSA_PSS_SALTLEN_DIGEST],
    [11, 11],
  ] as const
  for (const [asked, saltLength] of salts) {
    const signature = await signDigest(rsa.privateKey, digest, { pssOptions: { saltLength: asked, hashAlgorithm } })
    const padding = constants.RSA_PKCS1_PSS_PADDING
    expect(verify(name, message, { key: rsa.publicKey, padding, saltLength }, signature)).toBe(true)
  }
})

const digest = createHash('sha256').update(message).digest()
const { SHA256, SHA384, UNSPECIFIED_HASH_ALGORITHM } = HashAlgorithm
test.each([
  ['no options', p256.privateKey, {}, 'signer opts is required'],
  ['no hash', p256.privateKey, { hashAlgorithm: UNSPECIFIED_HASH_ALGORITHM }, 'hash algorithm is required'],
  ['a digest of another hash', p256.privateKey, { hashAlgorithm: SHA384 }, 'a digest of sha384 has 48 bytes, found 32'],
  ['PSS with ECDSA', p256.privateKey, { pssOptions: { saltLength: 0, hashAlgorithm: SHA256 } }, 'PSS is for RSA keys'],
  [
    'too long a salt',
    rsa.privateKey,
    { pssOptions: { saltLength: 223, hashAlgorithm: SHA256 } },
    'the salt is too long for the key',
  ],
  [
    'a key of Ed25519',
    generateKeyPairSync('ed25519').privateKey,
    { hashAlgorithm: SHA256 },
    'the key is neither ECDSA nor RSA',
  ],
])('%s is refused', async (_, key, options, message) => {
  await expect(signDigest(key, digest, options)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message })
})
