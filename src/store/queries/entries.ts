import type { Entry, EntryFields } from '../../core/entry.ts'
import { StatusError } from '../../core/error.ts'
import { normaliseSelectors, type Selector, selectorText } from '../../core/selector.ts'
import type { CreateEntryResult, EntryFilter, EntryStore, NewEntry, Page, Paged } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { type Database, databaseError, type Row, recordNotFound, type SqlDriver, uniqueViolation } from '../database.ts'
import { fingerprintOf, requireOneType, validateEntry } from '../entry-validation.ts'
import { authorizedEntries } from './authorized-entries.ts'
import {
  decodeEntry,
  deleteEntries,
  entriesWhere,
  entryChange,
  entryInState,
  entryRemoval,
  insertEntries,
  SELECT_ENTRY,
  SELECT_ENTRY_STATE,
  timesOfDeleted,
  updateEntry,
} from './entry-rows.ts'
import { Conditions, matchSql, paged, pageStatement } from './paging.ts'

const SELECT_BY_ID = `${SELECT_ENTRY} WHERE e.entry_id = ?1`

/** SPIRE's: only that of entries goes through another layer. */
const UNPARSED_TOKEN = 'datastore-sql: rpc error: code = InvalidArgument desc = could not parse token'

/** Registration entries. */
export function entryStore(database: Database): EntryStore {
  const get = async (run: SqlDriver['run'], id: string): Promise<Entry | undefined> => {
    const [row] = await run({ sql: SELECT_BY_ID, args: [id] })
    return row && decodeEntry(row)
  }

  return {
    create: (entries, now) =>
      database.write(async (run) => {
        const stored = await readBeforeCreate(run, entries)
        const results: CreateEntryResult[] = []
        const created: Entry[] = []
        for (const entry of entries) {
          const result = createOne(entry, now, stored)
          results.push(result)
          if (result.outcome === 'created') created.push(result.entry)
        }
        return { statements: insertEntries(created), changes: created.map(entryChange), result: results }
      }),

    get: (id) => get(database.run, id),

    async list(filter, page, known) {
      const read = (select: string) =>
        database.run(pageStatement(select, filterConditions(filter), page, 'e.id', UNPARSED_TOKEN))
      const result =
        (known && knownPage(await read(SELECT_ENTRY_STATE), page, known)) ??
        paged(await read(SELECT_ENTRY), page, decodeEntry)
      return filter.downstream ? { ...result, items: result.items.filter((entry) => entry.downstream) } : result
    },

    async count(filter) {
      const conditions = filterConditions(filter)
      if (filter.downstream) conditions.add('e.downstream = 1')
      const sql = `SELECT count(*) AS count FROM registered_entries AS e${conditions.where}`
      const [row] = await database.run({ sql, args: conditions.args })
      return Number(row!.count)
    },

    update: (id, fields) =>
      database.write(async (run) => {
        const before = await get(run, id)
        if (!before) throw recordNotFound()
        validateEntry(fields)
        const bundles = await bundlesAmong(run, fields.federatesWith ?? [])
        const after = merged(before, fields)
        // SPIRE looks at the selectors only where they are given.
        if (fields.storeSvid || fields.selectors) requireOneType(after)
        requireBundles(after.federatesWith, before.federatesWith, bundles)
        return { statements: updateEntry(before, after), changes: [entryChange(after)], result: after }
      }),

    delete: (id) =>
      database.write(async (run) => {
        const entry = await get(run, id)
        const removed = entry ? [entry] : []
        return {
          statements: deleteEntries(removed, database.nowSeconds()),
          changes: removed.map(entryRemoval),
          result: entry,
        }
      }),

    authorized: (agentId, selectors) => authorizedEntries(database.run, agentId, selectors),

    pruneExpired: (now) =>
      database.write(async (run) => {
        const sql = `${SELECT_ENTRY} WHERE e.expiry > 0 AND e.expiry < ?1 ORDER BY e.id`
        const expired = (await run({ sql, args: [now] })).map(decodeEntry)
        return {
          statements: deleteEntries(expired, database.nowSeconds()),
          changes: expired.map(entryRemoval),
          result: expired,
        }
      }),
  }
}

