import { resolve } from 'node:path'
import { unstable_startWorker } from 'wrangler'
import type { Environment } from '../../workers/environment.ts'

// Nothing leaves this machine: neither usage figures nor a request for where it is.
process.env.WRANGLER_SEND_METRICS ??= 'false'
process.env.CLOUDFLARE_CF_FETCH_ENABLED ??= 'false'

export const WRANGLER_CONFIG = resolve(import.meta.dirname, '../../wrangler.toml')

export interface WorkerdOptions {
  /** Where the D1 database lies, and is found again. */
  readonly folder: string
  /** On 127.0.0.1; 0: any. */
  readonly port: number
  readonly variables: Partial<Record<keyof Environment, string>>
  /** Of wrangler and workerd, to standard output; default error. */
  readonly logLevel?: 'none' | 'error' | 'warn'
  /** Gets what the Worker logs instead. */
  readonly onLog?: (message: string) => void
}

export type Workerd = Awaited<ReturnType<typeof unstable_startWorker>>

/** Runs the whole server, workers/index.ts, in the runtime of Cloudflare Workers. It listens once `url` or `ready` of the result resolves. */
export function startWorkerd({ folder, port, variables, logLevel, onLog }: WorkerdOptions): Promise<Workerd> {
  return unstable_startWorker({
    config: WRANGLER_CONFIG,
    bindings: Object.fromEntries(
      Object.entries(variables).map(([name, value]) => [name, { type: 'plain_text' as const, value }]),
    ),
    dev: {
      server: { hostname: '127.0.0.1', port },
      inspector: false,
      logLevel: logLevel ?? 'error',
      ...(onLog ? { structuredLogsHandler: ({ message }: { readonly message: string }) => onLog(message) } : {}),
      watch: false,
      persist: folder,
    },
  })
}
