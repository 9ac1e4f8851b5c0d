import type { Change, ChangeLog } from '../core/store.ts'

const READ_AT_ONCE = 1_000

/**
 * The changes after a sequence number, for who is not told of them: one indexed read if there are none.
 * @returns with the number of the newest change; no changes if they are no longer, or not yet, in the log, or too many to be looked at one
 *   by one
 */
export async function changesAfter(
  log: Pick<ChangeLog, 'head' | 'since'>,
  sequence: number,
): Promise<{ readonly head: number; readonly changes?: readonly Change[] }> {
  const head = await log.head()
  if (head === sequence) return { head, changes: [] }
  if (head < sequence) return { head }
  const changes = await log.since(sequence, READ_AT_ONCE)
  const gapless = changes[0]?.sequence === sequence + 1 && changes.length < READ_AT_ONCE
  return gapless ? { head, changes } : { head }
}
