import { StatusError } from '../core/error.ts'
import type { Change } from '../core/store.ts'

/** A value that every driver binds and returns. */
export type SqlValue = string | number | Uint8Array | null

export interface Statement {
  readonly sql: string
  /** Never more than a handful: lists travel as one JSON text, because D1 binds at most 100. */
  readonly args: readonly SqlValue[]
}

export type Row = Readonly<Record<string, unknown>>

/** The smallest thing a driver has to do: run one statement, or several as one atom. */
export interface SqlDriver {
  run(statement: Statement): Promise<readonly Row[]>
  /** All or nothing. */
  batch(statements: readonly Statement[]): Promise<readonly (readonly Row[])[]>
  /** Runs `work` while nobody else's runs in turn: for those who came too late once, where many write. */
  inTurn?<T>(work: () => Promise<T>): Promise<T>
  close(): Promise<void>
}

/** A change that a write makes, before it has its number. */
export type NewChange = Omit<Change, 'sequence'>

/** What a write decided to do after reading: nothing is written if both lists are empty. */
export interface Decision<T> {
  readonly statements: readonly Statement[]
  readonly changes: readonly NewChange[]
  readonly result: T
}

/** The driver with the rules all stores share: one writer at a time, and the change log in the same batch. */
export interface Database {
  /** Unix seconds. */
  nowSeconds(): number
  run(statement: Statement): Promise<readonly Row[]>
  /**
   * Reads, decides, writes. Concurrent writes of this process wait for each other; a write of another process between
   * reading and writing collides on the number of the change, and `decide` runs again on what is there then.
   */
  write<T>(decide: (run: SqlDriver['run']) => Promise<Decision<T>>): Promise<T>
  /**
   * The same database with a condition on its writes: a statement in front of each batch that fails, and the batch with it, where the
   * condition does not hold. `refuse` makes the error of such a failure, undefined of any other.
   */
  guarded(condition: Statement, refuse: (error: Error) => Error | undefined): Database
  /** @see ChangeLog */
  subscribe(listener: Listener, reload?: Reload): () => void
  /** @see ChangeLog */
  catchUp(): Promise<void>
  /** Waits for writes that were asked for, then closes. */
  close(): Promise<void>
}

export type Listener = (changes: readonly Change[]) => void
export type Reload = () => void | Promise<void>

/** What the shared rules need beside a driver. */
export interface DatabaseOptions {
  /** Dates the rows of the change log. */
  readonly nowSeconds: () => number
  /** Told when a subscriber of the change log throws, or what others wrote cannot be read for it. */
  readonly onListenerError: (error: unknown) => void
  /** Adds to changes read from the log what their keys name now. */
  readonly withValues: (run: SqlDriver['run'], changes: readonly Change[]) => Promise<readonly Change[]>
}

const MAX_ATTEMPTS = 64
const READ_AT_ONCE = 500
/** Somebody else took the number that was read: to be read again. */
const NUMBER_TAKEN = /UNIQUE constraint failed: (changes\.sequence|ca_journals\.id)|CONFLICT of transactions/

const INSERT_CHANGES = `INSERT INTO changes (sequence, kind, key, created_at)
SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, value ->> 2, ?2 FROM json_each(?1)`

