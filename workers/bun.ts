import { openDatabase } from './database.ts'
import { type Environment, optionsFrom } from './environment.ts'
import type { DatabaseEnvironment } from './remote-database.ts'
import { turret } from './turret.ts'

/** What is used of Bun's server. */
interface BunServer {
  requestIP(request: Request): { readonly address: string } | null
}

const env = process.env as Environment &
  DatabaseEnvironment & { readonly BIND_ADDRESS?: string; readonly PORT?: string }
const server = turret({ ...optionsFrom(env), store: (log) => openDatabase(env, log) })

setInterval(() => server.maintain(), 60_000)

/** `bun workers/bun.ts` serves what a module exports like this. */
export default {
  hostname: env.BIND_ADDRESS || '127.0.0.1',
  port: Number(env.PORT || 8080),
  fetch: (request: Request, bun: BunServer): Promise<Response> =>
    server.fetch(request, { address: bun.requestIP(request)?.address ?? '' }),
}
