import { StatusError } from '../../core/error.ts'
import type { AttestedNode } from '../../core/node.ts'
import { normaliseSelectors, type Selector } from '../../core/selector.ts'
import type { SpiffeId } from '../../core/spiffe-id.ts'
import type { NodeFilter, NodeStore } from '../../core/store.ts'
import { type Database, type NewChange, type Row, recordNotFound, type SqlDriver, type Statement } from '../database.ts'
import { deleteEntries, entriesWhere, entryRemoval } from './entry-rows.ts'
import { Conditions, matchSql, paged, pageStatement } from './paging.ts'

const selectNode = (selectors: string) => `SELECT n.id AS id, json_array(
  n.spiffe_id, n.data_type, n.serial_number, n.expires_at, n.new_serial_number, n.new_expires_at, n.can_reattest,
  n.agent_version, ${selectors}) AS document FROM attested_node_entries AS n`
const SELECT_NODE = selectNode(`(SELECT json_group_array(json_array(s.type, s.value)) FROM
  (SELECT type, value FROM node_resolver_map_entries WHERE spiffe_id = n.spiffe_id ORDER BY type, value) AS s)`)
const SELECT_NODE_LEAN = selectNode('json_array()')
const SELECT_BY_ID = `${SELECT_NODE} WHERE n.spiffe_id = ?1`

const UPSERT_NODE = `INSERT INTO attested_node_entries (spiffe_id, data_type, serial_number, expires_at,
  new_serial_number, new_expires_at, can_reattest, agent_version) VALUES (?1, ?2, ?3, ?4, '', 0, ?5, '')
  ON CONFLICT (spiffe_id) DO UPDATE SET serial_number = excluded.serial_number, expires_at = excluded.expires_at,
  new_serial_number = '', new_expires_at = 0, can_reattest = excluded.can_reattest`
const DELETE_SELECTORS = 'DELETE FROM node_resolver_map_entries WHERE spiffe_id = ?1'
const INSERT_SELECTORS = `INSERT INTO node_resolver_map_entries (spiffe_id, type, value)
  SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2)`
const UPDATE_NODE = `UPDATE attested_node_entries SET serial_number = ?2, expires_at = ?3, new_serial_number = ?4,
  new_expires_at = ?5, agent_version = ?6 WHERE spiffe_id = ?1`

/** Attested agents. */
export function nodeStore(database: Database): NodeStore {
  /** Reads a node, writes what `change` makes of it; undefined leaves it. */
  const rewrite = (id: SpiffeId, change: (node: AttestedNode) => AttestedNode | undefined): Promise<boolean> =>
    database.write(async (run) => {
      const before = await find(run, id)
      if (!before) throw recordNotFound()
      const after = change(before)
      if (!after) return { statements: [], changes: [], result: false }
      const { serialNumber, expiresAt, newSerialNumber, newExpiresAt, agentVersion } = after
      const args = [id, serialNumber, expiresAt, newSerialNumber, newExpiresAt, agentVersion]
      return { statements: [{ sql: UPDATE_NODE, args }], changes: [nodeChange(id, after)], result: true }
    })

  return {
    get: (id) => find(database.run, id),

    async list(filter, page, withSelectors) {
      const select = withSelectors ? SELECT_NODE : SELECT_NODE_LEAN
      return paged(await database.run(pageStatement(select, filterConditions(filter), page, 'n.id')), page, decodeNode)
    },

    async count(filter) {
      const conditions = filterConditions(filter)
      const sql = `SELECT count(*) AS count FROM attested_node_entries AS n${conditions.where}`
      const [row] = await database.run({ sql, args: conditions.args })
      return Number(row!.count)
    },

    recordAttestation: (node) =>
      database.write(async (run) => {
        const before = await find(run, node.id)
        // Banned while the attestation was under way, perhaps by another server.
        if (before?.serialNumber === '') throw new StatusError('PERMISSION_DENIED', 'agent is banned')
        const selectors = normaliseSelectors(node.selectors)
        const after: AttestedNode = {
          ...node,
          attestationType: before?.attestationType ?? node.attestationType,
          newSerialNumber: '',
          newExpiresAt: 0,
          agentVersion: before?.agentVersion ?? '',
          selectors,
        }
        const upsertArgs = [node.id, node.attestationType, node.serialNumber, node.expiresAt, Number(node.canReattest)]
        const statements: Statement[] = [
          { sql: UPSERT_NODE, args: upsertArgs },
          { sql: DELETE_SELECTORS, args: [node.id] },
        ]
        if (selectors.length > 0) statements.push({ sql: INSERT_SELECTORS, args: [node.id, pairs(selectors)] })
        return { statements, changes: [nodeChange(node.id, after)], result: undefined }
      }),

    async recordRenewal(id, newSerialNumber, newExpiresAt) {
      await rewrite(id, (node) => {
        // Banned while the renewal was under way, perhaps by another server: a pending serial would bring it back.
        if (node.serialNumber === '') throw new StatusError('PERMISSION_DENIED', 'agent is banned')
        return { ...node, newSerialNumber, newExpiresAt }
      })
    },

    activateRenewal: (id, newSerialNumber) =>
      rewrite(id, (node) =>
        node.serialNumber === '' || newSerialNumber === '' || node.newSerialNumber !== newSerialNumber
          ? undefined
          : {
              ...node,
              serialNumber: newSerialNumber,
              expiresAt: node.newExpiresAt,
              newSerialNumber: '',
              newExpiresAt: 0,
            },
      ),

    async setAgentVersion(id, agentVersion) {
      await rewrite(id, (node) => (node.agentVersion === agentVersion ? undefined : { ...node, agentVersion }))
    },

    async ban(id) {
      await rewrite(id, (node) => ({ ...node, serialNumber: '', newSerialNumber: '' }))
    },

    delete: (id) =>
      database.write(async (run) => {
        const node = await find(run, id)
        if (!node) throw recordNotFound()
        const aliases = node.attestationType === 'join_token' ? await aliasEntries(run, id) : []
        return {
          statements: [...deleteNodes([id]), ...deleteEntries(aliases, database.nowSeconds())],
          changes: [nodeChange(id, null), ...aliases.map(entryRemoval)],
          result: { deletedEntries: aliases },
        }
      }),

    prune: (expiredBefore, includeNonReattestable, limit) =>
      database.write(async (run) => {
        const sql = `SELECT spiffe_id FROM attested_node_entries WHERE expires_at < ?1 AND serial_number <> ''
          AND (can_reattest = 1 OR ?2 = 1) ORDER BY expires_at LIMIT ?3`
        const rows = await run({ sql, args: [expiredBefore, Number(includeNonReattestable), limit] })
        const ids = rows.map((row) => row.spiffe_id as SpiffeId)
        return {
          statements: deleteNodes(ids),
          changes: ids.map((id) => nodeChange(id, null)),
          result: ids.length,
        }
      }),
  }
}

