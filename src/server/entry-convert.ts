import type * as wire from '../../proto/spire/api/types.ts'
import { utf8 } from '../core/der.ts'
import type { Entry, EntryFields } from '../core/entry.ts'
import { StatusError } from '../core/error.ts'
import { requireSelector } from '../core/selector.ts'
import { requireMember, requireWorkloadId } from '../core/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../core/trust-domain.ts'
import { idFromWire, idToWire, prefixed } from './convert.ts'
import { requireDnsName } from './dns-name.ts'

/** Bytes, whatever the text says. */
const MAX_HINT_LENGTH = 1024

/** An entry as its message; without mask, all of it. */
export function entryToWire(entry: Entry, mask?: wire.EntryMask): wire.Entry {
  return {
    id: entry.id,
    spiffeId: !mask || mask.spiffeId ? idToWire(entry.spiffeId) : undefined,
    parentId: !mask || mask.parentId ? idToWire(entry.parentId) : undefined,
    selectors: !mask || mask.selectors ? (entry.selectors as wire.Selector[]) : [],
    x509SvidTtl: !mask || mask.x509SvidTtl ? entry.x509SvidTtlSeconds : 0,
    federatesWith: !mask || mask.federatesWith ? (entry.federatesWith as readonly string[] as string[]) : [],
    admin: !mask || mask.admin ? entry.admin : false,
    downstream: !mask || mask.downstream ? entry.downstream : false,
    expiresAt: !mask || mask.expiresAt ? entry.expiresAt : 0,
    dnsNames: !mask || mask.dnsNames ? (entry.dnsNames as string[]) : [],
    revisionNumber: !mask || mask.revisionNumber ? entry.revisionNumber : 0,
    storeSvid: !mask || mask.storeSvid ? entry.storeSvid : false,
    jwtSvidTtl: !mask || mask.jwtSvidTtl ? entry.jwtSvidTtlSeconds : 0,
    hint: !mask || mask.hint ? entry.hint : '',
    createdAt: !mask || mask.createdAt ? entry.createdAt : 0,
    additionalAttributes: !mask || mask.additionalAttributes ? attributesToWire(entry) : undefined,
  }
}

function attributesToWire(entry: Entry): wire.Entry_AdditionalAttributes | undefined {
  const { disableX509SvidPrefetch, jwtSvidIncludeJti } = entry
  return disableX509SvidPrefetch || jwtSvidIncludeJti ? { disableX509SvidPrefetch, jwtSvidIncludeJti } : undefined
}

type Writable = Omit<wire.EntryMask, 'revisionNumber' | 'createdAt'>

/**
 * Reads the fields of an entry that a mask names, all without one, checking them in SPIRE's order. Selectors keep their
 * repetitions: the store refuses them, as SPIRE's does.
 * @throws StatusError INVALID_ARGUMENT
 */
export function entryFieldsFromWire(entry: wire.Entry, td: TrustDomain, mask?: Writable): Partial<EntryFields> {
  const fields: { -readonly [K in keyof EntryFields]?: EntryFields[K] } = {}
  if (!mask || mask.parentId) {
    fields.parentId = prefixed('invalid parent ID', () => requireMember(idFromWire(entry.parentId), td))
  }
  if (!mask || mask.spiffeId) {
    fields.spiffeId = prefixed('invalid spiffe ID', () => requireWorkloadId(idFromWire(entry.spiffeId), td))
  }
  if (!mask || mask.admin) fields.admin = entry.admin
  if (!mask || mask.dnsNames) fields.dnsNames = prefixed('invalid DNS name', () => entry.dnsNames.map(requireDnsName))
  if (!mask || mask.downstream) fields.downstream = entry.downstream
  if (!mask || mask.expiresAt) fields.expiresAt = entry.expiresAt
  if (!mask || mask.federatesWith) {
    fields.federatesWith = prefixed('invalid federated trust domain', () => entry.federatesWith.map(parseTrustDomain))
  }
  if (!mask || mask.selectors) {
    if (entry.selectors.length === 0) throw invalid('selector list is empty')
    fields.selectors = entry.selectors.map(requireSelector)
  }
  if (!mask || mask.x509SvidTtl) fields.x509SvidTtlSeconds = entry.x509SvidTtl
  if (!mask || mask.jwtSvidTtl) fields.jwtSvidTtlSeconds = entry.jwtSvidTtl
  if (!mask || mask.storeSvid) fields.storeSvid = entry.storeSvid
  if (!mask || mask.hint) {
    if (utf8(entry.hint).length > MAX_HINT_LENGTH) {
      throw invalid(`hint is too long, max length is ${MAX_HINT_LENGTH} characters`)
    }
    fields.hint = entry.hint
  }
  if (!mask || mask.additionalAttributes) {
    fields.disableX509SvidPrefetch = entry.additionalAttributes?.disableX509SvidPrefetch ?? false
    fields.jwtSvidIncludeJti = entry.additionalAttributes?.jwtSvidIncludeJti ?? false
  }
  return fields
}

function invalid(message: string): StatusError {
  return new StatusError('INVALID_ARGUMENT', message)
}
