import { base64, fromBase64 } from '../../core/base64.ts'
import type { Bundle, JwtAuthority, X509Authority } from '../../core/bundle.ts'
import type { Entry } from '../../core/entry.ts'
import { StatusError } from '../../core/error.ts'
import type { BundleStore } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import {
  type Database,
  type Decision,
  type NewChange,
  type Row,
  recordNotFound,
  type SqlDriver,
  type Statement,
  uniqueViolation,
} from '../database.ts'
import { decodeEntry, deleteEntries, entryChange, entryRemoval, SELECT_ENTRY } from './entry-rows.ts'
import { Conditions, paged, pageStatement } from './paging.ts'

const SELECT_BUNDLE = 'SELECT id, trust_domain, sequence_number, refresh_hint, authorities FROM bundles'
const SELECT_BY_NAME = `${SELECT_BUNDLE} WHERE trust_domain = ?1`
const UPSERT_BUNDLE = `INSERT INTO bundles (trust_domain, sequence_number, refresh_hint, authorities)
  VALUES (?1, ?2, ?3, ?4) ON CONFLICT (trust_domain) DO UPDATE SET sequence_number = excluded.sequence_number,
  refresh_hint = excluded.refresh_hint, authorities = excluded.authorities`
const SELECT_FEDERATED = `${SELECT_ENTRY} WHERE e.id IN (SELECT l.registered_entry_id
  FROM federated_registration_entries AS l JOIN bundles AS b ON b.id = l.bundle_id WHERE b.trust_domain = ?1)
  ORDER BY e.id`
const RAISE_REVISIONS = `UPDATE registered_entries SET revision_number = revision_number + 1
  WHERE id IN (SELECT l.registered_entry_id FROM federated_registration_entries AS l
  JOIN bundles AS b ON b.id = l.bundle_id WHERE b.trust_domain = ?1)`

/** Bundles of the own and of foreign trust domains. */
export function bundleStore(database: Database): BundleStore {
  return {
    get: (trustDomain) => find(database.run, trustDomain),

    async list(page) {
      return paged(await database.run(pageStatement(SELECT_BUNDLE, new Conditions(), page, 'id')), page, decodeBundle)
    },

    async count() {
      const [row] = await database.run({ sql: 'SELECT count(*) AS count FROM bundles', args: [] })
      return Number(row!.count)
    },

    create: (bundle) =>
      database.write(async (run) => {
        if (await find(run, bundle.trustDomain)) throw uniqueViolation('bundles.trust_domain')
        return store(bundle)
      }),

    update: (bundle) =>
      database.write(async (run) => {
        if (!(await find(run, bundle.trustDomain))) throw recordNotFound()
        return store(bundle)
      }),

    set: (bundle) => database.write(async () => store(bundle)),

    append: (added) =>
      database.write(async (run) => {
        const before = await find(run, added.trustDomain)
        const after = withAuthorities(before ?? emptyBundle(added.trustDomain), added)
        if (!before) return store(after)
        return after === before ? keep(before) : store({ ...after, sequenceNumber: before.sequenceNumber + 1 })
      }),

    change: (trustDomain, change) =>
      database.write(async (run) => {
        const before = await find(run, trustDomain)
        if (!before) throw recordNotFound()
        const after = change(before)
        return after === undefined ? keep(before) : store(after)
      }),

    delete: (trustDomain, mode) =>
      database.write(async (run) => {
        if (!(await find(run, trustDomain))) throw recordNotFound()
        const id = `spiffe://${trustDomain}`
        const federated = (await run({ sql: SELECT_FEDERATED, args: [id] })).map(decodeEntry)
        if (mode === 'restrict' && federated.length > 0) {
          const text = `datastore-sql: cannot delete bundle; federated with ${federated.length} registration entries`
          throw new StatusError('FAILED_PRECONDITION', text)
        }
        // Whoever knows an entry by its revision must learn that it trusts less.
        const unlinked = (entry: Entry): Entry => ({
          ...entry,
          revisionNumber: entry.revisionNumber + 1,
          federatesWith: entry.federatesWith.filter((name) => name !== trustDomain),
        })
        const removal: NewChange = { kind: 'bundle', key: trustDomain, bundle: null }
        return {
          // Links between entries and the bundle go with the row of either.
          statements: [
            ...(mode === 'delete'
              ? deleteEntries(federated, database.nowSeconds())
              : [{ sql: RAISE_REVISIONS, args: [id] }]),
            { sql: 'DELETE FROM bundles WHERE trust_domain = ?1', args: [id] },
          ],
          changes: [
            removal,
            ...federated.map((entry) => (mode === 'delete' ? entryRemoval(entry) : entryChange(unlinked(entry)))),
          ],
          result: undefined,
        }
      }),
  }
}

