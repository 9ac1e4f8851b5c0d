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

/** Go's words for the alerts that OpenSSL names otherwise. */
const ALERTS: Readonly<Record<string, string>> = {
  BAD_RECORD_MAC: 'bad record MAC',
  CERTIFICATE_REVOKED: 'revoked certificate',
  CERTIFICATE_EXPIRED: 'expired certificate',
  CERTIFICATE_UNKNOWN: 'unknown certificate',
  UNKNOWN_CA: 'unknown certificate authority',
  DECODE_ERROR: 'error decoding message',
  DECRYPT_ERROR: 'error decrypting message',
  PROTOCOL_VERSION: 'protocol version not supported',
  INSUFFICIENT_SECURITY: 'insufficient security level',
}

/** How far the last attempt to connect came, as our own TLS connector saw it. */
export interface LastHandshake {
  /** Undefined: TCP; then TLS, and once that is done, the server's first word of HTTP/2. */
  stage?: 'tls' | 'preface' | undefined
  /** Why it failed; undefined: it did not. */
  error?: Error | undefined
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
  if (handshakeError !== undefined && details.includes(handshakeError)) return handshakeErrorText(handshakeError)
  // Most of it is sentences of grpc-js, with a full stop that is none of the address.
  const failed = /connect (E[A-Z]+)(?: (\S*[^\s.]))?/.exec(details)
  if (failed !== null) {
    const reason = REASONS[failed[1]!] ?? failed[1]!
    const where = target.startsWith('unix:')
      ? `unix ${target.slice('unix:'.length)}`
      : `tcp ${failed[2] ?? addressOf(target)}`
    return dialErrorText(`${where}: connect: ${reason}`)
  }
  // grpc-js keeps to itself what the resolver said.
  if (details.startsWith('Name resolution failed'))
    return dialErrorText(`tcp: lookup ${addressOf(target).replace(/:\d+$/, '')}: no such host`)
  const began = /(?:No connection established(?:\. Last error: |$)|^Connection closed before )(.*)/s.exec(details)
  if (began === null) return undefined
  const reset = /ECONNRESET/.test(began[1]!)
  return `connection error: desc = "error reading server preface: ${reset ? 'connection reset by peer' : 'EOF'}"`
}

/**
 * grpc-go's text for an attempt to connect that took too long.
 * @param address where to, `127.0.0.1:8081`
 */
export function dialTimeoutText(address: string, handshake: LastHandshake): string {
  switch (handshake.stage) {
    case undefined:
      return dialErrorText(`tcp ${address}: i/o timeout`)
    case 'tls':
      return handshakeErrorText('context deadline exceeded')
    case 'preface':
      return 'connection error: desc = "failed to receive server preface within timeout"'
  }
}

/** `host:port` of a `dns:` target. */
export function addressOf(target: string): string {
  return target.replace(/^dns:(\/\/[^/]*\/)?/, '')
}

/** Go's text for what Node says of a TLS handshake that failed. */
export function tlsErrorText(error: Error, socket: { local: string; remote: string }): string {
  const { code = '', syscall } = error as NodeJS.ErrnoException
  const alert = /^ERR_SSL_(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?([A-Z_]+)$/.exec(code)
  if (alert !== null) return `remote error: tls: ${ALERTS[alert[1]!] ?? alert[1]!.toLowerCase().replaceAll('_', ' ')}`
  // An answer in plain text, of a proxy or of a web server.
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG')
    return 'tls: first record does not look like a TLS handshake'
  const reason = REASONS[code]
  if (reason !== undefined && (syscall === 'read' || syscall === 'write'))
    return `${syscall} tcp ${socket.local}->${socket.remote}: ${syscall}: ${reason}`
  // Node's sentence for a connection that ended before TLS was done.
  if (code === 'ECONNRESET') return 'EOF'
  return error.message
}

function dialErrorText(what: string): string {
  return `connection error: desc = "transport: Error while dialing: dial ${what}"`
}

function handshakeErrorText(error: string): string {
  return `connection error: desc = "transport: authentication handshake failed: ${error}"`
}
