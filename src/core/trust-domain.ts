import { StatusError } from './error.ts'

/** A valid trust domain name such as `example.org`, without scheme. */
export type TrustDomain = string & { readonly brand: 'TrustDomain' }

const NAME = /^[a-z0-9._-]+$/

/**
 * Parses a bare trust domain name.
 * @throws StatusError INVALID_ARGUMENT with go-spiffe's texts
 * @see SPIFFE-ID 2.1
 */
export function parseTrustDomainName(name: string): TrustDomain {
  if (name === '') throw new StatusError('INVALID_ARGUMENT', 'trust domain is missing')
  if (!NAME.test(name)) {
    throw new StatusError(
      'INVALID_ARGUMENT',
      'trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores',
    )
  }
  return name as TrustDomain
}

/**
 * Parses what people write for a trust domain: the bare name, or any SPIFFE ID in it.
 * @throws StatusError INVALID_ARGUMENT
 */
export function parseTrustDomain(text: string): TrustDomain {
  if (text === '') throw new StatusError('INVALID_ARGUMENT', 'trust domain is missing')
  const scheme = text.indexOf('://')
  if (scheme < 0) return parseTrustDomainName(text)
  if (text.slice(0, scheme) !== 'spiffe') throw new StatusError('INVALID_ARGUMENT', 'scheme is missing or invalid')
  const rest = text.slice(scheme + 3)
  const slash = rest.indexOf('/')
  return parseTrustDomainName(slash < 0 ? rest : rest.slice(0, slash))
}
