import { DerError, DerReader, readInteger, sequence, TAG, unsignedInteger } from './der.ts'

/** Turns r||s (IEEE P1363: Web Crypto, JWS) into ECDSA-Sig-Value (X.509, KMS). RFC 3279 2.2.3. */
export function ecdsaRawToDer(raw: Uint8Array): Uint8Array {
  const half = raw.length / 2
  return sequence(unsignedInteger(raw.subarray(0, half)), unsignedInteger(raw.subarray(half)))
}

/**
 * Turns ECDSA-Sig-Value into r||s.
 * @param coordinateBytes 32, 48 or 66 for P-256, P-384 and P-521
 * @throws DerError if it is malformed or a number does not fit
 */
export function ecdsaDerToRaw(der: Uint8Array, coordinateBytes: number): Uint8Array {
  const outer = new DerReader(der)
  const inner = outer.enter(TAG.sequence)
  outer.end()
  const raw = new Uint8Array(coordinateBytes * 2)
  for (const end of [coordinateBytes, coordinateBytes * 2]) {
    let number = readInteger(inner.next())
    if (number[0]! >= 0x80) throw new DerError('ECDSA signature has a negative number')
    if (number[0] === 0) number = number.subarray(1)
    if (number.length > coordinateBytes) throw new DerError('ECDSA signature has a number that is too large')
    raw.set(number, end - number.length)
  }
  inner.end()
  return raw
}
