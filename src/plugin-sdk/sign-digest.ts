import { constants, createHash, type KeyObject, privateEncrypt, randomBytes } from 'node:crypto'
import { HashAlgorithm } from '../../proto/spire/plugin/server/keymanager/v1.ts'
import { concat } from '../core/der.ts'
import { StatusError } from '../core/error.ts'

interface Hash {
  readonly name: string
  readonly bytes: number
  /** DigestInfo up to the digest, RFC 8017 9.2. */
  readonly prefix: Uint8Array
}

const hash = (name: string, bytes: number, id: string): Hash => {
  const head = `30${(17 + bytes).toString(16)}300d06096086480165030402${id}050004${bytes.toString(16)}`
  return { name, bytes, prefix: Buffer.from(head, 'hex') }
}
const HASHES: Readonly<Record<number, Hash>> = {
  [HashAlgorithm.SHA224]: hash('sha224', 28, '04'),
  [HashAlgorithm.SHA256]: hash('sha256', 32, '01'),
  [HashAlgorithm.SHA384]: hash('sha384', 48, '02'),
  [HashAlgorithm.SHA512]: hash('sha512', 64, '03'),
  [HashAlgorithm.SHA512_224]: hash('sha512-224', 28, '05'),
  [HashAlgorithm.SHA512_256]: hash('sha512-256', 32, '06'),
  [HashAlgorithm.SHA3_224]: hash('sha3-224', 28, '07'),
  [HashAlgorithm.SHA3_256]: hash('sha3-256', 32, '08'),
  [HashAlgorithm.SHA3_384]: hash('sha3-384', 48, '09'),
  [HashAlgorithm.SHA3_512]: hash('sha3-512', 64, '0a'),
}

/** How a digest is to be signed: SignDataRequest. */
export interface DigestSigning {
  readonly hashAlgorithm?: HashAlgorithm | undefined
  readonly pssOptions?: { readonly saltLength: number; readonly hashAlgorithm: HashAlgorithm } | undefined
}

/**
 * Signs a digest as SPIRE's hosts ask key managers to: they have hashed already. Node only for ECDSA, which needs its OpenSSL.
 *
 * @returns ECDSA-Sig-Value, or an RSA signature (PKCS#1 v1.5, or PSS where options are given)
 * @throws StatusError INVALID_ARGUMENT if the options are none or the digest is not as long as its hash
 */
export async function signDigest(key: KeyObject, digest: Uint8Array, options: DigestSigning): Promise<Uint8Array> {
  const { pssOptions } = options
  if (!pssOptions && options.hashAlgorithm === undefined)
    throw new StatusError('INVALID_ARGUMENT', 'signer opts is required')
  const hash = HASHES[pssOptions?.hashAlgorithm ?? options.hashAlgorithm!]
  if (!hash) throw new StatusError('INVALID_ARGUMENT', 'hash algorithm is required')
  if (digest.length !== hash.bytes)
    throw new StatusError(
      'INVALID_ARGUMENT',
      `a digest of ${hash.name} has ${hash.bytes} bytes, found ${digest.length}`,
    )
  if (key.asymmetricKeyType === 'rsa') {
    if (pssOptions) return pss(key, digest, hash, pssOptions.saltLength)
    return privateEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, concat([hash.prefix, digest]))
  }
  if (key.asymmetricKeyType !== 'ec') throw new StatusError('INVALID_ARGUMENT', 'the key is neither ECDSA nor RSA')
  if (pssOptions) throw new StatusError('INVALID_ARGUMENT', 'PSS is for RSA keys')
  return ecdsa(key, digest)
}

/** Go's words for a salt as long as fits and as the hash. */
const SALT_AUTO = 0

/** EMSA-PSS, RFC 8017 9.1.1. */
function pss(key: KeyObject, digest: Uint8Array, { name, bytes }: Hash, saltLength: number): Uint8Array {
  const bits = key.asymmetricKeyDetails!.modulusLength! - 1
  const length = Math.ceil(bits / 8)
  const saltBytes = saltLength === SALT_AUTO ? length - bytes - 2 : saltLength < 0 ? bytes : saltLength
  if (saltBytes > length - bytes - 2) throw new StatusError('INVALID_ARGUMENT', 'the salt is too long for the key')
  const salt = randomBytes(saltBytes)
  const digestOf = (...parts: Uint8Array[]): Uint8Array => createHash(name).update(concat(parts)).digest()
  const hashed = digestOf(new Uint8Array(8), digest, salt)
  const block = new Uint8Array(length - bytes - 1)
  block[block.length - saltBytes - 1] = 1
  block.set(salt, block.length - saltBytes)
  for (let at = 0, counter = 0; at < block.length; at += bytes, counter += 1) {
    const mask = digestOf(hashed, Uint8Array.of(counter >>> 24, counter >>> 16, counter >>> 8, counter))
    for (let i = 0; i < bytes && at + i < block.length; i += 1) block[at + i]! ^= mask[i]!
  }
  block[0]! &= 0xff >>> (8 * length - bits)
  const encoded = concat([block, hashed, Uint8Array.of(0xbc)])
  return privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, encoded)
}

type OpenSsl = (der: Uint8Array, digest: Uint8Array) => Uint8Array
let openSsl: Promise<OpenSsl> | undefined

/** node:crypto signs messages only. OpenSSL, which is in it, signs digests. */
async function ecdsa(key: KeyObject, digest: Uint8Array): Promise<Uint8Array> {
  openSsl ??= loadOpenSsl()
  const sign = await openSsl
  return sign(key.export({ type: 'pkcs8', format: 'der' }), digest)
}

async function loadOpenSsl(): Promise<OpenSsl> {
  const { default: koffi } = await import('koffi')
  const node = koffi.load(null)
  const find = (declaration: string) => {
    try {
      return node.func(declaration)
    } catch (cause) {
      throw new StatusError('UNIMPLEMENTED', 'ECDSA signatures of digests need Node.js', { cause })
    }
  }
  const readKey = find('void *d2i_AutoPrivateKey(void *into, _In_ uint8_t **der, long length)')
  const freeKey = find('void EVP_PKEY_free(void *key)')
  const newContext = find('void *EVP_PKEY_CTX_new(void *key, void *engine)')
  const freeContext = find('void EVP_PKEY_CTX_free(void *context)')
  const begin = find('int EVP_PKEY_sign_init(void *context)')
  const sign = find(
    'int EVP_PKEY_sign(void *context, _Out_ uint8_t *signature, _Inout_ size_t *length, const uint8_t *digest, size_t digestLength)',
  )
  return (der, digest) => {
    const key = readKey(null, [der], der.length)
    const context = key && newContext(key, null)
    try {
      // P-521, the largest, needs 139.
      const signature = new Uint8Array(160)
      const length = [signature.length]
      if (!context || begin(context) !== 1 || sign(context, signature, length, digest, digest.length) !== 1)
        throw new Error('OpenSSL could not sign')
      return signature.slice(0, length[0])
    } finally {
      freeContext(context)
      freeKey(key)
    }
  }
}
