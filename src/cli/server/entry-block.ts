import type { Entry, Status } from '../../../proto/spire/api/types.ts'
import { codeName } from '../failure.ts'
import { idText } from '../output.ts'
import { utcTimeText } from '../time.ts'

/** An entry for reading: a line a value, an empty line at the end. */
export function entryBlock(entry: Entry): string {
  let out = ''
  const line = (label: string, value: string | number | boolean): void => {
    out += `${label.padEnd(24)}: ${value}\n`
  }
  line('Entry ID', entry.id === '' ? '(none)' : entry.id)
  line('SPIFFE ID', idText(entry.spiffeId))
  line('Parent ID', idText(entry.parentId))
  line('Revision', entry.revisionNumber)
  if (entry.downstream) line('Downstream', true)
  line('X509-SVID TTL', entry.x509SvidTtl || 'default')
  line('JWT-SVID TTL', entry.jwtSvidTtl || 'default')
  if (entry.expiresAt !== 0) line('Expiration time', utcTimeText(entry.expiresAt))
  for (const { type, value } of entry.selectors) line('Selector', `${type}:${value}`)
  for (const id of entry.federatesWith) line('FederatesWith', id)
  for (const name of entry.dnsNames) line('DNS name', name)
  if (entry.admin) line('Admin', true)
  if (entry.storeSvid) line('StoreSvid', true)
  if (entry.hint !== '') line('Hint', entry.hint)
  if (entry.additionalAttributes?.disableX509SvidPrefetch) line('DisableX509SvidPrefetch', true)
  if (entry.additionalAttributes?.jwtSvidIncludeJti) line('JwtSvidIncludeJti', true)
  return `${out}\n`
}

/** The head above the block of an entry that was refused. */
export function refusedEntry(verb: 'create' | 'update', status: Status, entry: Entry): string {
  const reason = `(code: ${codeName(status.code)}, msg: ${JSON.stringify(status.message)})`
  return `Failed to ${verb} the following entry ${reason}:\n${entryBlock(entry)}`
}

/** SPIRE's order for showing: by ID, parent, TTLs, number of selectors, selectors. Sorts the selectors of each entry, too. */
export function sortEntries(entries: Entry[]): void {
  for (const entry of entries) {
    entry.selectors.sort((a, b) => compare(a.type, b.type) || compare(a.value, b.value))
  }
  entries.sort((a, b) => {
    for (const key of ENTRY_KEYS) {
      const order = compare(key(a), key(b))
      if (order !== 0) return order
    }
    for (const [i, selector] of a.selectors.entries()) {
      const other = b.selectors[i]!
      const order = compare(selector.type, other.type) || compare(selector.value, other.value)
      if (order !== 0) return order
    }
    return 0
  })
}

const ENTRY_KEYS: readonly ((entry: Entry) => string | number)[] = [
  (entry) => entry.spiffeId?.trustDomain ?? '',
  (entry) => entry.spiffeId?.path ?? '',
  (entry) => entry.parentId?.trustDomain ?? '',
  (entry) => entry.parentId?.path ?? '',
  (entry) => entry.x509SvidTtl,
  (entry) => entry.jwtSvidTtl,
  (entry) => entry.selectors.length,
]

function compare(a: string | number, b: string | number): number {
  return a < b ? -1 : a > b ? 1 : 0
}
