import { type D1Binding, openD1Store } from '../src/store/d1.ts'
import { type Environment, optionsFrom } from './environment.ts'
import { type Turret, turret } from './turret.ts'

/** What wrangler.toml binds: a D1 database beside the variables. */
interface Bindings extends Environment {
  readonly DB: D1Binding
}

interface ExecutionContext {
  waitUntil(work: Promise<unknown>): void
}

let current: Turret | undefined

function serverOf(env: Bindings): Turret {
  current ??= turret({ ...optionsFrom(env), store: (log) => openD1Store({ binding: env.DB, log }) })
  return current
}

/** The whole server on Cloudflare Workers. */
export default {
  fetch(request: Request, env: Bindings, context: ExecutionContext): Promise<Response> {
    return serverOf(env).fetch(request, {
      address: request.headers.get('cf-connecting-ip') ?? '',
      waitUntil: (work) => context.waitUntil(work),
    })
  },
  scheduled(_: unknown, env: Bindings, context: ExecutionContext): void {
    context.waitUntil(serverOf(env).maintain())
  },
}
