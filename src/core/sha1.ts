/**
 * SHA-1 of a short message, at once.
 *
 * Only for key identifiers (RFC 5280 4.2.1.2, method 1), where no strength is needed. Web Crypto has it too, but asynchronous: a
 * trip to its thread pool costs more than signing does, and this is computed for every certificate.
 */
export function sha1(message: Uint8Array): Uint8Array {
  const blocks = ((message.length + 8) >> 6) + 1
  const words = new Uint32Array(blocks * 16)
  for (let index = 0; index < message.length; index += 1)
    words[index >> 2]! |= message[index]! << (24 - (index & 3) * 8)
  words[message.length >> 2]! |= 0x80 << (24 - (message.length & 3) * 8)
  words[blocks * 16 - 1] = message.length * 8
  let [h0, h1, h2, h3, h4] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]
  const schedule = new Int32Array(80)
  for (let block = 0; block < blocks; block += 1) {
    let [a, b, c, d, e] = [h0, h1, h2, h3, h4]
    for (let round = 0; round < 80; round += 1) {
      if (round < 16) schedule[round] = words[block * 16 + round]!
      else {
        const mixed = schedule[round - 3]! ^ schedule[round - 8]! ^ schedule[round - 14]! ^ schedule[round - 16]!
        schedule[round] = (mixed << 1) | (mixed >>> 31)
      }
      const [f, k] =
        round < 20
          ? [(b & c) | (~b & d), 0x5a827999]
          : round < 40
            ? [b ^ c ^ d, 0x6ed9eba1]
            : round < 60
              ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc]
              : [b ^ c ^ d, 0xca62c1d6]
      const next = (((a << 5) | (a >>> 27)) + f + e + k + schedule[round]!) | 0
      e = d
      d = c
      c = (b << 30) | (b >>> 2)
      b = a
      a = next
    }
    h0 = (h0 + a) | 0
    h1 = (h1 + b) | 0
    h2 = (h2 + c) | 0
    h3 = (h3 + d) | 0
    h4 = (h4 + e) | 0
  }
  const digest = new Uint8Array(20)
  const view = new DataView(digest.buffer)
  for (const [index, value] of [h0, h1, h2, h3, h4].entries()) view.setInt32(index * 4, value)
  return digest
}
