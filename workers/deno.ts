import { openDatabase } from './database.ts'
import { type Environment, optionsFrom } from './environment.ts'
import type { DatabaseEnvironment } from './remote-database.ts'
import { turret } from './turret.ts'

/** What is used of Deno. */
declare const Deno: {
  readonly env: { toObject(): Record<string, string> }
  serve(
    options: { readonly hostname: string; readonly port: number },
    handler: (request: Request, info: { readonly remoteAddr: { readonly hostname: string } }) => Promise<Response>,
  ): unknown
}

const env = Deno.env.toObject() as Environment &
  DatabaseEnvironment & { readonly BIND_ADDRESS?: string; readonly PORT?: string }
const server = turret({ ...optionsFrom(env), store: (log) => openDatabase(env, log) })

// On Deno Deploy nothing runs between requests; there they do what is due.
setInterval(() => server.maintain(), 60_000)
Deno.serve({ hostname: env.BIND_ADDRESS || '127.0.0.1', port: Number(env.PORT || 8080) }, (request, { remoteAddr }) =>
  server.fetch(request, { address: remoteAddr.hostname }),
)
