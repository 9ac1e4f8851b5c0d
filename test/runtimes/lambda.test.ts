import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { edgeSuite } from '../contract/edge.ts'
import type { Seed } from '../support/edge.ts'
import { HOST_VARIABLES, seedDatabase } from '../support/host.ts'
import { functionUrl, type LambdaFunction, lambdaMissing, startLambda } from '../support/lambda/lambda.ts'
import { hasSqld, type Sqld, startSqld } from '../support/sqld/sqld.ts'

const reason = lambdaMissing || (hasSqld ? '' : 'there is no sqld for this machine')

// AWS's own runtime interface client, before a Runtime API of the test, with a libsql server as the database.
describe.skipIf(reason !== '')(`workers/lambda${reason ? ` (skipped: ${reason})` : ''}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-lambda-'))
  let database: Sqld
  let seeds: Seed
  let lambda: LambdaFunction

  beforeAll(async () => {
    database = await startSqld()
    seeds = await seedDatabase(database.url)
    await build({
      entryPoints: [resolve(import.meta.dirname, '../../workers/lambda.ts')],
      outfile: join(folder, 'index.js'),
      bundle: true,
      platform: 'node',
      format: 'cjs',
      logLevel: 'error',
    })
    lambda = await startLambda(folder, { ...HOST_VARIABLES, DATABASE_URL: database.url })
  }, 600_000)
  afterAll(async () => {
    await lambda?.stop()
    await database?.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  edgeSuite(() => ({
    ...seeds,
    place: { url: 'https://id.example.org', roots: seeds.roots, fetch: functionUrl(lambda) },
    logged: () => lambda.logged(),
  }))

  test('a schedule maintains', async () => {
    const scheduled = { version: '0', source: 'aws.events', 'detail-type': 'Scheduled Event', detail: {} }
    expect(await lambda.invoke(scheduled)).toBeNull()
  })
})
