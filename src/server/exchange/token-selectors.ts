import { isConfirmed } from '../../core/confirmed-claim.ts'
import { normaliseSelectors, type Selector } from '../../core/selector.ts'
import { type Claims, claimMembers, claimTexts } from './claims.ts'
import type { Source } from './source.ts'
import type { ClaimSelector } from './source-types.ts'

/** What a token says about its holder, by selector key. Only keys of the source's table are here. */
export type TokenFacts = ReadonlyMap<string, readonly string[]>

/** Reads the claims that a source makes selectors of. */
export function tokenFacts(source: Source, claims: Claims): TokenFacts {
  const facts = new Map<string, readonly string[]>()
  const put = (key: string, values: readonly string[]) => {
    if (values.length > 0) facts.set(key, values)
  }
  if (source.clusterName !== undefined) put('cluster_name', [source.clusterName])
  for (const row of source.claimSelectors) {
    if (row.verifiedBy !== undefined && isConfirmed(claims, row.verifiedBy) !== true) continue
    if (row.key.endsWith('.*')) putMembers(row, claims, put)
    else put(row.key, claimTexts(claims, row.path))
  }
  for (const [key, value] of Object.entries(source.derive?.(claims) ?? {})) {
    put(key, typeof value === 'string' ? [value] : value)
  }
  return facts
}

/** `principal_tags.*`: a key for each member. A name with a colon could pass for another key with a longer value. */
function putMembers(row: ClaimSelector, claims: Claims, put: (key: string, values: readonly string[]) => void): void {
  for (const [name, values] of claimMembers(claims, row.path)) {
    if (name !== '' && !name.includes(':')) put(`${row.key.slice(0, -1)}${name}`, values)
  }
}

/** The selectors that entries of the source are matched with. */
export function tokenSelectors(source: Source, facts: TokenFacts): readonly Selector[] {
  const selectors: Selector[] = []
  for (const [key, values] of facts) {
    for (const value of values) selectors.push({ type: source.type, value: `${key}:${value}` })
  }
  return normaliseSelectors(selectors)
}

/** The key of the allow list that a token does not meet; undefined if it meets all. */
export function notAllowed(source: Source, facts: TokenFacts): string | undefined {
  return Object.keys(source.allow).find((key) => !facts.get(key)?.some((value) => source.allow[key]!.includes(value)))
}
