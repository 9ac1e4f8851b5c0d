import { Entries, type JWTKeyEntry, Status, type X509CAEntry } from '../../proto/spire/server/journal.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { hex } from '../core/der.ts'
import { errorMessage } from '../core/error.ts'
import type { KeyManager } from '../core/plugin.ts'
import { subjectKeyId } from '../core/public-key.ts'
import type { JournalStore } from '../core/store.ts'

const KEPT_PER_KIND = 10
const STALE_SECONDS = 14 * 86400

/**
 * One server's record of the authorities it made, kept in the database. The row is ours if its active X.509 authority is a key
 * that our KeyManager holds; a server that lost its keys starts a new row.
 * @see server.md 5.2
 */
export class Journal {
  readonly #store: JournalStore
  #id: number
  #entries: Entries

  private constructor(store: JournalStore, id: number, entries: Entries) {
    this.#store = store
    this.#id = id
    this.#entries = entries
  }

  /** @throws Error if our row is there and cannot be read */
  static async load(store: JournalStore, keyManager: KeyManager): Promise<Journal> {
    const rows = await store.list()
    if (rows.length > 0) {
      const ours = new Set([...(await keyManager.getKeys()).values()].map((key) => hex(subjectKeyId(key.publicKey))))
      const row = rows.find((candidate) => ours.has(candidate.activeX509AuthorityId))
      if (row) return new Journal(store, row.id, decode(row.data))
    }
    return new Journal(store, 0, Entries.decode(new Uint8Array(0)))
  }

  get found(): boolean {
    return this.#id !== 0
  }

  get x509Entries(): readonly X509CAEntry[] {
    return this.#entries.x509CAs
  }

  get jwtEntries(): readonly JWTKeyEntry[] {
    return this.#entries.jwtKeys
  }

  async appendX509(entry: X509CAEntry): Promise<void> {
    this.#entries.x509CAs = [...this.#entries.x509CAs, entry].slice(-KEPT_PER_KIND)
    await this.#save()
  }

  async appendJwt(entry: JWTKeyEntry): Promise<void> {
    this.#entries.jwtKeys = [...this.#entries.jwtKeys, entry].slice(-KEPT_PER_KIND)
    await this.#save()
  }

  /** Sets the status of an authority, X.509 or JWT. */
  async setStatus(authorityId: string, status: Status): Promise<void> {
    for (const entry of [...this.#entries.x509CAs, ...this.#entries.jwtKeys]) {
      if (entry.authorityId === authorityId) entry.status = status
    }
    await this.#save()
  }

  /** Written only once an X.509 authority is active: before, nobody could tell whose row it is. */
  async #save(): Promise<void> {
    const active = this.#entries.x509CAs.findLast((entry) => entry.status === Status.ACTIVE)
    if (!active) return
    this.#id = await this.#store.save({
      id: this.#id,
      activeX509AuthorityId: active.authorityId,
      data: Entries.encode(this.#entries).finish(),
    })
  }
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
