import { Hono } from 'hono'
import { handle, type LambdaContext, type LambdaEvent } from 'hono/aws-lambda'
import { type Environment, optionsFrom } from './environment.ts'
import { type DatabaseEnvironment, openRemoteDatabase } from './remote-database.ts'
import { turret } from './turret.ts'

const env = process.env as Environment & DatabaseEnvironment
const server = turret({ ...optionsFrom(env), store: (log) => openRemoteDatabase(env, log) })

/** A function is frozen once it has answered: work must be done before. */
const app = new Hono<{ Bindings: { readonly event: LambdaEvent } }>()
app.all('*', async ({ req, env: { event } }) => {
  const work: Promise<unknown>[] = []
  const address = 'requestContext' in event ? addressIn(event.requestContext) : ''
  const response = await server.fetch(req.raw, { address, waitUntil: (more) => void work.push(more) })
  await Promise.allSettled(work)
  return response
})
const answer = handle(app)

/** The whole server on AWS Lambda: behind a function URL or API Gateway, and on a schedule of EventBridge. */
export async function handler(event: LambdaEvent | { readonly source: string }, context?: LambdaContext) {
  if ('source' in event) return server.maintain()
  return answer(event, context)
}

/** Of the client, as API Gateway (version 2, version 1) or a function URL says. */
function addressIn(context: object): string {
  const { http, identity } = context as { http?: { sourceIp?: string }; identity?: { sourceIp?: string } }
  return http?.sourceIp ?? identity?.sourceIp ?? ''
}
