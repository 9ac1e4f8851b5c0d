/**
 * Reads an IP address as RFC 4291 2.2 and RFC 3986 write it: 4 or 16 bytes, and 4 for an IPv4 address in IPv6 clothes
 * (`::ffff:192.0.2.1`), as dual-stack sockets name IPv4 clients.
 * @returns undefined if it is none
 */
export function parseIpAddress(text: string): Uint8Array | undefined {
  if (!text.includes(':')) return ipv4(text)
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const [head, tail] = halves.map(groups)
  if (!head || (halves.length === 2 && !tail)) return undefined
  const given = head.length + (tail?.length ?? 0)
  if (tail ? given > 14 : given !== 16) return undefined
  const bytes = new Uint8Array(16)
  bytes.set(head)
  if (tail) bytes.set(tail, 16 - tail.length)
  const mapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff
  return mapped ? bytes.slice(12) : bytes
}

/**
 * Reads a network as `192.0.2.0/24`, or one address alone.
 * @returns says of an address whether it is in the network; undefined if it is none
 */
export function parseIpNetwork(text: string): ((address: Uint8Array) => boolean) | undefined {
  const [, base, length] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const network = base === undefined ? undefined : parseIpAddress(base)
  if (!network) return undefined
  const bits = length === undefined ? network.length * 8 : Number(length)
  if (bits > network.length * 8) return undefined
  return (address) =>
    address.length === network.length &&
    address.every((byte, index) => {
      const mask = (0xff << (8 - Math.min(8, Math.max(0, bits - index * 8)))) & 0xff
      return ((byte ^ network[index]!) & mask) === 0
    })
}

/** Whether a network has addresses by which a machine calls itself. */
export function isOfThisMachine(network: string): boolean {
  const base = parseIpAddress(network.split('/')[0]!)
  const includes = parseIpNetwork(network)
  return (base?.length === 4 && base[0] === 127) || LOOPBACKS.some((address) => includes?.(address))
}

const LOOPBACKS = [Uint8Array.of(127, 0, 0, 1), new Uint8Array(16).fill(1, 15)]

/** The bytes of one side of `::`; an IPv4 address may end it. */
function groups(text: string): number[] | undefined {
  if (text === '') return []
  const bytes: number[] = []
  const parts = text.split(':')
  for (const [index, part] of parts.entries()) {
    if (index === parts.length - 1 && part.includes('.')) {
      const last = ipv4(part)
      if (!last) return undefined
      bytes.push(...last)
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      const value = Number.parseInt(part, 16)
      bytes.push(value >> 8, value & 0xff)
    } else return undefined
  }
  return bytes.length <= 16 ? bytes : undefined
}

function ipv4(text: string): Uint8Array | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  const numbers = match?.slice(1).map((part) => (/^0\d/.test(part) ? 256 : Number(part)))
  return numbers?.every((number) => number < 256) ? Uint8Array.from(numbers) : undefined
}
