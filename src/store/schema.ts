import type { sqlite } from './columns/sqlite.ts'

/** What a dialect provides to describe tables with. */
export type ColumnKit = typeof sqlite

/**
 * All tables, described once; a dialect's kit makes its own of them. Names are SPIRE's where SPIRE has the table, because
 * texts of constraint errors show them. Moments are whole Unix seconds, 0 for never.
 */
export function define(kit: ColumnKit) {
  const bundles = kit.table(
    'bundles',
    {
      id: kit.rowId('id'),
      /** `spiffe://<td>`, as SPIRE stores it. */
      trustDomain: kit.text('trust_domain').notNull(),
      sequenceNumber: kit.integer('sequence_number').notNull(),
      refreshHint: kit.integer('refresh_hint').notNull(),
      /** `{ x509, jwt, wit }`, bytes in base64. */
      authorities: kit.json('authorities').notNull(),
    },
    (table) => [kit.uniqueIndex('uix_bundles_trust_domain').on(table.trustDomain)],
  )

  const attestedNodes = kit.table(
    'attested_node_entries',
    {
      id: kit.rowId('id'),
      spiffeId: kit.text('spiffe_id').notNull(),
      dataType: kit.text('data_type').notNull(),
      serialNumber: kit.text('serial_number').notNull(),
      expiresAt: kit.integer('expires_at').notNull(),
      newSerialNumber: kit.text('new_serial_number').notNull(),
      newExpiresAt: kit.integer('new_expires_at').notNull(),
      canReattest: kit.boolean('can_reattest').notNull(),
      agentVersion: kit.text('agent_version').notNull(),
    },
    (table) => [
      kit.uniqueIndex('uix_attested_node_entries_spiffe_id').on(table.spiffeId),
      kit.index('idx_attested_node_entries_expires_at').on(table.expiresAt),
    ],
  )

  const nodeSelectors = kit.table(
    'node_resolver_map_entries',
    {
      id: kit.rowId('id'),
      spiffeId: kit.text('spiffe_id').notNull(),
      type: kit.text('type').notNull(),
      value: kit.text('value').notNull(),
    },
    (table) => [
      kit.uniqueIndex('idx_node_resolver_map').on(table.spiffeId, table.type, table.value),
      kit.index('idx_node_resolver_map_type_value').on(table.type, table.value),
    ],
  )

  const entries = kit.table(
    'registered_entries',
    {
      id: kit.rowId('id'),
      entryId: kit.text('entry_id').notNull(),
      spiffeId: kit.text('spiffe_id').notNull(),
      parentId: kit.text('parent_id').notNull(),
      x509SvidTtl: kit.integer('ttl').notNull(),
      jwtSvidTtl: kit.integer('jwt_svid_ttl').notNull(),
      admin: kit.boolean('admin').notNull(),
      downstream: kit.boolean('downstream').notNull(),
      expiry: kit.integer('expiry').notNull(),
      revisionNumber: kit.integer('revision_number').notNull(),
      storeSvid: kit.boolean('store_svid').notNull(),
      hint: kit.text('hint').notNull(),
      createdAt: kit.integer('created_at').notNull(),
      disableX509SvidPrefetch: kit.boolean('disable_x509_svid_prefetch').notNull(),
      jwtSvidIncludeJti: kit.boolean('jwt_svid_include_jti').notNull(),
      /** Hash of SPIFFE ID, parent and selectors; finds candidates for "similar", which are then compared. */
      fingerprint: kit.integer('fingerprint').notNull(),
    },
    (table) => [
      kit.uniqueIndex('uix_registered_entries_entry_id').on(table.entryId),
      kit.index('idx_registered_entries_spiffe_id').on(table.spiffeId),
      kit.index('idx_registered_entries_parent_id').on(table.parentId),
      kit.index('idx_registered_entries_expiry').on(table.expiry),
      kit.index('idx_registered_entries_hint').on(table.hint),
      kit.index('idx_registered_entries_fingerprint').on(table.fingerprint),
    ],
  )

  const selectors = kit.table(
    'selectors',
    {
      id: kit.rowId('id'),
      entryRow: kit
        .integer('registered_entry_id')
        .notNull()
        .references(() => entries.id, { onDelete: 'cascade' }),
      type: kit.text('type').notNull(),
      value: kit.text('value').notNull(),
    },
    (table) => [
      kit.uniqueIndex('idx_selector_entry').on(table.entryRow, table.type, table.value),
      kit.index('idx_selectors_type_value').on(table.type, table.value),
    ],
  )

  const dnsNames = kit.table(
    'dns_names',
    {
      id: kit.rowId('id'),
      entryRow: kit
        .integer('registered_entry_id')
        .notNull()
        .references(() => entries.id, { onDelete: 'cascade' }),
      value: kit.text('value').notNull(),
    },
    (table) => [kit.uniqueIndex('idx_dns_entry').on(table.entryRow, table.value)],
  )

  const federatedEntries = kit.table(
    'federated_registration_entries',
    {
      bundleRow: kit
        .integer('bundle_id')
        .notNull()
        .references(() => bundles.id, { onDelete: 'cascade' }),
      entryRow: kit
        .integer('registered_entry_id')
        .notNull()
        .references(() => entries.id, { onDelete: 'cascade' }),
    },
    (table) => [
      kit.primaryKey({ columns: [table.bundleRow, table.entryRow] }),
      kit.index('idx_federated_registration_entries_registered_entry_id').on(table.entryRow),
    ],
  )

  const relationships = kit.table(
    'federated_trust_domains',
    {
      id: kit.rowId('id'),
      /** The bare name, as SPIRE stores it. */
      trustDomain: kit.text('trust_domain').notNull(),
      bundleEndpointUrl: kit.text('bundle_endpoint_url').notNull(),
      bundleEndpointProfile: kit.text('bundle_endpoint_profile').notNull(),
      endpointSpiffeId: kit.text('endpoint_spiffe_id').notNull(),
    },
    (table) => [kit.uniqueIndex('uix_federated_trust_domains_trust_domain').on(table.trustDomain)],
  )

  const joinTokens = kit.table(
    'join_tokens',
    { id: kit.rowId('id'), token: kit.text('token').notNull(), expiry: kit.integer('expiry').notNull() },
    (table) => [kit.uniqueIndex('uix_join_tokens_token').on(table.token)],
  )

  const journals = kit.table('ca_journals', {
    id: kit.rowId('id'),
    data: kit.bytes('data').notNull(),
    activeX509AuthorityId: kit.text('active_x509_authority_id').notNull(),
  })

  /** The change log. Writers give the number, so that two that read the same state cannot both commit. */
  const changes = kit.table('changes', {
    sequence: kit.integer('sequence').primaryKey(),
    kind: kit.text('kind').notNull(),
    key: kit.text('key').notNull(),
    createdAt: kit.integer('created_at').notNull(),
  })

  /** Which replica does periodic work; `fence` grows with each owner. */
  const leases = kit.table('leases', {
    name: kit.text('name').primaryKey(),
    owner: kit.text('owner').notNull(),
    expiresAt: kit.integer('expires_at').notNull(),
    fence: kit.integer('fence').notNull(),
  })

  /** Private keys of authorities that replicas share, wrapped under a key of the platform. */
  const wrappedKeys = kit.table('wrapped_keys', {
    id: kit.text('id').primaryKey(),
    keyType: kit.text('key_type').notNull(),
    publicKey: kit.bytes('public_key').notNull(),
    wrapped: kit.bytes('wrapped').notNull(),
    kekVersion: kit.text('kek_version').notNull(),
  })

  /** What may happen once: nonces and exchanged tokens, until they could not be used anyway. */
  const uses = kit.table(
    'uses',
    { key: kit.text('key').primaryKey(), expiresAt: kit.integer('expires_at').notNull() },
    (table) => [kit.index('idx_uses_expires_at').on(table.expiresAt)],
  )

  return {
    bundles,
    attestedNodes,
    nodeSelectors,
    entries,
    selectors,
    dnsNames,
    federatedEntries,
    relationships,
    joinTokens,
    journals,
    changes,
    leases,
    wrappedKeys,
    uses,
  }
}
