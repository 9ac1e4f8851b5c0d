import { lookup } from 'node:dns/promises'
import type { AddressInfo, Server, Socket } from 'node:net'
import { isIP } from 'node:net'
import { errorMessage } from '../core/error.ts'
import { parseIpAddress } from '../core/ip-address.ts'

/** An address to listen on that means all of this machine's. */
const ANY: ReadonlySet<string> = new Set(['', '0.0.0.0', '::'])
const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'address already in use',
  EACCES: 'permission denied',
  EADDRNOTAVAIL: 'cannot assign requested address',
  // Deno's word for the same: the address itself was looked at before.
  EINVAL: 'cannot assign requested address',
}
const NO_IPV6: ReadonlySet<string | undefined> = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'])

/**
 * Listens where Go's `net.Listen("tcp", ...)` does: `0.0.0.0`, `::` and no host mean every address of both families; a name means its
 * first IPv4 address, else its first.
 * @param host without brackets
 * @returns where it listens, as Go writes it: `127.0.0.1:8081`, `[::]:8081`
 * @throws Error with Go's text, `listen tcp 127.0.0.1:8081: bind: address already in use`
 */
export async function listenTcp(server: Server, host: string, port: number): Promise<AddressInfo & { text: string }> {
  try {
    await listenAt(server, host, port)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    const reason =
      code === 'ENOTFOUND' ? `lookup ${host}: no such host` : `bind: ${REASONS[code] ?? errorMessage(error)}`
    throw new Error(`listen tcp ${hostPort(host, port)}: ${reason}`, { cause: error })
  }
  const bound = server.address() as AddressInfo
  return { ...bound, text: hostPort(bound.address, bound.port) }
}

async function listenAt(server: Server, host: string, port: number): Promise<void> {
  if (!ANY.has(host)) return listen(server, await addressOf(host), port)
  try {
    // `::` takes IPv4 clients as well, unless the kernel has no IPv6.
    await listen(server, '::', port)
  } catch (error) {
    if (!NO_IPV6.has((error as NodeJS.ErrnoException).code)) throw error
    await listen(server, '0.0.0.0', port)
  }
}

/** The address of whoever connected, without port; an IPv4 client of a listener for both families has its IPv4 address. Empty if unknown. */
export function clientAddress({ remoteAddress = '' }: Pick<Socket, 'remoteAddress'>): string {
  return remoteAddress.startsWith('::ffff:') && remoteAddress.includes('.') ? remoteAddress.slice(7) : remoteAddress
}

/** Whom a bound takes for one: an IPv4 address, or the /64 that one IPv6 host has to itself. */
export function networkOf(address: string): string {
  const bytes = address.includes(':') ? parseIpAddress(address.replace(/%.*$/, '')) : undefined
  return bytes?.length === 16 ? `${Buffer.from(bytes.subarray(0, 8)).toString('hex')}::/64` : address
}

/** `host:port`, with brackets around an IPv6 address. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    // A thousand agents may come at once; the default backlog is 511.
    server.listen({ host, port, backlog: 4096 }, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
}

async function addressOf(host: string): Promise<string> {
  if (isIP(host) !== 0) return host
  const found = await lookup(host, { all: true })
  return (found.find(({ family }) => family === 4) ?? found[0])!.address
}
