import { StatusError } from './error.ts'

/** One attested property: `type` names the attestor (no colon in it), `value` is free text. */
export interface Selector {
  readonly type: string
  readonly value: string
}

/**
 * Checks a selector that came from outside.
 * @throws StatusError INVALID_ARGUMENT
 */
export function requireSelector(selector: Selector): Selector {
  if (selector.type === '') throw new StatusError('INVALID_ARGUMENT', 'missing selector type')
  if (selector.type.includes(':')) throw new StatusError('INVALID_ARGUMENT', "selector type contains ':'")
  if (selector.value === '') throw new StatusError('INVALID_ARGUMENT', 'missing selector value')
  return selector
}

/** `type:value`, the form people read and write; unique per selector because a type has no colon. */
export function selectorText(selector: Selector): string {
  return `${selector.type}:${selector.value}`
}

/** Sorts by type, then value, and drops repetitions: the form in which sets of selectors are kept and compared. */
export function normaliseSelectors(selectors: readonly Selector[]): Selector[] {
  const unique = new Map(selectors.map((selector) => [selectorText(selector), selector]))
  return [...unique.values()].sort(compareSelectors)
}

/** Orders by type, then by value, in code unit order. */
function compareSelectors(a: Selector, b: Selector): number {
  if (a.type !== b.type) return a.type < b.type ? -1 : 1
  if (a.value !== b.value) return a.value < b.value ? -1 : 1
  return 0
}