/** The statement that creates or replaces a bundle. */
export function setBundle(bundle: Bundle): Statement {
  const { trustDomain, sequenceNumber, refreshHintSeconds } = bundle
  return {
    sql: UPSERT_BUNDLE,
    args: [`spiffe://${trustDomain}`, sequenceNumber, refreshHintSeconds, encodeAuthorities(bundle)],
  }
}

/** The change row of a bundle after a write. */
export function bundleChange(bundle: Bundle): NewChange {
  return { kind: 'bundle', key: bundle.trustDomain, bundle }
}

function store(bundle: Bundle): Decision<Bundle> {
  return { statements: [setBundle(bundle)], changes: [bundleChange(bundle)], result: bundle }
}

function keep(bundle: Bundle): Decision<Bundle> {
  return { statements: [], changes: [], result: bundle }
}

async function find(run: SqlDriver['run'], trustDomain: TrustDomain): Promise<Bundle | undefined> {
  const [row] = await run({ sql: SELECT_BY_NAME, args: [`spiffe://${trustDomain}`] })
  return row && decodeBundle(row)
}

/** The bundles that are there, of those asked for. */
export async function bundlesNamed(run: SqlDriver['run'], names: readonly TrustDomain[]): Promise<Bundle[]> {
  if (names.length === 0) return []
  const sql = `${SELECT_BUNDLE} WHERE trust_domain IN (SELECT value FROM json_each(?1))`
  return (await run({ sql, args: [JSON.stringify(names.map((name) => `spiffe://${name}`))] })).map(decodeBundle)
}

function emptyBundle(trustDomain: TrustDomain): Bundle {
  return {
    trustDomain,
    x509Authorities: [],
    jwtAuthorities: [],
    witAuthorities: [],
    refreshHintSeconds: 0,
    sequenceNumber: 0,
  }
}

/** The bundle with what it lacks; the same object if it lacks nothing. */
function withAuthorities(bundle: Bundle, added: Parameters<BundleStore['append']>[0]): Bundle {
  const x509Authorities = union(bundle.x509Authorities, added.x509Authorities, (authority) => base64(authority.der))
  const jwtAuthorities = union(bundle.jwtAuthorities, added.jwtAuthorities, (authority) => authority.keyId)
  const witAuthorities = union(bundle.witAuthorities, added.witAuthorities, (authority) => authority.keyId)
  const same =
    x509Authorities === bundle.x509Authorities &&
    jwtAuthorities === bundle.jwtAuthorities &&
    witAuthorities === bundle.witAuthorities
  return same ? bundle : { ...bundle, x509Authorities, jwtAuthorities, witAuthorities }
}

function union<T>(present: readonly T[], added: readonly T[] | undefined, key: (item: T) => string): readonly T[] {
  if (!added || added.length === 0) return present
  const all = new Map(present.map((item) => [key(item), item]))
  for (const item of added) if (!all.has(key(item))) all.set(key(item), item)
  return all.size === present.length ? present : [...all.values()]
}

interface StoredKey {
  readonly kid: string
  readonly key: string
  readonly expiresAt: number
  readonly tainted: boolean
}

interface StoredAuthorities {
  readonly x509: readonly { readonly der: string; readonly tainted: boolean }[]
  readonly jwt: readonly StoredKey[]
  readonly wit: readonly StoredKey[]
}

function encodeAuthorities(bundle: Bundle): string {
  const keys = (authorities: readonly JwtAuthority[]): StoredKey[] =>
    authorities.map(({ keyId, publicKey, expiresAt, tainted }) => ({
      kid: keyId,
      key: base64(publicKey),
      expiresAt,
      tainted,
    }))
  const stored: StoredAuthorities = {
    x509: bundle.x509Authorities.map(({ der, tainted }) => ({ der: base64(der), tainted })),
    jwt: keys(bundle.jwtAuthorities),
    wit: keys(bundle.witAuthorities),
  }
  return JSON.stringify(stored)
}

function decodeBundle(row: Row): Bundle {
  const stored = JSON.parse(row.authorities as string) as StoredAuthorities
  const keys = (authorities: readonly StoredKey[]) =>
    authorities.map(
      ({ kid, key, expiresAt, tainted }): JwtAuthority => ({
        keyId: kid,
        publicKey: fromBase64(key),
        expiresAt,
        tainted,
      }),
    )
  return {
    trustDomain: (row.trust_domain as string).slice('spiffe://'.length) as TrustDomain,
    x509Authorities: stored.x509.map(({ der, tainted }): X509Authority => ({ der: fromBase64(der), tainted })),
    jwtAuthorities: keys(stored.jwt),
    witAuthorities: keys(stored.wit),
    refreshHintSeconds: Number(row.refresh_hint),
    sequenceNumber: Number(row.sequence_number),
  }
}
