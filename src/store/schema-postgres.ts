import { postgres } from './columns/postgres.ts'
import { define } from './schema.ts'

/** The tables of PostgreSQL as drizzle-kit reads them to write migrations: see drizzle/generate. */
export const {
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
} = define(postgres)
