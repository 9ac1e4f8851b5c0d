import { Hono } from 'hono'
import { openLibsqlStore } from 'turret/libsql'
import { turret } from 'turret/server'

// An app of yours.
const app = new Hono()
app.get('/', (c) => c.text('hello'))

// A SPIFFE server inside it. On Workers: store: (log) => openD1Store({ binding: env.DB, log }).
const identity = turret({
  trustDomain: 'example.org',
  store: (log) => openLibsqlStore({ path: process.env.TURRET_DATABASE ?? 'turret.sqlite3', log }),
  keys: [{ version: '1', key: process.env.TURRET_KEK ?? '' }],
  audiences: ['http://localhost:3000'],
  basePath: '/identity',
  operatorKeys: process.env.OPERATOR_KEYS?.split(' ') ?? [],
})
app.all('/identity/*', (c) => identity.fetch(c.req.raw))

export { app, identity }
