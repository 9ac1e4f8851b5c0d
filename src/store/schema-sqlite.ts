import { sqlite } from './columns/sqlite.ts'
import { define } from './schema.ts'

/** The tables as drizzle-kit reads them to write migrations: `drizzle-kit generate --dialect sqlite --schema src/store/schema-sqlite.ts --out drizzle/sqlite`. */
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
} = define(sqlite)
