import type { EntryFields } from '../core/entry.ts'
import { StatusError } from '../core/error.ts'
import { normaliseSelectors, selectorText } from '../core/selector.ts'
import { uniqueViolation } from './database.ts'

/** 9999-12-31T23:59:59Z */
const LAST_SECOND = 253_402_300_799

/**
 * Checks what the database itself would not: SPIRE's rules on a stored entry, in its order.
 *
 * @param fields for an update only the given ones are looked at
 * @throws StatusError INVALID_ARGUMENT `datastore-validation: ...`; ALREADY_EXISTS for a selector or DNS name given twice
 */
export function validateEntry(fields: Partial<EntryFields> & { readonly id?: string }): void {
  const { selectors } = fields
  if (selectors?.length === 0) throw invalid('missing selector list')
  requireOneType(fields)
  if (fields.id !== undefined && new TextEncoder().encode(fields.id).length > 255) throw invalid('entry ID too long')
  if (fields.id && !/^[A-Za-z0-9_.-]+$/.test(fields.id)) throw invalid('entry ID contains invalid characters')
  if (fields.spiffeId === '') throw invalid('missing SPIFFE ID')
  if (fields.x509SvidTtlSeconds !== undefined && fields.x509SvidTtlSeconds < 0) throw invalid('X509SvidTtl is not set')
  if (fields.jwtSvidTtlSeconds !== undefined && fields.jwtSvidTtlSeconds < 0) throw invalid('JwtSvidTtl is not set')
  const { expiresAt = 0 } = fields
  // SPIRE takes any number; such an entry would never be pruned, and no text says a year of five digits.
  if (!Number.isInteger(expiresAt) || expiresAt < 0 || expiresAt > LAST_SECOND) throw invalid('expiry is out of range')
  if (fields.storeSvid && fields.disableX509SvidPrefetch) {
    const text = 'datastore-validation: specifying cache behaviour is incompatible with storable SVIDs'
    throw new StatusError('INVALID_ARGUMENT', text)
  }
  if (selectors && new Set(selectors.map(selectorText)).size < selectors.length) {
    throw uniqueViolation('selectors.registered_entry_id, selectors.type, selectors.value')
  }
  if (fields.dnsNames && new Set(fields.dnsNames).size < fields.dnsNames.length) {
    throw uniqueViolation('dns_names.registered_entry_id, dns_names.value')
  }
}

/**
 * Whoever stores an SVID is told where by selectors of its own type.
 * @throws StatusError INVALID_ARGUMENT
 */
export function requireOneType({ storeSvid, selectors }: Partial<EntryFields>): void {
  if (storeSvid && selectors?.some(({ type }) => type !== selectors[0]!.type)) {
    throw invalid('selector types must be the same when store SVID is enabled')
  }
}

/**
 * A number that entries with the same SPIFFE ID, parent and selectors share (53 bits). Not cryptographic: equal numbers
 * are compared afterwards, so a collision costs a comparison. The order of the selectors makes no difference.
 */
export function fingerprintOf(entry: Pick<EntryFields, 'spiffeId' | 'parentId' | 'selectors'>): number {
  let text = `${entry.spiffeId}\n${entry.parentId}`
  for (const selector of normaliseSelectors(entry.selectors)) text += `\n${selector.type}:${selector.value}`
  let high = 0xdeadbeef
  let low = 0x41c6ce57
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    high = Math.imul(high ^ unit, 2654435761)
    low = Math.imul(low ^ unit, 1597334677)
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909)
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909)
  return 4294967296 * (2097151 & low) + (high >>> 0)
}

function invalid(text: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', `datastore-validation: invalid registration entry: ${text}`)
}
