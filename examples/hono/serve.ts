import { serve } from '@hono/node-server'
import { app, identity } from './app.ts'

setInterval(() => identity.maintain(), 60_000).unref()
serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 3000 }, ({ port }) => {
  console.log(`listening on http://localhost:${port}; try /identity/ready and /identity/keys`)
})