/** A page of states, with the entries from memory; undefined if one of them is not known in the state that is stored. */
function knownPage(rows: readonly Row[], page: Page, known: ReadonlyMap<string, Entry>): Paged<Entry> | undefined {
  const items = new Map<Row, Entry>()
  for (const row of rows) {
    const entry = entryInState(row, known)
    if (!entry) return undefined
    items.set(row, entry)
  }
  return paged(rows, page, (row) => items.get(row)!)
}

/** What creating has to know of the database, and of the entries created before in the same call. */
interface Stored {
  readonly byFingerprint: Map<number, Entry[]>
  readonly ids: Set<string>
  /** Of ids that were deleted right after they were created: the least time of creation that tells a new entry from the old one. */
  readonly freeFrom: ReadonlyMap<string, number>
  readonly bundles: ReadonlySet<string>
}

async function readBeforeCreate(run: SqlDriver['run'], entries: readonly NewEntry[]): Promise<Stored> {
  const byFingerprint = new Map<number, Entry[]>()
  const prints = entries.map((entry) => fingerprintOf(entry))
  for (const entry of await entriesWhere(run, 'e.fingerprint', prints)) remember(byFingerprint, entry)
  const given = entries.map((entry) => entry.id).filter((id) => id !== '')
  const ids = new Set(
    given.length === 0
      ? []
      : (
          await run({
            sql: 'SELECT entry_id FROM registered_entries WHERE entry_id IN (SELECT value FROM json_each(?1))',
            args: [JSON.stringify(given)],
          })
        ).map((row) => row.entry_id as string),
  )
  const freeFrom = await timesOfDeleted(run, given)
  const bundles = await bundlesAmong(
    run,
    entries.flatMap((entry) => entry.federatesWith),
  )
  return { byFingerprint, ids, freeFrom, bundles }
}

function createOne(fields: NewEntry, now: number, stored: Stored): CreateEntryResult {
  try {
    validateEntry(fields)
  } catch (error) {
    // A repeated selector or name is the database's complaint in SPIRE, and comes after "similar".
    if (!(error instanceof StatusError) || error.code !== 'ALREADY_EXISTS') return failed(error)
    const similar = findSimilar(fields, stored)
    return similar ? { outcome: 'similar', entry: similar } : failed(error)
  }
  const similar = findSimilar(fields, stored)
  if (similar) return { outcome: 'similar', entry: similar }
  if (fields.id !== '' && stored.ids.has(fields.id)) return failed(uniqueViolation('registered_entries.entry_id'))
  try {
    requireBundles(fields.federatesWith, [], stored.bundles)
  } catch (error) {
    return failed(error)
  }
  const entry: Entry = {
    ...written(fields),
    id: fields.id === '' ? crypto.randomUUID() : fields.id,
    revisionNumber: 0,
    createdAt: Math.max(now, stored.freeFrom.get(fields.id) ?? 0),
  }
  remember(stored.byFingerprint, entry)
  stored.ids.add(entry.id)
  return { outcome: 'created', entry }
}

function findSimilar(fields: NewEntry, stored: Stored): Entry | undefined {
  const selectors = sortedTexts(fields.selectors)
  return stored.byFingerprint
    .get(fingerprintOf(fields))
    ?.find(
      (entry) =>
        entry.spiffeId === fields.spiffeId &&
        entry.parentId === fields.parentId &&
        sortedTexts(entry.selectors) === selectors,
    )
}

/** Equal for equal sets. */
function sortedTexts(selectors: readonly Selector[]): string {
  return JSON.stringify(normaliseSelectors(selectors).map(selectorText))
}

function remember(byFingerprint: Map<number, Entry[]>, entry: Entry): void {
  const print = fingerprintOf(entry)
  const known = byFingerprint.get(print)
  if (known) known.push(entry)
  else byFingerprint.set(print, [entry])
}

function failed(error: unknown): CreateEntryResult {
  return { outcome: 'failed', error: databaseError(error) }
}

