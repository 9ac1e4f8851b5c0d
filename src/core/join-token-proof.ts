import { base64Url, fromBase64Url } from './base64.ts'
import type { EpochSeconds } from './clock.ts'
import { utf8 } from './der.ts'
import { StatusError } from './error.ts'
import { sha256 } from './sha256.ts'
import type { TrustDomain } from './trust-domain.ts'

// Whoever ends TLS before the server reads what an agent sends. So over HTTP an agent does not send its join token but proof of it: a MAC
// with the token as key over the trust domain that it is for, the time, and the CSR, whose key it says is the agent's. It is of use to nobody
// else. To find the token the server gets its beginning, which takes 32 bits from the 122 random ones of a token of ours; a short one that
// somebody made up can be guessed by who saw the proof.

const LABEL = 'turret-join-token-proof-1'
const FORM = new RegExp(`^${LABEL}\\.([A-Za-z0-9_-]{0,64})\\.(\\d{1,12})\\.([A-Za-z0-9_-]{43})$`)
/** As requests that are signed, whose clocks may differ as much. Seconds. */
const LONGEST_AGE = 90

/** What a proof is bound to. */
export interface ProofTerms {
  readonly trustDomain: TrustDomain
  /** DER. */
  readonly csr: Uint8Array
}

/** A proof as it came; nothing of it is verified. */
export interface JoinTokenProof {
  /** The beginning of the token. */
  readonly hint: string
  readonly madeAt: EpochSeconds
  readonly mac: Uint8Array
}

/** Proves to have a join token. @returns the payload of the attestation */
export async function proveJoinToken(token: string, terms: ProofTerms, now: EpochSeconds): Promise<Uint8Array> {
  const key = await keyOf(token, 'sign')
  const mac = await crypto.subtle.sign('HMAC', key, await transcript(terms, now))
  return utf8(`${LABEL}.${base64Url(utf8(hintOf(token)))}.${now}.${base64Url(new Uint8Array(mac))}`)
}

/** @returns undefined for what is no proof, as a token itself */
export function readJoinTokenProof(payload: string): JoinTokenProof | undefined {
  const [, hint, madeAt, mac] = FORM.exec(payload) ?? []
  if (hint === undefined) return undefined
  return { hint: new TextDecoder().decode(fromBase64Url(hint)), madeAt: Number(madeAt), mac: fromBase64Url(mac!) }
}

/**
 * The token, among those with the beginning, that the proof was made with; undefined if it is none of them.
 * @throws StatusError INVALID_ARGUMENT for a proof of another time
 */
export async function provenJoinToken(
  { madeAt, mac }: JoinTokenProof,
  tokens: readonly string[],
  terms: ProofTerms,
  now: EpochSeconds,
): Promise<string | undefined> {
  if (Math.abs(now - madeAt) > LONGEST_AGE)
    throw new StatusError('INVALID_ARGUMENT', 'the proof of the join token is too old, or of the future')
  const input = await transcript(terms, madeAt)
  for (const token of tokens) {
    if (await crypto.subtle.verify('HMAC', await keyOf(token, 'verify'), mac as BufferSource, input)) return token
  }
  return undefined
}

/** At most 8 characters, and never more than a quarter: what is left must be hard to guess. */
function hintOf(token: string): string {
  return token.slice(0, Math.min(8, token.length >> 2))
}

function keyOf(token: string, use: 'sign' | 'verify'): Promise<CryptoKey> {
  return crypto.subtle.importKey('raw', utf8(token) as BufferSource, { name: 'HMAC', hash: 'SHA-256' }, false, [use])
}

async function transcript({ trustDomain, csr }: ProofTerms, madeAt: EpochSeconds): Promise<Uint8Array<ArrayBuffer>> {
  return utf8([LABEL, trustDomain, madeAt, base64Url(await sha256(csr))].join('\n')) as Uint8Array<ArrayBuffer>
}
