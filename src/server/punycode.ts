const BASE = 36
const T_MIN = 1
const T_MAX = 26
const SKEW = 38
const DAMP = 700
const DIGITS = 'abcdefghijklmnopqrstuvwxyz0123456789'

/**
 * Decodes what follows `xn--` in a label.
 * @returns undefined for what no encoder writes
 * @see RFC 3492, 6.2
 */
export function decodePunycode(encoded: string): string | undefined {
  const hyphen = encoded.lastIndexOf('-')
  const text = [...encoded.slice(0, Math.max(0, hyphen))]
  let codePoint = 128
  let bias = 72
  let at = 0
  let position = hyphen + 1
  while (position < encoded.length) {
    const before = at
    let weight = 1
    for (let k = BASE; ; k += BASE) {
      const digit = DIGITS.indexOf(encoded[position++] ?? ' ')
      if (digit < 0) return undefined
      at += digit * weight
      const threshold = Math.min(T_MAX, Math.max(T_MIN, k - bias))
      if (digit < threshold) break
      weight *= BASE - threshold
      if (weight > 2 ** 31) return undefined
    }
    const length = text.length + 1
    bias = adapted(at - before, length, before === 0)
    codePoint += Math.floor(at / length)
    if (codePoint > 0x10ffff) return undefined
    at %= length
    text.splice(at++, 0, String.fromCodePoint(codePoint))
  }
  return text.join('')
}

function adapted(delta: number, length: number, isFirst: boolean): number {
  let left = Math.floor(delta / (isFirst ? DAMP : 2))
  left += Math.floor(left / length)
  let k = 0
  for (; left > ((BASE - T_MIN) * T_MAX) / 2; k += BASE) left = Math.floor(left / (BASE - T_MIN))
  return k + Math.floor(((BASE - T_MIN + 1) * left) / (left + SKEW))
}
