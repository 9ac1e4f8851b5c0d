import type { EpochSeconds } from '../../core/clock.ts'
import type { Entry } from '../../core/entry.ts'
import { StatusError } from '../../core/error.ts'
import { type Selector, selectorText } from '../../core/selector.ts'
import type { ServerDeps } from '../deps.ts'
import type { Source } from './source.ts'

const SHOWN = 10

/**
 * The entry that a token earns: below its source, with no selector that the token lacks. The store is asked, not an index, so that what was
 * deleted elsewhere a moment ago is gone.
 *
 * @param wanted SPIFFE ID, needed where there are several; empty: any
 * @throws StatusError PERMISSION_DENIED if there is none, INVALID_ARGUMENT if there are several
 */
export async function earnedEntry(
  deps: Pick<ServerDeps, 'store' | 'entries' | 'adminIds'>,
  source: Source,
  selectors: readonly Selector[],
  wanted: string,
  now: EpochSeconds,
): Promise<Entry> {
  const matching = await matchingEntries(deps, source, selectors, now)
  const chosen = wanted === '' ? matching : matching.filter((entry) => entry.spiffeId === wanted)
  const ids = [...new Set(chosen.map((entry) => entry.spiffeId))]
  if (ids.length > 1) {
    const shown = ids.slice(0, SHOWN).join(', ')
    throw new StatusError(
      'INVALID_ARGUMENT',
      `the token fits several entries; name the SPIFFE ID that is wanted: ${shown}`,
    )
  }
  const entry = chosen[0]
  if (!entry) throw none(source, selectors, wanted)
  await refusePower(deps, source, entry)
  return entry
}

async function matchingEntries(
  { store }: Pick<ServerDeps, 'store'>,
  source: Source,
  selectors: readonly Selector[],
  now: EpochSeconds,
): Promise<readonly Entry[]> {
  if (selectors.length === 0) return []
  const filter = { parentId: source.parentId, selectors: { selectors, match: 'subset' } } as const
  const { items } = await store.entries.list(filter, { size: 0, token: '' })
  return items.filter((entry) => !entry.storeSvid && (entry.expiresAt === 0 || entry.expiresAt > now))
}

/**
 * What an SVID may do hangs on its SPIFFE ID alone: also on those in the configuration, and on entries elsewhere in the tree.
 * @throws StatusError PERMISSION_DENIED
 */
async function refusePower(
  deps: Pick<ServerDeps, 'entries' | 'adminIds'>,
  source: Source,
  entry: Entry,
): Promise<void> {
  const sameId = [entry, ...(await deps.entries.bySpiffeId(entry.spiffeId))]
  const isAdmin = deps.adminIds.has(entry.spiffeId) || sameId.some((one) => one.admin)
  if (isAdmin && !source.allowAdmin) {
    throw denied(`"${entry.spiffeId}" is an administrator, which tokens of the source "${source.name}" do not make`)
  }
  if (sameId.some((one) => one.downstream) && !source.allowDownstream) {
    throw denied(`"${entry.spiffeId}" is a server below, which tokens of the source "${source.name}" do not make`)
  }
}

function none({ parentId }: Source, selectors: readonly Selector[], wanted: string): StatusError {
  const what = wanted === '' ? 'no entry' : 'no entry with the SPIFFE ID that is wanted'
  const has = selectors.map(selectorText).join(' ').slice(0, 2000)
  return denied(`${what} below "${parentId}" fits the token, whose selectors are: ${has}`)
}

function denied(message: string): StatusError {
  return new StatusError('PERMISSION_DENIED', message)
}
