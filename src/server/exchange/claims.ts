import { isJsonObject } from '../../core/json-object.ts'

/** The claims of a verified token. */
export type Claims = Readonly<Record<string, unknown>>

/** Selector keys with their values. */
export type DerivedSelectors = Readonly<Record<string, string | readonly string[]>>

const MAX_VALUES = 100
const MAX_VALUE_LENGTH = 1024

/** What a claim is as text: of a list each member. What is neither text, whole number nor truth value is left out. */
export function claimTexts(claims: Claims, path: readonly string[]): readonly string[] {
  const value = claimAt(claims, path)
  const list: readonly unknown[] = Array.isArray(value) ? value.slice(0, MAX_VALUES) : [value]
  return list.map(textOf).filter((text) => text !== undefined)
}

/** A claim that is text. */
export function textClaim(claims: Claims, name: string): string | undefined {
  const value = claimAt(claims, [name])
  return typeof value === 'string' ? textOf(value) : undefined
}

/** The text members of a claim that is an object, by name. */
export function claimMembers(
  claims: Claims,
  path: readonly string[],
): readonly (readonly [string, readonly string[]])[] {
  const value = claimAt(claims, path)
  if (!isJsonObject(value)) return []
  return Object.keys(value)
    .slice(0, MAX_VALUES)
    .map((name) => [name, claimTexts(value, [name])] as const)
}

function claimAt(claims: Claims, path: readonly string[]): unknown {
  let value: unknown = claims
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Claims)[name]
  }
  return value
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'boolean') return String(value)
  if (typeof value === 'number') return Number.isSafeInteger(value) ? String(value) : undefined
  if (typeof value !== 'string' || value === '' || value.length > MAX_VALUE_LENGTH) return undefined
  // A line break or the like would let one value look like two wherever selectors are shown.
  return /\p{Cc}/u.test(value) ? undefined : value
}
