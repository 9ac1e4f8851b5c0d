import { readFileSync } from 'node:fs'
import { errorMessage } from '../core/error.ts'
import { parseSpiffeId, pathOf, trustDomainOf } from '../core/spiffe-id.ts'
import type { CommandContext } from './command.ts'
import { CommandError, fileError } from './failure.ts'

/** A SPIFFE ID as the APIs have it. */
export interface IdMessage {
  readonly trustDomain: string
  readonly path: string
}

/**
 * Reads the SPIFFE ID of a flag.
 * @throws StatusError with go-spiffe's text
 */
export function idMessage(text: string): IdMessage {
  const id = parseSpiffeId(text)
  return { trustDomain: trustDomainOf(id), path: pathOf(id) }
}

/**
 * Reads `type:value`; the value may hold further colons.
 * @throws CommandError
 */
export function selectorMessage(text: string): { type: string; value: string } {
  const colon = text.indexOf(':')
  if (colon < 0) throw new CommandError(`selector "${text}" must be formatted as type:value`)
  return { type: text.slice(0, colon), value: text.slice(colon + 1) }
}

/** How a list in a filter is compared with that of a record, by the word for it: the numbers of both enums. */
export const MATCH_BEHAVIORS: Readonly<Record<string, 0 | 1 | 2 | 3>> = { exact: 0, subset: 1, superset: 2, any: 3 }

/**
 * Checks that a number fits the 32 bits a message has for it.
 * @throws CommandError `<what>: ...`
 */
export function int32(value: number, what: string): number {
  if (value < -(2 ** 31) || value >= 2 ** 31) {
    throw new CommandError(`${what}: overflow converting int(${value}) to int32`)
  }
  return value
}

/** Runs a check and puts words in front of its complaint. */
export function complaining<T>(prefix: string, check: () => T): T {
  try {
    return check()
  } catch (error) {
    throw new CommandError(`${prefix}: ${errorMessage(error)}`, { cause: error })
  }
}

/**
 * Reads a file named by a flag, or standard input for `-`.
 * @throws CommandError with Go's text
 */
export function readInput(path: string, context: Pick<CommandContext, 'stdin'>): Uint8Array {
  if (path === '-') return context.stdin()
  try {
    return readFileSync(path)
  } catch (error) {
    throw fileError(error, 'open', path)
  }
}
