// Filled and used up within one call, which never waits.
const schedule = new Int32Array(80)

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
  let h0 = 0x67452301
  let h1 = 0xefcdab89 | 0
  let h2 = 0x98badcfe | 0
  let h3 = 0x10325476
  let h4 = 0xc3d2e1f0 | 0
  for (let block = 0; block < blocks; block += 1) {
    let a = h0
    let b = h1
    let c = h2
    let d = h3
    let e = h4
    for (let round = 0; round < 80; round += 1) {
      let word: number
      if (round < 16) word = words[block * 16 + round]! | 0
      else {
        const mixed = schedule[round - 3]! ^ schedule[round - 8]! ^ schedule[round - 14]! ^ schedule[round - 16]!
        word = (mixed << 1) | (mixed >>> 31)
      }
      schedule[round] = word
      let mix: number
      if (round < 20) mix = ((b & c) | (~b & d)) + 0x5a827999
      else if (round < 40) mix = (b ^ c ^ d) + 0x6ed9eba1
      else if (round < 60) mix = ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
      else mix = (b ^ c ^ d) + 0xca62c1d6
      const next = (((a << 5) | (a >>> 27)) + mix + e + word) | 0
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
  view.setInt32(0, h0)
  view.setInt32(4, h1)
  view.setInt32(8, h2)
  view.setInt32(12, h3)
  view.setInt32(16, h4)
  return digest
}
