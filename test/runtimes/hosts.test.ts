import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'
import { edgeSuite } from '../contract/edge.ts'
import type { Seed } from '../support/edge.ts'
import { HOST_VARIABLES, type RunningHost, seedDatabase, startHost } from '../support/host.ts'
import { havePostgres, PostgresServer } from '../support/postgres/postgres.ts'
import { programOf, skipNote } from '../support/runtimes.ts'

const WORKERS = resolve(import.meta.dirname, '../../workers')

// The server as a fetch handler on Deno and Bun, with a database in a file and in PostgreSQL.
const RUNTIMES = [
  ['deno', ['run', '-A', '--no-prompt', '--cached-only', join(WORKERS, 'deno.ts')]],
  ['bun', [join(WORKERS, 'bun.ts')]],
] as const
const DATABASES = [
  ['a file', true],
  [`PostgreSQL${havePostgres ? '' : ' (skipped: it is not here)'}`, havePostgres],
] as const

describe.each(RUNTIMES)('workers/%s', (runtime, args) => {
  describe.each(DATABASES)(`on ${runtime}${skipNote(runtime)} with %s`, (kind, present) => {
    if (programOf(runtime) === undefined || !present) {
      test.skip('the suite of the edge')
      return
    }
    let postgres: PostgresServer | undefined
    const folder = mkdtempSync(join(tmpdir(), `turret-${runtime}-`))
    let seeds: Seed
    let host: RunningHost
    let url: string

    beforeAll(async () => {
      if (kind !== 'a file') postgres = await PostgresServer.start()
      const database = postgres ? urlOf(postgres) : `file:${join(folder, 'd.sqlite3')}`
      seeds = await seedDatabase(database)
      const port = await freePort()
      url = `http://127.0.0.1:${port}`
      host = await startHost(
        programOf(runtime)!,
        args,
        { ...HOST_VARIABLES, DATABASE_URL: database, PORT: String(port) },
        url,
      )
    }, 60_000)
    afterAll(async () => {
      await host?.stop()
      await postgres?.stop()
      rmSync(folder, { recursive: true, force: true })
    })

    edgeSuite(() => ({
      ...seeds,
      place: { url, roots: seeds.roots, audience: 'https://id.example.org' },
      logged: () => host.logged(),
    }))
  })
})

function urlOf({ port }: PostgresServer): string {
  return `postgres://turret:${encodeURIComponent("pass word'\\")}@127.0.0.1:${port}/postgres?sslmode=disable`
}
