import type { EpochSeconds } from '../../core/clock.ts'
import type { Entry } from '../../core/entry.ts'
import type { Selector } from '../../core/selector.ts'
import type { SpiffeId } from '../../core/spiffe-id.ts'
import { trustDomainOf } from '../../core/spiffe-id.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import type { NewChange, Row, SqlDriver, Statement } from '../database.ts'
import { fingerprintOf } from '../entry-validation.ts'

/**
 * One row an entry: its row number and everything else as one JSON array, because drivers pay for each column and
 * three more queries would tear the snapshot.
 */
export const SELECT_ENTRY = `SELECT e.id AS id, json_array(
  e.entry_id, e.spiffe_id, e.parent_id, e.ttl, e.jwt_svid_ttl, e.admin, e.downstream, e.expiry, e.revision_number,
  e.store_svid, e.hint, e.created_at, e.disable_x509_svid_prefetch, e.jwt_svid_include_jti,
  (SELECT json_group_array(json_array(s.type, s.value)) FROM
    (SELECT type, value FROM selectors WHERE registered_entry_id = e.id ORDER BY id) AS s),
  (SELECT json_group_array(d.value) FROM
    (SELECT value FROM dns_names WHERE registered_entry_id = e.id ORDER BY id) AS d),
  (SELECT json_group_array(f.trust_domain) FROM
    (SELECT b.trust_domain FROM federated_registration_entries AS l JOIN bundles AS b ON b.id = l.bundle_id
     WHERE l.registered_entry_id = e.id ORDER BY b.trust_domain) AS f)
) AS document FROM registered_entries AS e`

/**
 * What changes whenever an entry does: updates raise the revision, an id that is used again has another time, and a bundle that
 * goes takes its federation rows along without a word to the entry. A fifth of the price of the whole row.
 */
export const SELECT_ENTRY_STATE = `SELECT e.id AS id, json_array(e.entry_id, e.revision_number, e.created_at,
  (SELECT count(*) FROM federated_registration_entries WHERE registered_entry_id = e.id)
) AS document FROM registered_entries AS e`

type Document = readonly [
  id: string,
  spiffeId: string,
  parentId: string,
  x509SvidTtlSeconds: number,
  jwtSvidTtlSeconds: number,
  admin: number,
  downstream: number,
  expiresAt: number,
  revisionNumber: number,
  storeSvid: number,
  hint: string,
  createdAt: number,
  disableX509SvidPrefetch: number,
  jwtSvidIncludeJti: number,
  selectors: readonly (readonly [string, string])[],
  dnsNames: readonly string[],
  federatesWith: readonly string[],
]

const NONE: readonly never[] = []

/** Reads a row of `SELECT_ENTRY`. */
export function decodeEntry(row: Row): Entry {
  const document = JSON.parse(row.document as string) as Document
  return {
    id: document[0],
    spiffeId: document[1] as SpiffeId,
    parentId: document[2] as SpiffeId,
    x509SvidTtlSeconds: document[3],
    jwtSvidTtlSeconds: document[4],
    admin: document[5] === 1,
    downstream: document[6] === 1,
    expiresAt: document[7],
    revisionNumber: document[8],
    storeSvid: document[9] === 1,
    hint: document[10],
    createdAt: document[11],
    disableX509SvidPrefetch: document[12] === 1,
    jwtSvidIncludeJti: document[13] === 1,
    selectors: document[14].map(([type, value]): Selector => ({ type, value })),
    dnsNames: document[15].length === 0 ? NONE : document[15],
    federatesWith: document[16].length === 0 ? NONE : document[16].map((id) => trustDomainOf(id as SpiffeId)),
  }
}

