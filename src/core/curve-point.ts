import { hex } from './der.ts'
import type { CurveName } from './public-key.ts'

/** The prime of the field and the constant b of y² = x³ - 3x + b. FIPS 186-4 D.1.2 */
const CURVES: Readonly<Record<CurveName, { readonly p: bigint; readonly b: bigint }>> = {
  'P-256': {
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
  },
  'P-384': {
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
  },
  'P-521': {
    p: 2n ** 521n - 1n,
    b: 0x051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00n,
  },
}

/**
 * Whether an uncompressed point (0x04, x, y) lies on its curve. Public keys that come with a signature need no such look:
 * whoever verifies it refuses them; a key that is only stated does.
 */
export function isOnCurve(curve: CurveName, point: Uint8Array): boolean {
  const { p, b } = CURVES[curve]
  const half = (point.length - 1) / 2
  const x = numberOf(point.subarray(1, 1 + half))
  const y = numberOf(point.subarray(1 + half))
  return x < p && y < p && (y * y - (x * x * x - 3n * x + b)) % p === 0n
}

function numberOf(bytes: Uint8Array): bigint {
  return BigInt(`0x0${hex(bytes)}`)
}
