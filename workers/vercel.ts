import { openLibsqlHttpStore } from '../src/store/libsql-http.ts'
import { type Environment, optionsFrom } from './environment.ts'
import type { DatabaseEnvironment } from './remote-database.ts'
import { type RequestContext, turret } from './turret.ts'

export const config = { runtime: 'edge' }

const env = process.env as Environment & DatabaseEnvironment
const server = turret({
  ...optionsFrom(env),
  store: (log) => openLibsqlHttpStore({ url: env.DATABASE_URL ?? '', authToken: env.DATABASE_AUTH_TOKEN, log }),
})

/** The whole server on Vercel's edge runtime. */
export default function handler(
  request: Request,
  context: Required<Pick<RequestContext, 'waitUntil'>>,
): Promise<Response> {
  return server.fetch(request, {
    // Vercel's proxy writes it, whatever the client sent.
    address: request.headers.get('x-real-ip') ?? '',
    waitUntil: (work) => context.waitUntil(work),
  })
}
