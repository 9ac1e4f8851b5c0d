import { type ChildProcess, spawn } from 'node:child_process'
import { openDatabase } from '../../workers/database.ts'
import { optionsFrom } from '../../workers/environment.ts'
import { turret } from '../../workers/turret.ts'
import { eventually, Final } from './cluster.ts'
import { ADMIN_ID, KEK, NODE_CA_PEM, type Seed, seed } from './edge.ts'

/** How hosts of tests are configured, whatever their port is. */
export const HOST_VARIABLES = {
  TRUST_DOMAIN: 'example.org',
  AUDIENCES: 'https://id.example.org',
  ISSUER: 'https://id.example.org',
  ADMIN_IDS: ADMIN_ID,
  X509POP_CA_BUNDLE: NODE_CA_PEM,
  RATE_LIMITS: 'off',
  KEK,
}

/** Seeds a database as another instance of the server that will run on it. */
export async function seedDatabase(url: string): Promise<Seed> {
  const server = turret({
    ...optionsFrom({ ...HOST_VARIABLES, LOG_LEVEL: 'error' }),
    store: (log) => openDatabase({ DATABASE_URL: url }, log),
  })
  const seeds = await seed(server)
  await (await server.server()).deps.store.close()
  return seeds
}

export interface RunningHost {
  logged(): string
  stop(): Promise<void>
}

/** Starts a program and waits until its server answers. */
export async function startHost(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  url: string,
): Promise<RunningHost> {
  let output = ''
  const child: ChildProcess = spawn(program, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child.stdout!.on('data', (chunk) => (output += chunk))
  child.stderr!.on('data', (chunk) => (output += chunk))
  const ended = new Promise((resolve) => child.once('exit', resolve))
  await eventually(async () => {
    if (child.exitCode !== null) throw new Final(`${program} ended: ${output}`)
    if (!(await fetch(`${url}/ready`)).ok) throw new Error(`not ready: ${output}`)
  })
  return {
    logged: () => output,
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}
