import { StatusError } from '../core/error.ts'
import { decodePunycode } from './punycode.ts'

/**
 * Checks a DNS name that goes into a certificate: ASCII, at most one wildcard and that as first label, labels of letters, digits, hyphens
 * and underscores. SPIRE takes any other character in it, and spaces around it: they are part of no name, but may mean something to who
 * reads the certificate.
 * @throws StatusError INVALID_ARGUMENT with SPIRE's texts
 * @see RFC 1123 2.1, RFC 5891 4.2.3
 */
export function requireDnsName(name: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII includes them.
  if (!/^[\x00-\x7f]*$/.test(name)) throw invalid('name must be ascii')
  const stars = name.split('*').length - 1
  if (stars > 1) throw invalid('too many wildcards')
  if (stars === 1 && !name.startsWith('*.')) throw invalid('wildcard must be first label')
  requireLabels(stars === 1 ? name.slice(2) : name)
  return name
}

/**
 * Refuses a list in which a wildcard covers another name.
 * @throws StatusError INVALID_ARGUMENT
 */
export function requireNoWildcardOverlap(names: readonly string[]): void {
  const all = new Set(names)
  for (const name of all) {
    if (name.startsWith('*')) continue
    const dot = name.indexOf('.')
    if (all.has(dot < 0 ? '*' : `*${name.slice(dot)}`)) {
      throw invalid(`name "${name}" overlaps with an existing wildcard name in the list: wildcard overlap`)
    }
  }
}

function requireLabels(domain: string): void {
  if (domain.trim() === '') throw invalid('empty or only whitespace')
  if (domain.endsWith('.')) throw invalid('domain ends with dot')
  const rune = /[^A-Za-z0-9._-]/.exec(domain)?.[0]
  if (rune !== undefined) {
    const code = rune.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')
    throw invalid(`idna error\nidna: disallowed rune U+${code}`)
  }
  const labels = domain.split('.')
  if (domain.length > 253 || labels.includes('')) throw invalid(`idna error\nidna: invalid label "${domain}"`)
  for (const label of labels) {
    if (label.length > 63 || !(label.startsWith('xn--') ? isPunycode(label) : hasGoodHyphens(label))) {
      throw invalid(`idna error\nidna: invalid label "${label}"`)
    }
  }
}

function hasGoodHyphens(label: string): boolean {
  return !/^-|-$|^..--/.test(label)
}

/** A label beyond ASCII: letters, marks and digits in the only form in which a name has them. RFC 5891, 4.2.3 */
function isPunycode(label: string): boolean {
  const text = decodePunycode(label.slice('xn--'.length)) ?? ''
  return (
    // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII includes them.
    /[^\x00-\x7f]/.test(text) &&
    /^[\p{L}\p{N}][\p{L}\p{M}\p{N}-]*$/u.test(text) &&
    hasGoodHyphens(text) &&
    text === text.toLowerCase().normalize('NFKC')
  )
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
