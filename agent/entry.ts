import type { EntryMask, Entry as WireEntry } from '../proto/spire/api/types.ts'
import type { EpochSeconds } from '../src/core/clock.ts'
import { normaliseSelectors, requireSelector, type Selector, selectorText } from '../src/core/selector.ts'
import { type SpiffeId, spiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomain, parseTrustDomainName, type TrustDomain } from '../src/core/trust-domain.ts'

/** What an agent knows of a registration entry it may serve. */
export interface AgentEntry {
  readonly id: string
  readonly spiffeId: SpiffeId
  /** `type:value` of each selector, sorted. */
  readonly selectors: readonly string[]
  readonly federatesWith: readonly TrustDomain[]
  /** Sorted. */
  readonly dnsNames: readonly string[]
  readonly admin: boolean
  readonly downstream: boolean
  readonly revisionNumber: number
  readonly storeSvid: boolean
  readonly hint: string
  readonly createdAt: EpochSeconds
  readonly disableX509SvidPrefetch: boolean
  readonly jwtSvidIncludeJti: boolean
}

/** The fields an agent asks the server for; the id always comes. */
export const ENTRY_MASK: EntryMask = {
  spiffeId: true,
  parentId: false,
  selectors: true,
  x509SvidTtl: false,
  federatesWith: true,
  admin: true,
  downstream: true,
  expiresAt: false,
  dnsNames: true,
  revisionNumber: true,
  storeSvid: true,
  jwtSvidTtl: false,
  hint: true,
  createdAt: true,
  additionalAttributes: true,
}

/**
 * Reads an entry from the server.
 *
 * @throws Error if it has no id, a bad SPIFFE ID, no selectors or a bad one: such an entry is skipped, with a warning
 */
export function parseEntry(entry: WireEntry): AgentEntry {
  if (entry.id === '') throw new Error('missing entry ID')
  if (!entry.spiffeId) throw new Error('missing SPIFFE ID')
  if (entry.selectors.length === 0) throw new Error('missing selectors')
  const selectors: Selector[] = entry.selectors.map(requireSelector)
  return {
    id: entry.id,
    spiffeId: spiffeId(parseTrustDomainName(entry.spiffeId.trustDomain), entry.spiffeId.path),
    selectors: normaliseSelectors(selectors).map(selectorText),
    federatesWith: entry.federatesWith.map(parseTrustDomain),
    dnsNames: [...entry.dnsNames].sort(),
    admin: entry.admin,
    downstream: entry.downstream,
    revisionNumber: entry.revisionNumber,
    storeSvid: entry.storeSvid,
    hint: entry.hint,
    createdAt: entry.createdAt,
    disableX509SvidPrefetch: entry.additionalAttributes?.disableX509SvidPrefetch ?? false,
    jwtSvidIncludeJti: entry.additionalAttributes?.jwtSvidIncludeJti ?? false,
  }
}

/** Whether two states of an entry are the same in all that an agent knows of it. */
export function sameEntry(a: AgentEntry, b: AgentEntry): boolean {
  return (
    a.id === b.id &&
    a.revisionNumber === b.revisionNumber &&
    a.createdAt === b.createdAt &&
    a.spiffeId === b.spiffeId &&
    a.hint === b.hint &&
    a.admin === b.admin &&
    a.downstream === b.downstream &&
    a.storeSvid === b.storeSvid &&
    a.disableX509SvidPrefetch === b.disableX509SvidPrefetch &&
    a.jwtSvidIncludeJti === b.jwtSvidIncludeJti &&
    sameTexts(a.selectors, b.selectors) &&
    sameTexts(a.federatesWith, b.federatesWith) &&
    sameTexts(a.dnsNames, b.dnsNames)
  )
}

export function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, index) => text === b[index])
}

/**
 * Leaves one entry of those that share a non-empty hint: the oldest, and of equally old ones the one with the smaller id.
 * Order is kept.
 *
 * @param ignored called with each entry left out
 */
export function dropDuplicateHints<T>(
  items: readonly T[],
  entryOf: (item: T) => AgentEntry,
  ignored: (entry: AgentEntry) => void,
): readonly T[] {
  const chosen = new Map<string, AgentEntry>()
  let duplicates = false
  for (const item of items) {
    const entry = entryOf(item)
    if (entry.hint === '') continue
    const rival = chosen.get(entry.hint)
    if (rival) duplicates = true
    if (!rival || isOlder(entry, rival)) chosen.set(entry.hint, entry)
  }
  if (!duplicates) return items
  return items.filter((item) => {
    const entry = entryOf(item)
    const stays = entry.hint === '' || chosen.get(entry.hint) === entry
    if (!stays) ignored(entry)
    return stays
  })
}

function isOlder(a: AgentEntry, b: AgentEntry): boolean {
  return a.createdAt !== b.createdAt ? a.createdAt < b.createdAt : a.id < b.id
}
