import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { CommandRows } from '../commands.ts'

// Halves the start. Inside the checkout, never a shared temporary directory; where it cannot be written, nothing happens.
enableCompileCache(fileURLToPath(new URL('../../../node_modules/.cache/turret', import.meta.url)))

const commands: CommandRows = {
  'agent ban': { synopsis: 'Ban an attested agent given its SPIFFE ID', load: () => import('./agent-ban.ts') },
  'agent count': { synopsis: 'Count attested agents', load: () => import('./agent-count.ts') },
  'agent evict': { synopsis: 'Evicts an attested agent given its SPIFFE ID', load: () => import('./agent-evict.ts') },
  'agent list': { synopsis: 'Lists attested agents and their SPIFFE IDs', load: () => import('./agent-list.ts') },
  'agent purge': {
    synopsis: 'Purge expired agents that were attested using a non-TOFU security model based on a given time',
    load: () => import('./agent-purge.ts'),
  },
  'agent show': {
    synopsis: 'Shows the details of an attested agent given its SPIFFE ID',
    load: () => import('./agent-show.ts'),
  },
  'bundle count': { synopsis: 'Count bundles', load: () => import('./bundle-count.ts') },
  'bundle delete': { synopsis: 'Deletes federated bundle data', load: () => import('./bundle-delete.ts') },
  'bundle list': { synopsis: 'Lists federated bundle data', load: () => import('./bundle-list.ts') },
  'bundle set': { synopsis: 'Creates or updates federated bundle data', load: () => import('./bundle-set.ts') },
  'bundle show': { synopsis: 'Prints server CA bundle to stdout', load: () => import('./bundle-show.ts') },
  'entry count': { synopsis: 'Count registration entries', load: () => import('./entry-count.ts') },
  'entry create': { synopsis: 'Creates registration entries', load: () => import('./entry-create.ts') },
  'entry delete': { synopsis: 'Deletes registration entries', load: () => import('./entry-delete.ts') },
  'entry show': { synopsis: 'Displays configured registration entries', load: () => import('./entry-show.ts') },
  'entry update': { synopsis: 'Updates registration entries', load: () => import('./entry-update.ts') },
  healthcheck: { synopsis: 'Determines server health status', load: () => import('./healthcheck.ts') },
  'jwt mint': { synopsis: 'Mints a JWT-SVID', load: () => import('./jwt-mint.ts') },
  run: { synopsis: 'Runs the server', load: () => import('./run.ts') },
  'token generate': { synopsis: 'Generates a join token', load: () => import('./token-generate.ts') },
  validate: { synopsis: 'Validates a SPIRE server configuration file', load: () => import('./validate.ts') },
  'x509 mint': { synopsis: 'Mints an X509-SVID', load: () => import('./x509-mint.ts') },
}

// Imported after the cache is on, so that these files come from it too.
const { runInProcess } = await import('../process.ts')
const { VERSION } = await import('../version.ts')
await runInProcess({ name: 'turret-server', version: VERSION, commands })
