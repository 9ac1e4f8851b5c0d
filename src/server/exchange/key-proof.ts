import { base64Url } from '../../core/base64.ts'
import type { EpochSeconds } from '../../core/clock.ts'
import { utf8 } from '../../core/der.ts'
import { StatusError } from '../../core/error.ts'
import { isJsonObject } from '../../core/json-object.ts'
import { jwkThumbprint, spkiOfJwk } from '../../core/jwk.ts'
import { decodeSegment, fitsJws, JWS_ALGORITHMS, jsonObject } from '../../core/jwt-svid.ts'
import type { PublicKeyInfo, VerifySignature } from '../../core/public-key.ts'
import { sha256 } from '../../core/sha256.ts'
import { parseWitKey, type WitKey, witKeyOf } from '../../core/wit-svid.ts'

/** The `typ` of a proof. */
const KEY_PROOF_TYPE = 'key-proof+jwt'

const MAX_LENGTH = 8 * 1024
const LEEWAY_SECONDS = 30
const MAX_AGE_SECONDS = 5 * 60
const MALFORMED = 'the key proof is malformed'
const NOT_TAKEN = 'the jwk of the key proof is none that is taken'

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
  if (proof.length > MAX_LENGTH || parts.length !== 3) throw refused(MALFORMED)
  const [header, payload, signature] = parts as [string, string, string]
  const { alg, typ, jwk, crit } = orRefused(MALFORMED, () => jsonObject(header))
  const { aud, iat, ath } = orRefused(MALFORMED, () => jsonObject(payload))
  if (typeof typ !== 'string' || typ.toLowerCase() !== KEY_PROOF_TYPE) throw refused('the key proof is of another type')
  if (crit !== undefined) throw refused('the key proof has critical headers that are not known')
  if (typeof alg !== 'string' || !Object.hasOwn(JWS_ALGORITHMS, alg))
    throw refused('the key proof has an algorithm that is not taken')
  const key = publicKeyOf(jwk)
  if (!fitsJws(key, alg)) throw refused('the algorithm of the key proof is not one of its key')
  if (aud !== expected.audience) throw refused('the key proof is for another audience')
  if (typeof iat !== 'number' || !Number.isFinite(iat)) throw refused('the key proof does not say when it was made')
  if (iat - LEEWAY_SECONDS > expected.at || iat + MAX_AGE_SECONDS + LEEWAY_SECONDS < expected.at)
    throw refused('the key proof is too old, or of the future')
  if (ath !== base64Url(await sha256(utf8(expected.token)))) throw refused('the key proof is for another token')
  const input = utf8(`${header}.${payload}`)
  const signed = orRefused(MALFORMED, () => decodeSegment(signature))
  if (!(await expected.verify(key, JWS_ALGORITHMS[alg]!, input, signed)))
    throw refused('the signature of the key proof does not verify')
  return { jwk: orRefused(NOT_TAKEN, () => witKeyOf(key, alg)), thumbprint: await jwkThumbprint(key.spki) }
}

function publicKeyOf(jwk: unknown): PublicKeyInfo {
  if (!isJsonObject(jwk)) throw refused('the key proof has no jwk')
  for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']) {
    if (Object.hasOwn(jwk, secret)) throw refused('the key proof has a private key in it')
  }
  return orRefused(NOT_TAKEN, () => parseWitKey(spkiOfJwk(jwk)))
}

function orRefused<T>(message: string, read: () => T): T {
  try {
    return read()
  } catch {
    throw refused(message)
  }
}

function refused(message: string): StatusError {
  return new StatusError('UNAUTHENTICATED', message)
}
