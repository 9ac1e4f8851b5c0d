const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset by peer',
  EACCES: 'permission denied',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network is unreachable',
  ETIMEDOUT: 'connection timed out',
  ENOTSOCK: 'socket operation on non-socket',
}

/**
 * grpc-go's text for a connection that could not be made, from what grpc-js says of it. Scripts and agents look for parts of
 * it (`no such file or directory`, `x509: certificate signed by unknown authority`).
 *
 * @param target as given to the channel; the `unix:` form decides how many slashes the text has
 * @param handshakeError what our own TLS connector said last, if that is where it failed
 * @returns undefined if the error is not about making a connection
 */
export function connectionErrorText(details: string, target: string, handshakeError?: string): string | undefined {
  if (handshakeError !== undefined && details.includes(handshakeError)) {
    return `connection error: desc = "transport: authentication handshake failed: ${handshakeError}"`
  }
  const failed = /connect (E[A-Z]+) ?(\S*)/.exec(details)
  if (failed !== null) {
    const reason = REASONS[failed[1]!] ?? failed[1]!
    const where = target.startsWith('unix:') ? `unix ${target.slice('unix:'.length)}` : `tcp ${failed[2]}`
    return `connection error: desc = "transport: Error while dialing: dial ${where}: connect: ${reason}"`
  }
  const name = /getaddrinfo (E[A-Z_]+) (\S+)/.exec(details)
  if (name !== null) return `name resolver error: produced zero addresses: lookup ${name[2]}: no such host`
  if (details.startsWith('Name resolution failed')) return `name resolver error: ${details}`
  return undefined
}
