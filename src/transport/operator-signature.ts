import { base64Url, fromBase64Url } from '../core/base64.ts'
import { utf8 } from '../core/der.ts'
import { parseJson } from '../core/json-object.ts'
import { jwkOf, jwkThumbprint, spkiOfJwk } from '../core/jwk.ts'
import type { Signer } from '../core/key-type.ts'
import { parsePublicKey, type VerifySignature } from '../core/public-key.ts'
import { equalSecret } from '../core/secret-text.ts'
import { type Credential, checkRequest, checkSignature, type MessageHead, refused } from './message-signature.ts'

// The profile of operators: a key pair of their own, whose thumbprint the server is configured with.

const TAG = 'turret-operator-key'
/** Base64url of the public JWK. */
const KEY = 'operator-key'
const MAX_KEY_TEXT = 4096

/** The credential of an operator's key. */
export function operatorCredential(signer: Signer): Credential {
  return { tag: TAG, headers: { [KEY]: base64Url(utf8(JSON.stringify(jwkOf(signer.publicKey)))) }, signer }
}

export interface OperatorCheck {
  readonly audiences: readonly string[]
  readonly now: number
  readonly verify: VerifySignature
  /** RFC 7638. */
  readonly thumbprints: readonly string[]
}

/** True if a request claims to be an operator's. */
export function isOperatorTag(tag: string | undefined): boolean {
  return tag === TAG
}

/**
 * Verifies the head of a request that an operator's key signed; its body is for `checkDigest`.
 * @returns the thumbprint of the key
 * @throws StatusError UNAUTHENTICATED
 */
export async function verifyOperatorRequest(message: MessageHead, check: OperatorCheck): Promise<string> {
  const { base } = checkRequest(message, { tag: TAG, credentialHeaders: [KEY] }, check)
  const spki = readKey(message.headers.get(KEY))
  const thumbprint = await jwkThumbprint(spki)
  if (!contains(check.thumbprints, thumbprint)) throw refused('the key is no operator of this server')
  await checkSignature(message.headers, base, parsePublicKey(spki), check.verify)
  return thumbprint
}

function readKey(text: string | null): Uint8Array {
  if (text === null || text.length > MAX_KEY_TEXT) throw refused('the operator key is missing or too long')
  try {
    const jwk: unknown = parseJson(new TextDecoder('utf-8', { fatal: true }).decode(fromBase64Url(text)))
    if (typeof jwk !== 'object' || jwk === null || 'd' in jwk) throw new Error('no public key')
    return spkiOfJwk(jwk as Readonly<Record<string, unknown>>)
  } catch {
    // Not what was sent: somebody may have sent a private key.
    throw refused('the operator key is malformed')
  }
}

/** Looks at all of them, whichever matches. */
function contains(known: readonly string[], found: string): boolean {
  let any = false
  for (const one of known) any = equalSecret(one, found) || any
  return any
}
