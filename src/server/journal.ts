import {
  Entries,
  type JWTKeyEntry,
  Status,
  type WITKeyEntry,
  type X509CAEntry,
} from '../../proto/spire/server/journal.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { equalBytes, hex } from '../core/der.ts'
import { errorMessage } from '../core/error.ts'
import type { Signer } from '../core/key-type.ts'
import type { Log } from '../core/log.ts'
import { subjectKeyId } from '../core/public-key.ts'
import type { JournalRow, JournalStore } from '../core/store.ts'

const KEPT_PER_KIND = 10
const STALE_SECONDS = 14 * 86400

/** The lists of a journal, by the names they have on the wire. */
interface EntryOf {
  readonly x509CAs: X509CAEntry
  readonly jwtKeys: JWTKeyEntry
  readonly witKeys: WITKeyEntry
}

export type JournalKind = keyof EntryOf

/**
 * One server's record of the authorities it made, kept in the database. The row is ours if its active X.509 authority is a key
 * that our KeyManager holds; a server that lost its keys starts a new row, replicas that share keys share one.
 * What is in here is what was stored: a write that fails changes nothing.
 * @see server.md 5.2
 */
export class Journal {
  readonly #alwaysStored: boolean
  readonly #log: Log
  #id: number
  #stored: Uint8Array
  #entries: Entries

  private constructor(alwaysStored: boolean, log: Log, id: number, stored: Uint8Array) {
    this.#alwaysStored = alwaysStored
    this.#log = log
    this.#id = id
    this.#stored = stored
    this.#entries = decode(stored)
  }

  /**
   * @param shared whether the keys belong to several replicas: then the row is written before the first authority is active, because
   * the others must learn of what is being made
   * @throws Error if our row is there and cannot be read
   */
  static async load(
    store: JournalStore,
    keysOf: () => Promise<ReadonlyMap<string, Signer>>,
    shared: boolean,
    log: Log,
  ): Promise<Journal> {
    log.debug('Loading journal from datastore')
    const row = await ownRow(await store.list(), keysOf)
    if (!row) log.info('There is not a CA journal record that matches any of the local X509 authority IDs')
    return new Journal(shared, log, row?.id ?? 0, row?.data ?? new Uint8Array(0))
  }

  /** Reads what other replicas wrote. @returns whether there was anything new */
  async reload(store: JournalStore, keysOf: () => Promise<ReadonlyMap<string, Signer>>): Promise<boolean> {
    const rows = await store.list()
    const row = rows.find((candidate) => candidate.id === this.#id) ?? (await ownRow(rows, keysOf))
    const [id, data] = [row?.id ?? 0, row?.data ?? new Uint8Array(0)]
    if (id === this.#id && equalBytes(data, this.#stored)) return false
    const entries = decode(data)
    this.#id = id
    this.#stored = data
    this.#entries = entries
    return true
  }

  get found(): boolean {
    return this.#id !== 0
  }

  entries<K extends JournalKind>(kind: K): readonly EntryOf[K][] {
    return this.#entries[kind] as readonly unknown[] as readonly EntryOf[K][]
  }

  /** Adds a prepared authority. One of the same slot that never became active goes: its key is overwritten by now. */
  async append<K extends JournalKind>(kind: K, entry: EntryOf[K], store: JournalStore): Promise<void> {
    const kept = this.entries(kind).filter((other) => other.slotId !== entry.slotId || other.status !== Status.PREPARED)
    await this.#save({ ...this.#entries, [kind]: [...kept, entry].slice(-KEPT_PER_KIND) }, store)
  }

  /** Makes an authority the active one of its kind; `former` becomes old in the same write. */
  async activate(
    kind: JournalKind,
    authorityId: string,
    former: string | undefined,
    store: JournalStore,
  ): Promise<void> {
    const statusOf = (entry: EntryOf[JournalKind]) =>
      entry.authorityId === authorityId ? Status.ACTIVE : entry.authorityId === former ? Status.OLD : entry.status
    const entries = this.entries(kind).map((entry) => ({ ...entry, status: statusOf(entry) }))
    await this.#save({ ...this.#entries, [kind]: entries }, store)
  }

  async #save(entries: Entries, store: JournalStore): Promise<void> {
    const active = entries.x509CAs.findLast((entry) => entry.status === Status.ACTIVE)
    const owner = active ?? (this.#alwaysStored ? entries.x509CAs.at(-1) : undefined)
    // Without an X.509 authority nobody could tell whose row it is.
    if (owner) {
      const data = Entries.encode(entries).finish()
      if (!this.found) this.#log.info('Creating a new CA journal entry')
      this.#id = await store.save({ id: this.#id, activeX509AuthorityId: owner.authorityId, data })
      this.#stored = data
      this.#log.debug('Successfully stored CA journal entry in datastore', {
        ca_journal_id: this.#id,
        local_authority_id: owner.authorityId,
      })
    } else this.#log.debug("There is no active X.509 authority yet. Can't save CA journal in the datastore")
    this.#entries = entries
  }
}

async function ownRow(
  rows: readonly JournalRow[],
  keysOf: () => Promise<ReadonlyMap<string, Signer>>,
): Promise<JournalRow | undefined> {
  if (rows.length === 0) return undefined
  const ours = new Set([...(await keysOf()).values()].map((key) => hex(subjectKeyId(key.publicKey))))
  return rows.find((candidate) => ours.has(candidate.activeX509AuthorityId))
}

function decode(data: Uint8Array): Entries {
  try {
    return Entries.decode(data)
  } catch (error) {
    throw new Error(`unable to decode the CA journal: ${errorMessage(error)}`, { cause: error })
  }
}

/** Deletes journals all of whose authorities ended more than 14 days ago. @returns how many */
export async function pruneJournals(store: JournalStore, now: EpochSeconds): Promise<number> {
  let pruned = 0
  for (const row of await store.list()) {
    const entries = decode(row.data)
    const ends = [...entries.x509CAs, ...entries.jwtKeys, ...entries.witKeys].map((entry) => entry.notAfter)
    if (ends.some((end) => end >= now - STALE_SECONDS)) continue
    await store.delete(row.id)
    pruned += 1
  }
  return pruned
}
