import { join } from 'node:path'
import { getPlatformProxy } from 'wrangler'
import { startWorkerd, WRANGLER_CONFIG } from '../../examples/edge/workerd.ts'
import { type D1Binding, openD1Store } from '../../src/store/d1.ts'
import { type Environment, optionsFrom } from '../../workers/environment.ts'
import { type Turret, turret } from '../../workers/turret.ts'
import { ADMIN_ID, KEK, NODE_CA_PEM } from './edge.ts'

/** What the Worker of tests is configured with, whatever its port is. */
export const WORKER_VARIABLES = {
  TRUST_DOMAIN: 'example.org',
  AUDIENCES: 'https://id.example.org http://127.0.0.1',
  ISSUER: 'https://id.example.org',
  ADMIN_IDS: ADMIN_ID,
  X509POP_CA_BUNDLE: NODE_CA_PEM,
  RATE_LIMITS: 'off',
  KEK,
}

export interface RunningWorker {
  readonly url: string
  readonly logged: () => string
  /** What cron does. */
  maintain(): Promise<void>
  stop(): Promise<void>
}

/** Starts workers/index.ts in workerd. @param folder where its database lies, and is found again @param port default any */
export async function startWorker(
  folder: string,
  variables: Partial<Record<keyof Environment, string>> = {},
  port = 0,
): Promise<RunningWorker> {
  const lines: string[] = []
  const worker = await startWorkerd({
    folder,
    port,
    variables: { ...WORKER_VARIABLES, ...variables },
    logLevel: 'none',
    onLog: (message) => lines.push(message),
  })
  return {
    url: (await worker.url).origin,
    logged: () => lines.join('\n'),
    maintain: async () => {
      const response = await fetch(new URL('/cdn-cgi/handler/scheduled', await worker.url))
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
    },
    stop: () => worker.dispose(),
  }
}

/** Works on the database of a Worker that does not run, as a second instance of the same server. */
export async function besideWorker<T>(folder: string, work: (server: Turret) => Promise<T>): Promise<T> {
  const platform = await getPlatformProxy<{ DB: D1Binding }>({
    configPath: WRANGLER_CONFIG,
    persist: { path: join(folder, 'v3') },
  })
  try {
    const store = (log: Parameters<typeof openD1Store>[0]['log']) => openD1Store({ binding: platform.env.DB, log })
    return await work(turret({ ...optionsFrom({ ...WORKER_VARIABLES, LOG_LEVEL: 'error' }), store }))
  } finally {
    await platform.dispose()
  }
}
