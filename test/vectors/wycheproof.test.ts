import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { StatusError } from '../../src/core/error.ts'
import { spkiOfJwk } from '../../src/core/jwk.ts'
import { parseJws } from '../../src/core/jwt-svid.ts'
import {
  parsePublicKey,
  SIGNATURE_ALGORITHMS,
  type SignatureScheme,
  type VerifySignature,
  verifyX509Signature,
  webCryptoVerifier,
} from '../../src/core/public-key.ts'
import { isSignedBy, readKeys } from '../../src/plugins/oidc/issuer.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'

interface SignatureGroup {
  readonly file: string
  readonly kind: 'ecdsa-der' | 'ecdsa' | 'rsa-pkcs1' | 'rsa-pss'
  readonly hash: SignatureScheme['hash']
  readonly key: string
  readonly jwk?: Readonly<Record<string, unknown>>
  readonly salt?: number
  readonly tests: readonly (readonly [
    id: number,
    comment: string,
    message: string,
    signature: string,
    result: Result,
  ])[]
}
interface JwsGroup {
  readonly file: string
  readonly comment: string
  readonly keys: readonly Readonly<Record<string, unknown>>[]
  readonly tests: readonly (readonly [id: number, comment: string, jws: string, result: Result])[]
}
type Result = 'valid' | 'invalid' | 'acceptable'

const read = (name: string): unknown =>
  JSON.parse(gunzipSync(readFileSync(join(import.meta.dirname, 'wycheproof', name))).toString())
const signatures = read('signatures.json.gz') as SignatureGroup[]
const jws = read('jws.json.gz') as JwsGroup[]
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))
const files = [...new Set(signatures.map(({ file }) => file))]
const verifiers: readonly (readonly [string, VerifySignature])[] = [
  ['node:crypto', nodeVerifier()],
  ['Web Crypto', webCryptoVerifier()],
]

/** The name of the X.509 algorithm of a group. */
const algorithmOf = (kind: SignatureScheme['kind'], hash: string) =>
  Object.entries(SIGNATURE_ALGORITHMS).find(([, scheme]) => scheme.kind === kind && scheme.hash === hash)![0]

for (const [name, verify] of verifiers) {
  test.each(files)(`${name} judges the signatures of %s as they are`, async (file) => {
    const wrong: string[] = []
    for (const group of signatures.filter((candidate) => candidate.file === file)) {
      const spki = bytes(group.key)
      for (const [id, comment, message, signature, result] of group.tests) {
        const data = bytes(message)
        const accepted =
          group.kind === 'ecdsa'
            ? await verify(parsePublicKey(spki), { kind: 'ecdsa', hash: group.hash }, data, bytes(signature))
            : await verifyX509Signature(
                verify,
                spki,
                algorithmOf(group.kind === 'ecdsa-der' ? 'ecdsa' : group.kind, group.hash),
                data,
                bytes(signature),
              )
        // Signatures whose salt is not as long as the hash are none here, whatever the group is about.
        const expected =
          group.salt === undefined || group.salt === Number(group.hash.slice(4)) / 8
            ? result === 'valid'
            : comment === 's_len changed to 32'
        if (accepted !== expected) wrong.push(`${id} ${comment}: ${result}, ${accepted}`)
      }
    }
    expect(wrong).toEqual([])
  })
}

test('the JWKs of the keys are read as the keys', () => {
  let count = 0
  for (const { jwk, key } of signatures) {
    if (jwk === undefined) continue
    count += 1
    expect(spkiOfJwk(jwk)).toEqual(bytes(key))
  }
  expect(count).toBeGreaterThan(50)
})

const UNNAMED = 'unnamed'
/** Vectors that are judged otherwise here, and why. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  'json_web_key 7': 'the key was made by a chip that makes weak ones (ROCA); nothing in its form is wrong',
  'json_web_signature 346': 'the key says that it is for PS256, the signature is made with PS384',
  'json_web_signature 350': 'the same',
  'json_web_signature 347': 'the key says that it is for "ES521", which is no algorithm',
  'json_web_signature 351': 'the same',
}

/** Whether a JWS verifies under the key that it names. */
async function accepts(token: string, keys: JwsGroup['keys'], verify: VerifySignature): Promise<boolean> {
  try {
    const parsed = parseJws(token)
    const key = readKeys({ keys: keys.map((jwk) => ({ kid: UNNAMED, ...jwk })) }).get(parsed.keyId || UNNAMED)
    return key !== undefined && (await isSignedBy(parsed, key, verify))
  } catch (error) {
    expect(error).toBeInstanceOf(StatusError)
    return false
  }
}

for (const [name, verify] of verifiers) {
  test(`${name} judges each JWS as it is`, async () => {
    const wrong: string[] = []
    for (const { file, comment: group, keys, tests } of jws) {
      for (const [id, comment, token, result] of tests) {
        const accepted = await accepts(token, keys, verify)
        const expected = Object.hasOwn(EXCEPTIONS, `${file} ${id}`) ? result !== 'valid' : result === 'valid'
        if (accepted !== expected) wrong.push(`${file} ${group} ${id} ${comment}: ${result}, ${accepted}`)
      }
    }
    expect(wrong).toEqual([])
  })
}
