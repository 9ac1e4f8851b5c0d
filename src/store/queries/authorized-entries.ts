import type { Entry } from '../../core/entry.ts'
import { type Selector, selectorText } from '../../core/selector.ts'
import { type SpiffeId, serverId, trustDomainOf } from '../../core/spiffe-id.ts'
import type { SqlDriver } from '../database.ts'
import { decodeEntry, SELECT_ENTRY } from './entry-rows.ts'

/**
 * From the agent, and from the aliases (entries below the server) whose selectors are all among the node's, down through all entries.
 * `?1` the agent's ID, `?2` the server's, `?3` the node's selectors as JSON pairs.
 */
const AUTHORIZED = `WITH RECURSIVE earned(type, value) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?3)),
  reached(id) AS (
    SELECT ?1
    UNION SELECT a.spiffe_id FROM registered_entries AS a WHERE a.parent_id = ?2 AND NOT EXISTS (
      SELECT 1 FROM selectors AS s WHERE s.registered_entry_id = a.id AND NOT EXISTS (
        SELECT 1 FROM earned AS g WHERE g.type = s.type AND g.value = s.value))
    UNION SELECT c.spiffe_id FROM reached AS r JOIN registered_entries AS c ON c.parent_id = r.id
  )
  ${SELECT_ENTRY} WHERE e.parent_id IN (SELECT id FROM reached) ORDER BY e.id`

/** The entries that an agent may serve, in one statement. @see server.md 6.2 */
export async function authorizedEntries(
  run: SqlDriver['run'],
  agentId: SpiffeId,
  selectors: readonly Selector[],
): Promise<readonly Entry[]> {
  const trustDomain = trustDomainOf(agentId)
  const pairs = new Map(selectors.map((selector) => [selectorText(selector), [selector.type, selector.value]]))
  const args = [agentId, serverId(trustDomain), JSON.stringify([...pairs.values()])]
  const rows = await run({ sql: AUTHORIZED, args })
  return rows.map(decodeEntry).filter((entry) => trustDomainOf(entry.spiffeId) === trustDomain)
}