async function find(run: SqlDriver['run'], id: SpiffeId): Promise<AttestedNode | undefined> {
  const [row] = await run({ sql: SELECT_BY_ID, args: [id] })
  return row && decodeNode(row)
}

/** The nodes that are there, of those asked for. */
export async function nodesWithIds(run: SqlDriver['run'], ids: readonly SpiffeId[]): Promise<AttestedNode[]> {
  if (ids.length === 0) return []
  const sql = `${SELECT_NODE} WHERE n.spiffe_id IN (SELECT value FROM json_each(?1))`
  return (await run({ sql, args: [JSON.stringify(ids)] })).map(decodeNode)
}

/** Entries made with a join token: the one selector is the parent's own ID. */
async function aliasEntries(run: SqlDriver['run'], id: SpiffeId) {
  return (await entriesWhere(run, 'e.parent_id', [id])).filter(
    ({ selectors }) => selectors.length === 1 && selectors[0]!.type === 'spiffe_id' && selectors[0]!.value === id,
  )
}

function deleteNodes(ids: readonly SpiffeId[]): Statement[] {
  if (ids.length === 0) return []
  const among = 'WHERE spiffe_id IN (SELECT value FROM json_each(?1))'
  const args = [JSON.stringify(ids)]
  return [
    { sql: `DELETE FROM node_resolver_map_entries ${among}`, args },
    { sql: `DELETE FROM attested_node_entries ${among}`, args },
  ]
}

function nodeChange(id: SpiffeId, node: AttestedNode | null): NewChange {
  return { kind: 'node', key: id, node }
}

function pairs(selectors: readonly Selector[]): string {
  return JSON.stringify(selectors.map(({ type, value }) => [type, value]))
}

type Document = readonly [
  string,
  string,
  string,
  number,
  string,
  number,
  number,
  string,
  readonly (readonly [string, string])[],
]

function decodeNode(row: Row): AttestedNode {
  const document = JSON.parse(row.document as string) as Document
  return {
    id: document[0] as SpiffeId,
    attestationType: document[1],
    serialNumber: document[2],
    expiresAt: document[3],
    newSerialNumber: document[4],
    newExpiresAt: document[5],
    canReattest: document[6] === 1,
    agentVersion: document[7],
    selectors: document[8].map(([type, value]): Selector => ({ type, value })),
  }
}

function filterConditions(filter: NodeFilter): Conditions {
  const conditions = new Conditions()
  if (filter.attestationType) conditions.add('n.data_type = ?', filter.attestationType)
  if (filter.banned !== undefined) conditions.add(`n.serial_number ${filter.banned ? '=' : '<>'} ''`)
  if (filter.canReattest !== undefined) conditions.add('n.can_reattest = ?', Number(filter.canReattest))
  if (filter.expiresBefore !== undefined) conditions.add('n.expires_at < ?', filter.expiresBefore)
  if (filter.selectors) {
    const given = normaliseSelectors(filter.selectors.selectors)
    if (given.length === 0) throw new StatusError('INVALID_ARGUMENT', 'cannot list by empty selectors set')
    const members = `SELECT s.spiffe_id AS owner FROM json_each(?) AS g
      CROSS JOIN node_resolver_map_entries AS s ON s.type = g.value ->> 0 AND s.value = g.value ->> 1`
    const size = 'SELECT count(*) FROM node_resolver_map_entries WHERE spiffe_id = matched.owner'
    conditions.add(`n.spiffe_id IN (${matchSql(filter.selectors.match, members, size, given.length)})`, pairs(given))
  }
  return conditions
}
