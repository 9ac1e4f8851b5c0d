const CORE_VERSION = '1'
const APP_VERSION = 1
/** What a plugin that is served without TLS may write into the field of the certificate; go-plugin's figure. */
const SHORTEST_CERTIFICATE = 51

/**
 * Reads the line with which a plugin says where it listens.
 * @returns a target of gRPC
 * @throws Error with go-plugin's texts
 * @see cli-and-config.md 12.1
 */
export function readHandshake(line: string): string {
  const fields = line.trim().split('|')
  const [core, app, network, address, protocol, certificate] = fields
  if (fields.length < 4) {
    throw new Error(
      `Unrecognized remote plugin message: ${line.trim()}: it is not made for this machine, not executable by this process, or no plugin`,
    )
  }
  if (core !== CORE_VERSION) {
    throw new Error(
      `incompatible core API version with plugin. Plugin version: ${core}, Core version: ${CORE_VERSION}. To fix this, the plugin usually only needs to be recompiled.`,
    )
  }
  if (app !== String(APP_VERSION)) {
    throw new Error(`incompatible API version with plugin. Plugin version: ${app}, Client versions: [${APP_VERSION}]`)
  }
  // Absent, go-plugin takes it for net/rpc.
  if (protocol !== 'grpc') throw new Error(`unsupported plugin protocol "${protocol || 'netrpc'}". Supported: [grpc]`)
  // Nothing was said of TLS to the plugin, so nobody would have a certificate for it.
  if ((certificate ?? '').length >= SHORTEST_CERTIFICATE)
    throw new Error('the plugin asks for TLS, which was not offered')
  if (address === '') throw new Error('the plugin names no address')
  if (network === 'unix') return `unix:${address}`
  if (network === 'tcp') return `dns:///${address}`
  throw new Error(`unknown address type: ${address}`)
}