/** The entry of a row of `SELECT_ENTRY_STATE`, if it is known in that state. */
export function entryInState(row: Row, known: ReadonlyMap<string, Entry>): Entry | undefined {
  const [id, revisionNumber, createdAt, federated] = JSON.parse(row.document as string) as [
    string,
    number,
    number,
    number,
  ]
  const entry = known.get(id)
  const same =
    entry?.revisionNumber === revisionNumber &&
    entry.createdAt === createdAt &&
    entry.federatesWith.length === federated
  return same ? entry : undefined
}

/** Entries whose column is among the values. */
export async function entriesWhere(
  run: SqlDriver['run'],
  column: 'e.entry_id' | 'e.fingerprint' | 'e.parent_id',
  values: readonly (string | number)[],
): Promise<Entry[]> {
  if (values.length === 0) return []
  const value = column === 'e.fingerprint' ? 'CAST(value AS BIGINT)' : 'value'
  const sql = `${SELECT_ENTRY} WHERE ${column} IN (SELECT ${value} FROM json_each(?1)) ORDER BY e.id`
  return (await run({ sql, args: [JSON.stringify(values)] })).map(decodeEntry)
}

const COLUMNS = `entry_id, spiffe_id, parent_id, ttl, jwt_svid_ttl, admin, downstream, expiry, revision_number,
  store_svid, hint, created_at, disable_x509_svid_prefetch, jwt_svid_include_jti, fingerprint`
const TEXT_COLUMNS = [0, 1, 2, 10]
const VALUES = Array.from({ length: 15 }, (_, index) =>
  TEXT_COLUMNS.includes(index) ? `value ->> ${index}` : `CAST(value ->> ${index} AS BIGINT)`,
).join(', ')
const INSERT_ENTRIES = `INSERT INTO registered_entries (${COLUMNS}) SELECT ${VALUES} FROM json_each(?1)`
const UPDATE_ENTRY = `UPDATE registered_entries SET (${COLUMNS}) =
  (SELECT ${VALUES} FROM json_each(?1)) WHERE entry_id = ?2`
const ENTRY_ROW = '(SELECT e.id FROM registered_entries AS e WHERE e.entry_id = g.value ->> 0)'
const INSERT_SELECTORS = `INSERT INTO selectors (registered_entry_id, type, value)
  SELECT ${ENTRY_ROW}, g.value ->> 1, g.value ->> 2 FROM json_each(?1) AS g ORDER BY g.key`
const INSERT_DNS_NAMES = `INSERT INTO dns_names (registered_entry_id, value)
  SELECT ${ENTRY_ROW}, g.value ->> 1 FROM json_each(?1) AS g ORDER BY g.key`
const INSERT_FEDERATION = `INSERT INTO federated_registration_entries (bundle_id, registered_entry_id)
  SELECT (SELECT b.id FROM bundles AS b WHERE b.trust_domain = g.value ->> 1), ${ENTRY_ROW} FROM json_each(?1) AS g`

/** Writes new entries whole, in at most four statements whatever their number. */
export function insertEntries(entries: readonly Entry[]): Statement[] {
  if (entries.length === 0) return []
  return [{ sql: INSERT_ENTRIES, args: [JSON.stringify(entries.map(rowOf))] }, ...insertParts(entries)]
}

/** Rewrites an entry; parts that did not change stay as they are. */
export function updateEntry(before: Entry, after: Entry): Statement[] {
  const statements: Statement[] = [{ sql: UPDATE_ENTRY, args: [JSON.stringify([rowOf(after)]), before.id] }]
  const clear = (table: string) => {
    const row = '(SELECT id FROM registered_entries WHERE entry_id = ?1)'
    statements.push({ sql: `DELETE FROM ${table} WHERE registered_entry_id = ${row}`, args: [before.id] })
  }
  if (after.selectors !== before.selectors) clear('selectors')
  if (after.dnsNames !== before.dnsNames) clear('dns_names')
  if (after.federatesWith !== before.federatesWith) clear('federated_registration_entries')
  const changed: Entry = {
    ...after,
    selectors: after.selectors === before.selectors ? [] : after.selectors,
    dnsNames: after.dnsNames === before.dnsNames ? [] : after.dnsNames,
    federatesWith: after.federatesWith === before.federatesWith ? [] : after.federatesWith,
  }
  return [...statements, ...insertParts([changed])]
}