/** Builds the shared rules on a driver. */
export function createDatabase(driver: SqlDriver, options: DatabaseOptions): Database {
  const { nowSeconds, onListenerError } = options
  const subscriptions = new Set<{ readonly listener: Listener; readonly reload: Reload | undefined }>()
  let tail: Promise<unknown> = Promise.resolve()
  /** Number of the newest change; undefined: ask the database. */
  let head: number | undefined
  /** Number of the newest change that listeners know of; undefined where nobody else writes, or nobody asks. */
  let told: number | undefined

  /** The write is done whatever listeners make of it: one that fails must neither hide it nor keep the news from the others. */
  function tell(changes: readonly Change[]): void {
    for (const { listener } of subscriptions) {
      try {
        listener(changes)
      } catch (error) {
        onListenerError(error)
      }
    }
  }

  /** Tells of a write of this process, after those of others that came before it. */
  async function announce(numbered: readonly Change[]): Promise<void> {
    const [first, last] = [numbered[0]!.sequence, numbered[numbered.length - 1]!.sequence]
    try {
      if (told !== undefined && told < first - 1) await tellOfOthers(told, first)
    } catch (error) {
      // The write is done; the next look at the log finds it with the others.
      onListenerError(error)
      return
    }
    // Everything was read anew, this write with it.
    if (told !== undefined && told >= last) return
    tell(numbered)
    if (told !== undefined) told = last
  }

  /**
   * Tells of the changes after `known` and before `end`. The row of `known` is read again: without it, the log was pruned or set back in
   * the meantime, and everything has to be read anew. Only in the queue: no write of ours may come between reading and telling.
   */
  async function tellOfOthers(known: number, end = Number.POSITIVE_INFINITY): Promise<void> {
    for (let from = known; from < end - 1; ) {
      const found = await readChanges(driver.run, from - 1, READ_AT_ONCE)
      const gap = found.some(({ sequence }, index) => sequence !== Math.max(from, 1) + index)
      if (gap || (from > 0 && found.length === 0)) {
        told = head = await readHead(driver.run)
        for (const { reload } of subscriptions) await reload?.()
        return
      }
      const news = found.filter(({ sequence }) => sequence > from && sequence < end)
      if (news.length > 0) tell(await options.withValues(driver.run, news))
      from = told = Math.max(from, ...news.map(({ sequence }) => sequence))
      if (found.length < READ_AT_ONCE) break
    }
    if (head !== undefined) head = Math.max(head, told ?? 0)
  }

  interface Guard {
    readonly condition: Statement
    readonly refuse: (error: Error) => Error | undefined
  }

  /** @returns undefined if somebody else took the number, unless it was the `last` try */
  async function tryOnce<T>(
    decide: (run: SqlDriver['run']) => Promise<Decision<T>>,
    guard: Guard | undefined,
    last: boolean,
  ): Promise<{ readonly result: T } | undefined> {
    head ??= await readHead(driver.run)
    const first = head + 1
    const { statements, changes, result } = await decide(driver.run)
    const numbered = changes.map((change, index): Change => ({ ...change, sequence: first + index }))
    if (numbered.length === 0 && statements.length === 0) return { result }
    const rows = JSON.stringify(numbered.map((change) => [change.sequence, change.kind, change.key]))
    const log = numbered.length === 0 ? [] : [{ sql: INSERT_CHANGES, args: [rows, nowSeconds()] }]
    try {
      await driver.batch([...(guard ? [guard.condition] : []), ...log, ...statements])
    } catch (error) {
      head = undefined
      if (!last && error instanceof Error && NUMBER_TAKEN.test(error.message)) return undefined
      throw (error instanceof Error && guard?.refuse(error)) || error
    }
    head = first + numbered.length - 1
    if (numbered.length > 0) await announce(numbered)
    return { result }
  }

  async function attempt<T>(decide: (run: SqlDriver['run']) => Promise<Decision<T>>, guard?: Guard): Promise<T> {
    const done = await tryOnce(decide, guard, false)
    if (done) return done.result
    const again = async () => {
      for (let attempts = 2; ; attempts++) {
        const done = await tryOnce(decide, guard, attempts === MAX_ATTEMPTS)
        if (done) return done.result
      }
    }
    return driver.inTurn ? driver.inTurn(again) : again()
  }

  const databaseWith = (guard?: Guard): Database => ({
    nowSeconds,
    run: driver.run,
    write(decide) {
      const done = tail.then(() => attempt(decide, guard))
      tail = done.catch(() => undefined)
      return done
    },
    guarded: (condition, refuse) => databaseWith({ condition, refuse }),
    subscribe(listener, reload) {
      const subscription = { listener, reload }
      subscriptions.add(subscription)
      return () => subscriptions.delete(subscription)
    },
    catchUp() {
      const done = tail.then(async () => {
        if (told === undefined) told = await readHead(driver.run)
        else await tellOfOthers(told)
      })
      tail = done.catch(() => undefined)
      return done
    },
    async close() {
      await tail
      await driver.close()
    },
  })
  return databaseWith()
}

/** Changes after `sequence`, oldest first, without values. */
export async function readChanges(run: SqlDriver['run'], sequence: number, limit: number): Promise<readonly Change[]> {
  const sql = 'SELECT sequence, kind, key FROM changes WHERE sequence > ?1 ORDER BY sequence LIMIT ?2'
  return (await run({ sql, args: [sequence, limit] })).map((row) => ({
    sequence: Number(row.sequence),
    kind: row.kind as Change['kind'],
    key: row.key as string,
  }))
}

/** The number of the newest change, 0 if there was none. */
export async function readHead(run: SqlDriver['run']): Promise<number> {
  const [row] = await run({ sql: 'SELECT coalesce(max(sequence), 0) AS head FROM changes', args: [] })
  return Number(row!.head)
}

/** A column of bytes: drivers return ArrayBuffer, Buffer or, as D1 does, a list of numbers. */
export function bytesOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  return Array.isArray(value) ? Uint8Array.from(value) : new Uint8Array(value as ArrayBuffer)
}

/** SPIRE's prefix on what the database said. */
export function databaseError(cause: unknown): StatusError {
  if (cause instanceof StatusError) return cause
  const text = (cause instanceof Error ? cause.message : String(cause))
    .replace(/^((?:SQLITE_[A-Z_]+|D1_[A-Z_]+): )+/, '')
    .replace(/: SQLITE_[A-Z_]+( \(extended: SQLITE_[A-Z_]+\))?$/, '')
  const constraint = /(UNIQUE|FOREIGN KEY) constraint failed/.test(text)
  return new StatusError(constraint ? 'ALREADY_EXISTS' : 'UNKNOWN', `datastore-sql: ${text}`, { cause })
}

/** The error of a row that is not there. */
export function recordNotFound(): StatusError {
  return new StatusError('NOT_FOUND', 'datastore-sql: record not found')
}

/** The error SQLite would give for a second row with the same values. */
export function uniqueViolation(columns: string): StatusError {
  return new StatusError('ALREADY_EXISTS', `datastore-sql: UNIQUE constraint failed: ${columns}`)
}
