import type { CommandRows } from '../commands.ts'

// First of all: while nobody listens for it, SIGUSR1 opens Node's debugger to every user of the machine, and ends Deno and Bun.
if (process.argv[2] === 'run') process.on('SIGUSR1', () => {})

type Authorities = typeof import('./authority.ts')['authorities']

const authority = (words: keyof Authorities, synopsis: string): CommandRows => ({
  [words]: { synopsis, load: async () => ({ command: (await import('./authority.ts')).authorities[words] }) },
})

const logger = (verb: 'get' | 'reset' | 'set', synopsis: string): CommandRows => ({
  [`logger ${verb}`]: { synopsis, load: async () => ({ command: (await import('./logger.ts')).logger[verb] }) },
})

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
  'debug getinfo': { synopsis: 'Prints debug information about the server', load: () => import('./debug-getinfo.ts') },
  'entry count': { synopsis: 'Count registration entries', load: () => import('./entry-count.ts') },
  'entry create': { synopsis: 'Creates registration entries', load: () => import('./entry-create.ts') },
  'entry delete': { synopsis: 'Deletes registration entries', load: () => import('./entry-delete.ts') },
  'entry show': { synopsis: 'Displays configured registration entries', load: () => import('./entry-show.ts') },
  'entry update': { synopsis: 'Updates registration entries', load: () => import('./entry-update.ts') },
  'federation create': {
    synopsis: 'Creates a dynamic federation relationship with a foreign trust domain',
    load: () => import('./federation-create.ts'),
  },
  'federation delete': {
    synopsis: 'Deletes a dynamic federation relationship',
    load: () => import('./federation-delete.ts'),
  },
  'federation list': {
    synopsis: 'Lists all dynamic federation relationships',
    load: () => import('./federation-list.ts'),
  },
  'federation refresh': {
    synopsis: 'Refreshes the bundle from the specified federated trust domain',
    load: () => import('./federation-refresh.ts'),
  },
  'federation show': {
    synopsis: 'Shows a dynamic federation relationship',
    load: () => import('./federation-show.ts'),
  },
  'federation update': {
    synopsis: 'Updates a dynamic federation relationship with a foreign trust domain',
    load: () => import('./federation-update.ts'),
  },
  healthcheck: { synopsis: 'Determines server health status', load: () => import('./healthcheck.ts') },
  'help remote': {
    synopsis: 'Explains the flags that reach a server over HTTPS',
    load: () => import('./help-remote.ts'),
  },
  ...authority(
    'localauthority jwt activate',
    'Activates a prepared JWT authority for use, which will cause it to be used for all JWT signing operations serviced by this server going forward',
  ),
  ...authority(
    'localauthority jwt prepare',
    'Prepares a new JWT authority for use by generating a new key and injecting it into the bundle',
  ),
  ...authority(
    'localauthority jwt revoke',
    'Revokes the previously active JWT authority by removing it from the bundle and propagating this update throughout the cluster',
  ),
  ...authority('localauthority jwt show', 'Shows the local JWT authorities'),
  ...authority('localauthority jwt taint', 'Marks the previously active JWT authority as being tainted'),
  ...authority(
    'localauthority x509 activate',
    'Activates a prepared X.509 authority for use, which will cause it to be used for all X.509 signing operations serviced by this server going forward',
  ),
  ...authority(
    'localauthority x509 prepare',
    'Prepares a new X.509 authority for use by generating a new key and injecting the resulting CA certificate into the bundle',
  ),
  ...authority(
    'localauthority x509 revoke',
    'Revokes the previously active X.509 authority by removing it from the bundle and propagating this update throughout the cluster',
  ),
  ...authority('localauthority x509 show', 'Shows the local X.509 authorities'),
  ...authority('localauthority x509 taint', 'Marks the previously active X.509 authority as being tainted'),
  ...logger('get', 'Gets the logger details'),
  ...logger('reset', 'Reset the logger details to launch level'),
  ...logger('set', 'Sets the logger details'),
  ...authority(
    'upstreamauthority revoke',
    'Revokes the previously active X.509 upstream authority by removing it from the bundle and propagating this update throughout the cluster',
  ),
  ...authority('upstreamauthority taint', 'Marks the provided X.509 upstream authority as being tainted'),
  'jwt mint': { synopsis: 'Mints a JWT-SVID', load: () => import('./jwt-mint.ts') },
  'operator keygen': {
    synopsis: 'Makes a key to administrate a server over HTTPS',
    load: () => import('./operator-keygen.ts'),
  },
  run: { synopsis: 'Runs the server', load: () => import('./run.ts') },
  'token generate': { synopsis: 'Generates a join token', load: () => import('./token-generate.ts') },
  validate: { synopsis: 'Validates a SPIRE server configuration file', load: () => import('./validate.ts') },
  // As in SPIRE only for those who know of the feature; the server has a feature flag of its own.
  ...((process.env.SPIRE_SERVER_FFLAGS ?? '').split(' ').includes('wit-svid')
    ? { 'wit mint': { synopsis: 'Mints a WIT-SVID', load: () => import('./wit-mint.ts') } }
    : {}),
  'x509 mint': { synopsis: 'Mints an X509-SVID', load: () => import('./x509-mint.ts') },
}

// Imported after the cache is on, so that these files come from it too.
const { runInProcess } = await import('../process.ts')
const { VERSION } = await import('../version.ts')
await runInProcess({ name: 'turret-server', version: VERSION, commands })