/**
 * Removes entries; the rows that hang on them go with them. An id that is used again must have another time of creation, by which agents
 * know that it is another entry: of entries that go as soon as they came, the next free second is kept.
 */
export function deleteEntries(entries: readonly Entry[], now: EpochSeconds): Statement[] {
  if (entries.length === 0) return []
  const young = entries.filter(({ createdAt }) => createdAt > now - CLOCKS_DIFFER_SECONDS)
  const sql = 'DELETE FROM registered_entries WHERE entry_id IN (SELECT value FROM json_each(?1))'
  return [
    { sql, args: [JSON.stringify(entries.map((entry) => entry.id))] },
    ...(young.length === 0
      ? []
      : [
          { sql: REMEMBER_TIMES, args: [JSON.stringify(young.map(({ id, createdAt }) => [useOf(id), createdAt + 1]))] },
        ]),
  ]
}

/** Clocks of servers on one database may differ by as much. */
const CLOCKS_DIFFER_SECONDS = 60
const REMEMBER_TIMES = `INSERT INTO uses (key, expires_at)
  SELECT value ->> 0, CAST(value ->> 1 AS BIGINT) FROM json_each(?1) WHERE true
  ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at`
const useOf = (id: string) => `deleted entry ${id}`

/** Of these ids, those that were deleted a moment ago, and the first time of creation that they may have again. */
export async function timesOfDeleted(
  run: SqlDriver['run'],
  ids: readonly string[],
): Promise<ReadonlyMap<string, EpochSeconds>> {
  if (ids.length === 0) return new Map()
  const byUse = new Map(ids.map((id) => [useOf(id), id]))
  const sql = 'SELECT key, expires_at FROM uses WHERE key IN (SELECT value FROM json_each(?1))'
  const rows = await run({ sql, args: [JSON.stringify([...byUse.keys()])] })
  return new Map(rows.map((row) => [byUse.get(row.key as string)!, Number(row.expires_at)]))
}

/** The change row of an entry after a write. */
export function entryChange(entry: Entry): NewChange {
  return { kind: 'entry', key: entry.id, entry }
}

/** The change row of an entry that is gone. */
export function entryRemoval(entry: Entry): NewChange {
  return { kind: 'entry', key: entry.id, entry: null }
}

function insertParts(entries: readonly Entry[]): Statement[] {
  const statements: Statement[] = []
  const add = (sql: string, rows: readonly (readonly string[])[]) => {
    if (rows.length > 0) statements.push({ sql, args: [JSON.stringify(rows)] })
  }
  add(
    INSERT_SELECTORS,
    entries.flatMap((entry) => entry.selectors.map((selector) => [entry.id, selector.type, selector.value])),
  )
  add(
    INSERT_DNS_NAMES,
    entries.flatMap((entry) => entry.dnsNames.map((name) => [entry.id, name])),
  )
  add(
    INSERT_FEDERATION,
    entries.flatMap((entry) => entry.federatesWith.map((name: TrustDomain) => [entry.id, `spiffe://${name}`])),
  )
  return statements
}

function rowOf(entry: Entry): readonly (string | number)[] {
  return [
    entry.id,
    entry.spiffeId,
    entry.parentId,
    entry.x509SvidTtlSeconds,
    entry.jwtSvidTtlSeconds,
    Number(entry.admin),
    Number(entry.downstream),
    entry.expiresAt,
    entry.revisionNumber,
    Number(entry.storeSvid),
    entry.hint,
    entry.createdAt,
    Number(entry.disableX509SvidPrefetch),
    Number(entry.jwtSvidIncludeJti),
    fingerprintOf(entry),
  ]
}
