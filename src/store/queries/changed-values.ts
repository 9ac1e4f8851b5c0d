import type { SpiffeId } from '../../core/spiffe-id.ts'
import type { Change } from '../../core/store.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import type { SqlDriver } from '../database.ts'
import { bundlesNamed } from './bundles.ts'
import { entriesWhere } from './entry-rows.ts'
import { nodesWithIds } from './nodes.ts'

/** Adds to changes what their keys name now, in at most three statements. A value may be newer than its change: that one comes, too. */
export async function withValues(run: SqlDriver['run'], changes: readonly Change[]): Promise<readonly Change[]> {
  const keys = (kind: Change['kind']) => [
    ...new Set(changes.filter((change) => change.kind === kind).map((change) => change.key)),
  ]
  const [entries, nodes, bundles] = await Promise.all([
    entriesWhere(run, 'e.entry_id', keys('entry')),
    nodesWithIds(run, keys('node') as SpiffeId[]),
    bundlesNamed(run, keys('bundle') as TrustDomain[]),
  ])
  const entryById = new Map(entries.map((entry) => [entry.id, entry]))
  const nodeById = new Map<string, (typeof nodes)[number]>(nodes.map((node) => [node.id, node]))
  const bundleByName = new Map<string, (typeof bundles)[number]>(bundles.map((bundle) => [bundle.trustDomain, bundle]))
  return changes.map((change) => {
    const { kind, key } = change
    if (kind === 'entry') return { ...change, entry: entryById.get(key) ?? null }
    if (kind === 'node') return { ...change, node: nodeById.get(key) ?? null }
    if (kind === 'bundle') return { ...change, bundle: bundleByName.get(key) ?? null }
    return change
  })
}
