import { StatusError } from '../../core/error.ts'
import type { MatchBehavior, Page, Paged } from '../../core/store.ts'
import type { Row, SqlValue, Statement } from '../database.ts'

/** Conditions joined by AND, with what they bind. */
export class Conditions {
  readonly texts: string[] = []
  readonly args: SqlValue[] = []

  /** `?` stands for one argument each. */
  add(text: string, ...args: SqlValue[]): void {
    this.texts.push(text)
    this.args.push(...args)
  }

  get where(): string {
    return this.texts.length === 0 ? '' : ` WHERE ${this.texts.join(' AND ')}`
  }
}

/**
 * Adds the cut of a page to a SELECT over rows with an `id`.
 * @throws StatusError INTERNAL if the token is no row number
 */
export function pageStatement(
  select: string,
  conditions: Conditions,
  page: Page,
  idColumn: string,
  complaint = 'could not parse token',
): Statement {
  if (page.size > 0 && page.token !== '') {
    if (!/^\d{1,19}$/.test(page.token)) throw new StatusError('INTERNAL', `${complaint} '${page.token}'`)
    conditions.add(`${idColumn} > ?`, Number(page.token))
  }
  const limit = page.size > 0 ? ` LIMIT ${Math.trunc(page.size)}` : ''
  return { sql: `${select}${conditions.where} ORDER BY ${idColumn}${limit}`, args: conditions.args }
}

/** A page of decoded rows; the token is the number of the last row read. */
export function paged<T>(rows: readonly Row[], page: Page, decode: (row: Row) => T): Paged<T> {
  const last = rows[rows.length - 1]
  return { items: rows.map(decode), nextToken: page.size > 0 && last ? String(last.id) : '' }
}

/**
 * SQL for "the set of owner rows whose members meet a given set": `members` yields one row (`owner`) for each stored
 * member that is among the given ones, `size` counts all members of `matched.owner`.
 * @throws StatusError UNKNOWN for a behaviour that is none of the four
 */
export function matchSql(match: MatchBehavior, members: string, size: string, given: number): string {
  const all = `SELECT owner FROM (SELECT owner, count(*) AS met FROM (${members}) AS members GROUP BY owner) AS matched`
  switch (match) {
    case 'any':
      return all
    case 'superset':
      return `${all} WHERE met = ${given}`
    case 'subset':
      return `${all} WHERE met = (${size})`
    case 'exact':
      return `${all} WHERE met = ${given} AND met = (${size})`
    default:
      throw new StatusError('UNKNOWN', `datastore-sql: unhandled match behavior "${String(match)}"`)
  }
}
