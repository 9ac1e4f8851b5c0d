import type { CommandRows } from '../commands.ts'

// First of all: while nobody listens for it, SIGUSR1 opens Node's debugger to every user of the machine, and ends Deno and Bun.
if (process.argv[2] === 'run') process.on('SIGUSR1', () => {})

const fetchX509 = {
  synopsis: 'Fetches X509 SVIDs from the Workload API',
  load: () => import('./api-fetch-x509.ts'),
}

const logger = (verb: 'get' | 'reset' | 'set', synopsis: string): CommandRows => ({
  [`logger ${verb}`]: { synopsis, load: async () => ({ command: (await import('./logger.ts')).logger[verb] }) },
})

const commands: CommandRows = {
  'api fetch': fetchX509,
  'api fetch jwt': { synopsis: 'Fetches a JWT SVID from the Workload API', load: () => import('./api-fetch-jwt.ts') },
  'api fetch x509': fetchX509,
  'api validate jwt': { synopsis: 'Validates a JWT SVID', load: () => import('./api-validate-jwt.ts') },
  'api watch': {
    synopsis: "Attaches to the Workload API and prints updates as they're received",
    load: () => import('./api-watch.ts'),
  },
  'debug getinfo': { synopsis: 'Prints debug information about the agent', load: () => import('./debug-getinfo.ts') },
  healthcheck: { synopsis: 'Determines agent health status', load: () => import('./healthcheck.ts') },
  ...logger('get', 'Gets the logger details'),
  ...logger('reset', 'Reset the logger details to launch level'),
  ...logger('set', 'Sets the logger details'),
  run: { synopsis: 'Runs the agent', load: () => import('./run.ts') },
  validate: { synopsis: 'Validates a SPIRE agent configuration file', load: () => import('./validate.ts') },
}

// Imported after the cache is on, so that these files come from it too.
const { runInProcess } = await import('../process.ts')
const { VERSION } = await import('../version.ts')
await runInProcess({ name: 'turret-agent', version: VERSION, commands })
