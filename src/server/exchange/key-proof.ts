import { fromBase64Url } from '../../core/base64.ts'
import type { EpochSeconds } from '../../core/clock.ts'
import { utf8 } from '../../core/der.ts'
import { StatusError } from '../../core/error.ts'
import { jwkThumbprint, spkiOfJwk } from '../../core/jwk.ts'
import { fitsJws, JWS_ALGORITHMS } from '../../core/jwt-svid.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import { parseWitKey, type WitKey, witKeyOf } from '../../core/wit-svid.ts'
import { sha256 } from './subject-token.ts'

/** The `typ` of a proof. */
const KEY_PROOF_TYPE = 'key-proof+jwt'

const MAX_LENGTH = 8 * 1024
const LEEWAY_SECONDS = 30
const MAX_AGE_SECONDS = 5 * 60

/** A key whose possession was proved. */
export interface ProvenKey {
  /** As a WIT-SVID carries it. */
  readonly jwk: WitKey
  readonly thumbprint: string
}

/**
 * Verifies the proof that whoever sends a token holds a key. It is a JWS by that key, in the manner of RFC 9449: the header has the public key
 * as `jwk`, the claims say for whom (`aud`), when (`iat`) and with which token (`ath`), so that it proves nothing anywhere else.
 *
 * @param expected the token it goes with and the audience of its source
 * @throws StatusError UNAUTHENTICATED
 */
export async function verifyKeyProof(
  proof: string,
  expected: {
    readonly token: string
    readonly audience: string
    readonly at: EpochSeconds
    readonly verify: VerifySignature
  },
): Promise<ProvenKey> {
  const parts = proof.split('.')
  if (proof.length > MAX_LENGTH || parts.length !== 3) throw refused('the key proof is malformed')
  const [header, payload, signature] = parts as [string, string, string]
  const { alg, typ, jwk, crit } = jsonObject(header)
  const { aud, iat, ath } = jsonObject(payload)
  if (typeof typ !== 'string' || typ.toLowerCase() !== KEY_PROOF_TYPE) throw refused('the key proof is of another type')
  if (crit !== undefined) throw refused('the key proof has critical headers that are not known')
  if (typeof alg !== 'string' || !Object.hasOwn(JWS_ALGORITHMS, alg))
    throw refused('the key proof has an algorithm that is not taken')
  const key = publicKeyOf(jwk)
  if (!fitsJws(key.info, alg)) throw refused('the algorithm of the key proof is not one of its key')
  if (aud !== expected.audience) throw refused('the key proof is for another audience')
  if (typeof iat !== 'number' || !Number.isFinite(iat)) throw refused('the key proof does not say when it was made')
  if (iat - LEEWAY_SECONDS > expected.at || iat + MAX_AGE_SECONDS + LEEWAY_SECONDS < expected.at)
    throw refused('the key proof is too old, or of the future')
  if (ath !== (await sha256(expected.token))) throw refused('the key proof is for another token')
  const input = utf8(`${header}.${payload}`)
  if (!(await expected.verify(key.info, JWS_ALGORITHMS[alg]!, input, bytesOf(signature))))
    throw refused('the signature of the key proof does not verify')
  return { jwk: witKey(key.info, alg), thumbprint: await jwkThumbprint(key.info.spki) }
}

function publicKeyOf(jwk: unknown) {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) throw refused('the key proof has no jwk')
  for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']) {
    if (Object.hasOwn(jwk, secret)) throw refused('the key proof has a private key in it')
  }
  try {
    return { info: parseWitKey(spkiOfJwk(jwk as Readonly<Record<string, unknown>>)) }
  } catch {
    throw refused('the jwk of the key proof is none that is taken')
  }
}

function witKey(key: Parameters<typeof witKeyOf>[0], algorithm: string): WitKey {
  try {
    return witKeyOf(key, algorithm)
  } catch {
    throw refused('the jwk of the key proof is none that is taken')
  }
}

function jsonObject(segment: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytesOf(segment)))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // Said below.
  }
  throw refused('the key proof is malformed')
}

function bytesOf(segment: string): Uint8Array {
  try {
    return fromBase64Url(segment)
  } catch {
    throw refused('the key proof is malformed')
  }
}

function refused(message: string): StatusError {
  return new StatusError('UNAUTHENTICATED', message)
}
