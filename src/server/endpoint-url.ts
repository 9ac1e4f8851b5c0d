import { utf8 } from '../core/der.ts'
import { StatusError } from '../core/error.ts'

// What may stand in each part of a URL as Go writes it: other bytes become %XX.
const IN_PATH = /[A-Za-z0-9\-_.~$&+,/:;=@]/
const IN_FRAGMENT = /[A-Za-z0-9\-_.~$&+,/:;=@?!()*]/
const IN_HOST = /[A-Za-z0-9\-_.~!"$&'()*+,:;<=>[\]]/
/** What may stand there besides, where it came so. */
const AS_IT_CAME = /[!$&'()*+,;=:@[\]%]/

/**
 * Reads the URL of a bundle endpoint as SPIRE does, which keeps it as Go writes it again.
 * @returns the scheme in lower case; path, fragment and host with %XX where it has to be
 * @throws StatusError INVALID_ARGUMENT
 * @see RFC 3986; net/url of Go 1.26
 */
export function parseEndpointUrl(text: string): string {
  const hash = text.indexOf('#')
  const url = hash < 0 ? text : text.slice(0, hash)
  const fragment = hash < 0 ? '' : text.slice(hash + 1)
  const unparsed = (what: string) =>
    invalid(`failed to parse bundle endpoint URL: parse ${JSON.stringify(url)}: ${what}`)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  if (/[\x00-\x1f\x7f]/.test(url)) throw unparsed('net/url: invalid control character in URL')
  const [, scheme = '', rest = ''] = /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(.*)$/s.exec(url)!
  if (rest.startsWith(':') && scheme === '') throw unparsed('missing protocol scheme')
  const query = rest.indexOf('?')
  const hierarchy = query < 0 ? rest : rest.slice(0, query)
  if (scheme === '' && /^[^/]*:/.test(hierarchy)) throw unparsed('first path segment in URL cannot contain colon')
  const [, authority = '', path = ''] = /^(?:\/\/([^/]*))?(.*)$/s.exec(hierarchy)!
  const at = authority.lastIndexOf('@')
  const host = parseHost(authority.slice(at + 1), unparsed)
  for (const part of [path, fragment]) {
    const wrong = /%(?![0-9A-Fa-f]{2}).{0,2}/su.exec(part)?.[0]
    if (wrong !== undefined) throw unparsed(`invalid URL escape ${JSON.stringify(wrong)}`)
  }
  if (scheme.toLowerCase() !== 'https') throw invalid('bundle endpoint URL must use the https scheme')
  if (host === '') throw invalid('bundle endpoint URL must specify the host')
  if (at >= 0) throw invalid('bundle endpoint URL must not contain user info')
  const ending = fragment === '' ? '' : `#${encoded(fragment, IN_FRAGMENT)}`
  return `https://${host}${encoded(path, IN_PATH)}${query < 0 ? '' : rest.slice(query)}${ending}`
}

function parseHost(host: string, unparsed: (what: string) => StatusError): string {
  const [, literal, port] = host.startsWith('[')
    ? (/^\[([^\]]*)\](.*)$/s.exec(host) ?? [])
    : ['', undefined, host.includes(':') ? host.slice(host.indexOf(':')) : '']
  if (port === undefined) throw unparsed("missing ']' in host")
  if (!/^(?::\d*)?$/.test(port)) throw unparsed(`invalid port ${JSON.stringify(port)} after host`)
  if (literal !== undefined) {
    const [address, ...zone] = literal.split('%25')
    if (!URL.canParse(`https://[${address}]/`) || zone.length > 1 || !/^[A-Za-z0-9._~-]*$/.test(zone[0] ?? '')) {
      throw unparsed('invalid host')
    }
    return host
  }
  if (host.includes('[')) throw unparsed('invalid IP-literal')
  const wrong = /%(?!25|[89A-Fa-f][0-9A-Fa-f]).{0,2}/su.exec(host)?.[0]
  if (wrong !== undefined) throw unparsed(`invalid URL escape ${JSON.stringify(wrong)}`)
  for (const character of host) {
    if (character < '\x80' && character !== '%' && !IN_HOST.test(character)) {
      throw unparsed(`invalid character ${JSON.stringify(character)} in host name`)
    }
  }
  return escaped(unescaped(host), IN_HOST)
}

/** As it came, if all of it may stand there; else written anew as a whole. */
function encoded(text: string, allowed: RegExp): string {
  for (const character of text) {
    if (!allowed.test(character) && !AS_IT_CAME.test(character)) return escaped(unescaped(text), allowed)
  }
  return text
}

function unescaped(text: string): number[] {
  return text
    .split(/(%[0-9A-Fa-f]{2})/)
    .flatMap((part, index) => (index % 2 === 1 ? [Number.parseInt(part.slice(1), 16)] : [...utf8(part)]))
}

function escaped(bytes: readonly number[], allowed: RegExp): string {
  return bytes
    .map((byte) => {
      const character = String.fromCharCode(byte)
      return byte < 0x80 && allowed.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
