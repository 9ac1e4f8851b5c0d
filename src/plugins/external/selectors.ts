import type { PluginCalls } from './calls.ts'

/** More of them, or longer ones, no entry could name; databases and caches keep all. */
const MAX_SELECTORS = 1024
const MAX_SELECTOR_LENGTH = 4096

/** Values of selectors that a plugin found. @throws StatusError INTERNAL */
export function checkedSelectorValues(values: readonly string[], calls: PluginCalls): readonly string[] {
  if (values.length > MAX_SELECTORS) {
    throw calls.error('INTERNAL', `plugin response has more than ${MAX_SELECTORS} selectors`)
  }
  for (const value of values) {
    if (value === '') throw calls.error('INTERNAL', 'plugin response has an empty selector value')
    if (value.length > MAX_SELECTOR_LENGTH) {
      throw calls.error(
        'INTERNAL',
        `plugin response has a selector value of more than ${MAX_SELECTOR_LENGTH} characters`,
      )
    }
  }
  return values
}
