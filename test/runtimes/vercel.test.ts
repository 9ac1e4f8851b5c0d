import { resolve } from 'node:path'
import { EdgeRuntime, runServer } from 'edge-runtime'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe } from 'vitest'
import { edgeSuite } from '../contract/edge.ts'
import type { Seed } from '../support/edge.ts'
import { HOST_VARIABLES, seedDatabase } from '../support/host.ts'
import { hasSqld, type Sqld, startSqld } from '../support/sqld/sqld.ts'

// Vercel's edge-runtime, which has nothing of Node, with a libsql server as the database.
describe.skipIf(!hasSqld)(`workers/vercel${hasSqld ? '' : ' (skipped: there is no sqld for this machine)'}`, () => {
  let database: Sqld
  let seeds: Seed
  let server: Awaited<ReturnType<typeof runServer>>

  beforeAll(async () => {
    database = await startSqld()
    seeds = await seedDatabase(database.url)
    const entry = resolve(import.meta.dirname, '../../workers/vercel.ts')
    const { outputFiles } = await build({
      stdin: {
        contents: `import handler from ${JSON.stringify(entry)}
addEventListener('fetch', (event) => event.respondWith(handler(event.request, { waitUntil: (work) => event.waitUntil(work) })))`,
        resolveDir: import.meta.dirname,
      },
      bundle: true,
      write: false,
      format: 'iife',
      conditions: ['edge-light', 'worker', 'browser'],
      logLevel: 'error',
    })
    const env = { ...HOST_VARIABLES, DATABASE_URL: database.url }
    const runtime = new EdgeRuntime({
      extend: (context) => Object.assign(context, { process: { env } }),
      initialCode: outputFiles[0]!.text,
    })
    server = await runServer({ runtime, host: '127.0.0.1', port: 0 })
  }, 120_000)
  afterAll(async () => {
    await server?.close()
    await database?.stop()
  })

  edgeSuite(() => ({
    ...seeds,
    place: { url: new URL(server.url).origin, roots: seeds.roots, audience: 'https://id.example.org' },
  }))
})
