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

/** Sorts by type, then value, each as the database does, and drops repetitions: the form in which sets of selectors are kept and compared. */
export function normaliseSelectors(selectors: readonly Selector[]): Selector[] {
  const unique = new Map(selectors.map((selector) => [selectorText(selector), selector]))
  return [...unique.values()].sort(compareSelectors)
}

function compareSelectors(a: Selector, b: Selector): number {
  return compareCodePoints(a.type, b.type) || compareCodePoints(a.value, b.value)
}

/** The order of UTF-8, in which databases keep texts. That of `<` has U+1F600 before U+FF5E. */
function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index += 1) {
    const [unit, other] = [a.charCodeAt(index), b.charCodeAt(index)]
    if (unit === other) continue
    const above = isSurrogate(unit)
    return above === isSurrogate(other) ? unit - other : above ? 1 : -1
  }
  return a.length - b.length
}

/** Half of a code point above all that take one unit. */
function isSurrogate(unit: number): boolean {
  return (unit & 0xf800) === 0xd800
}
