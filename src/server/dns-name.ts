import { StatusError } from '../core/error.ts'

/**
 * Checks a DNS name that goes into a certificate: ASCII, at most one wildcard and that as first label, strict labels. Spaces around
 * a name are refused: SPIRE leaves them out while it looks, and then keeps them.
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
  for (const label of domain.split('.')) {
    const lower = label.toLowerCase()
    const rune = /[^a-z0-9-]/.exec(lower)?.[0]
    if (rune !== undefined) {
      const code = rune.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')
      throw invalid(`idna error\nidna: disallowed rune U+${code}`)
    }
    if (label === '' || label.length > 63 || /^-|-$|^..--/.test(lower)) {
      throw invalid(`idna error\nidna: invalid label "${lower}"`)
    }
  }
  if (domain.length > 253) throw invalid(`idna error\nidna: invalid label "${domain.toLowerCase()}"`)
  if (domain !== domain.toLowerCase()) {
    throw invalid(
      `input domain name "${domain}" does not match idna output "${domain.toLowerCase()}": label mismatch after idna`,
    )
  }
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