/** The writable fields alone, lists as they are read back: selectors and DNS names as they were given. */
function written(fields: EntryFields): EntryFields {
  return {
    spiffeId: fields.spiffeId,
    parentId: fields.parentId,
    selectors: fields.selectors,
    x509SvidTtlSeconds: fields.x509SvidTtlSeconds,
    jwtSvidTtlSeconds: fields.jwtSvidTtlSeconds,
    federatesWith: [...new Set(fields.federatesWith)].sort(),
    admin: fields.admin,
    downstream: fields.downstream,
    expiresAt: fields.expiresAt,
    dnsNames: fields.dnsNames,
    storeSvid: fields.storeSvid,
    hint: fields.hint,
    disableX509SvidPrefetch: fields.disableX509SvidPrefetch,
    jwtSvidIncludeJti: fields.jwtSvidIncludeJti,
  }
}

function merged(before: Entry, fields: Partial<EntryFields>): Entry {
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
  const after = written({ ...before, ...given })
  return {
    ...after,
    // The same array tells the writer that a part did not change.
    selectors: fields.selectors ? after.selectors : before.selectors,
    dnsNames: fields.dnsNames ? after.dnsNames : before.dnsNames,
    federatesWith: fields.federatesWith ? after.federatesWith : before.federatesWith,
    id: before.id,
    createdAt: before.createdAt,
    revisionNumber: before.revisionNumber + 1,
  }
}

async function bundlesAmong(run: SqlDriver['run'], names: readonly TrustDomain[]): Promise<ReadonlySet<string>> {
  if (names.length === 0) return new Set()
  const sql = 'SELECT trust_domain FROM bundles WHERE trust_domain IN (SELECT value FROM json_each(?1))'
  const rows = await run({ sql, args: [JSON.stringify(names.map((name) => `spiffe://${name}`))] })
  return new Set(rows.map((row) => row.trust_domain as string))
}

function requireBundles(
  names: readonly TrustDomain[],
  known: readonly TrustDomain[],
  bundles: ReadonlySet<string>,
): void {
  for (const name of names) {
    const id = `spiffe://${name}`
    if (!known.includes(name) && !bundles.has(id)) {
      throw new StatusError('UNKNOWN', `unable to find federated bundle "${id}"`)
    }
  }
}

function filterConditions(filter: EntryFilter): Conditions {
  const conditions = new Conditions()
  if (filter.spiffeId !== undefined) conditions.add('e.spiffe_id = ?', filter.spiffeId)
  if (filter.parentId !== undefined) conditions.add('e.parent_id = ?', filter.parentId)
  if (filter.hint) conditions.add('e.hint = ?', filter.hint)
  if (filter.selectors) {
    const given: Selector[] = normaliseSelectors(filter.selectors.selectors)
    if (given.length === 0) throw new StatusError('INVALID_ARGUMENT', 'cannot list by empty selector set')
    const members = `SELECT s.registered_entry_id AS owner FROM json_each(?) AS g
      CROSS JOIN selectors AS s ON s.type = g.value ->> 0 AND s.value = g.value ->> 1`
    const size = 'SELECT count(*) FROM selectors WHERE registered_entry_id = matched.owner'
    conditions.add(
      `e.id IN (${matchSql(filter.selectors.match, members, size, given.length)})`,
      JSON.stringify(given.map(({ type, value }) => [type, value])),
    )
  }
  if (filter.federatesWith) {
    const given = [...new Set(filter.federatesWith.trustDomains)].map((name) => [`spiffe://${name}`])
    const members = `SELECT l.registered_entry_id AS owner FROM json_each(?) AS g
      CROSS JOIN bundles AS b ON b.trust_domain = g.value ->> 0
      CROSS JOIN federated_registration_entries AS l ON l.bundle_id = b.id`
    const size = 'SELECT count(*) FROM federated_registration_entries WHERE registered_entry_id = matched.owner'
    conditions.add(
      `e.id IN (${matchSql(filter.federatesWith.match, members, size, given.length)})`,
      JSON.stringify(given),
    )
  }
  return conditions
}
