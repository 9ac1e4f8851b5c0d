import { StatusError } from '../core/error.ts'
import { JWS_ALGORITHMS } from '../core/jwt-svid.ts'
import type { Signer } from '../core/key-type.ts'
import type { VerifySignature } from '../core/public-key.ts'
import type { ValidWitSvid } from '../core/wit-svid.ts'
import {
  type Credential,
  checkSignature,
  checkWindow,
  contentDigest,
  type HttpMessage,
  type MessageHead,
  parseSignatureInput,
  quoted,
  refused,
  requestBase,
  type SignatureInput,
  textParam,
} from './message-signature.ts'

// The profile of WIT-SVIDs: WIMSE's own (draft-ietf-wimse-http-signature-08), to the letter. What it leaves open is decided strictly.

const TAG = 'wimse-workload-to-workload'
const TOKEN = 'workload-identity-token'
/** Covered wherever a request has them; section 3. */
const SENSITIVE = ['content-type', 'content-digest', 'authorization', 'txn-token', TOKEN]
const MAX_TOKEN = 16 * 1024

/** The credential of a WIT-SVID. @param signer of the key that the token names, which must sign with the algorithm that it names */
export function witCredential(token: string, signer: Signer): Credential {
  return { tag: TAG, headers: { [TOKEN]: token }, signer }
}

/** True if a request has a WIT, or a signature of its profile. */
export function isWitRequest(tag: string | undefined, headers: Headers): boolean {
  return tag === TAG || (tag === undefined && headers.has(TOKEN))
}

export interface WitCheck {
  /** Names under which this receiver may be addressed; each stands for the URLs below it, too, as senders may name the whole URL. */
  readonly audiences: readonly string[]
  readonly now: number
  readonly verify: VerifySignature
  /** @throws StatusError */
  readonly verifyWit: (token: string) => Promise<ValidWitSvid>
}

/**
 * Verifies the head of a request that the holder of a WIT-SVID signed: strict form, window, audience, covered components, token, signature,
 * in this order. Its body is for `checkWitBody`.
 * @throws StatusError INVALID_ARGUMENT whatever is wrong, as the profile wants 400 and no 401
 */
export function verifyWitRequest(message: MessageHead, check: WitCheck): Promise<ValidWitSvid> {
  return asBadRequest(verified(message, check))
}

/** @throws StatusError INVALID_ARGUMENT unless the body is the one of the digests that came with it */
export function checkWitBody(message: Pick<HttpMessage, 'headers' | 'body'>): Promise<void> {
  return asBadRequest(checkDigests(message))
}

async function asBadRequest<T>(check: Promise<T>): Promise<T> {
  try {
    return await check
  } catch (error) {
    if (!(error instanceof StatusError) || error.code !== 'UNAUTHENTICATED') throw error
    throw new StatusError('INVALID_ARGUMENT', error.message, { details: error.details, cause: error })
  }
}

async function verified(message: MessageHead, check: WitCheck): Promise<ValidWitSvid> {
  const { headers } = message
  const token = headers.get(TOKEN)
  if (token === null || token.length > MAX_TOKEN) throw refused('the workload identity token is missing or too long')
  const input = parseSignatureInput(headers.get('signature-input'), TAG)
  checkWindow(input.values, check.now)
  textParam(input.values, 'nonce')
  checkAudience(textParam(input.values, 'wimse-aud'), message.target, check.audiences)
  checkCovered(input, headers)
  // Only a token that is good says what key to check with.
  const wit = await check.verifyWit(token)
  const base = requestBase(quoted(input.components), input.params, message, (name) => headers.get(name) ?? undefined)
  await checkSignature(headers, base, wit.key, check.verify, JWS_ALGORITHMS[wit.algorithm])
  return wit
}

/** A configured name, or what senders take by default: the target's URL without its query. Section 3.1 */
function checkAudience(found: string, target: string, audiences: readonly string[]): void {
  const path = target.replace(/\?.*$/s, '')
  const names = audiences.flatMap((name) => [name, `${URL.parse(name)?.origin ?? name}${path}`])
  if (!names.includes(found)) throw refused('the audience of the signature is not this server')
}

/** More than the profile asks for may be covered, as long as it can be looked up. */
function checkCovered({ components }: SignatureInput, headers: Headers): void {
  const wanted = ['@method', '@request-target', ...SENSITIVE.filter((name) => headers.has(name))]
  for (const name of wanted) {
    if (!components.includes(name)) throw refused(`the signature does not cover "${name}"`)
  }
  for (const name of components) {
    if (!wanted.includes(name) && !/^[a-z0-9-]+$/.test(name))
      throw refused(`the signature covers "${name}", which this profile does not know`)
  }
}

/** RFC 9530 2: one digest or both, and all of them right. A request without a body needs none. */
async function checkDigests({ headers, body }: Pick<HttpMessage, 'headers' | 'body'>): Promise<void> {
  const text = headers.get('content-digest')
  if (text === null && body.length === 0) return
  const members = (text ?? '').split(/, ?/)
  if (members.length > 2) throw refused('the content digest is malformed')
  for (const member of members) {
    const name = /^([a-z0-9-]+)=:/.exec(member)?.[1]
    if (name !== 'sha-256' && name !== 'sha-512')
      throw refused('the content digest is missing, malformed or of another kind than sha-256 or sha-512')
    if (member !== (await contentDigest(body, name))) throw refused('the content digest does not match the body')
  }
}
