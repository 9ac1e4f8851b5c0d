import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { unstable_startWorker } from 'wrangler'
import { commandOf, programOf, type Runtime, skipNote } from '../support/runtimes.ts'
import { coreVectors } from './core/vectors.ts'

// The core runs unchanged everywhere: what it makes of the same inputs on Node, where oracles judge it, it makes on all runtimes.

const FOLDER = join(import.meta.dirname, 'core')
const expected = JSON.parse(JSON.stringify(await coreVectors())) as Record<string, unknown>

test('the vectors say yes and no', () => {
  const refusals = Object.values(expected).filter((value) => /^[A-Z_]+: /.test(String(value)))
  expect(refusals.length).toBeGreaterThan(50)
  expect(Object.keys(expected).length - refusals.length).toBeGreaterThan(25)
  expect(JSON.stringify(expected)).not.toMatch(/TypeError|INTERNAL/)
  expect(expected['ec-p256: a chain good']).toEqual({ spiffeId: 'spiffe://example.org/web', length: 3 })
})

for (const runtime of ['deno', 'bun'] satisfies Runtime[]) {
  test.skipIf(programOf(runtime) === undefined)(
    `the core does on ${runtime} what it does on Node${skipNote(runtime)}`,
    () => {
      const [program, ...args] = commandOf(runtime)
      const output = execFileSync(program, [...args, join(FOLDER, 'script.ts')], { encoding: 'utf8', timeout: 60_000 })
      expect(JSON.parse(output)).toEqual(expected)
    },
    60_000,
  )
}

test('the core does on workerd what it does on Node', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-core-'))
  // Without nodejs_compat: there is nothing of Node to import.
  const config = join(folder, 'wrangler.json')
  const main = join(FOLDER, 'worker.ts')
  writeFileSync(config, JSON.stringify({ name: 'core', main, compatibility_date: '2026-11-01' }))
  const worker = await unstable_startWorker({
    config,
    dev: { server: { hostname: '127.0.0.1', port: 0 }, inspector: false, logLevel: 'error', watch: false },
  })
  try {
    expect(await (await fetch(await worker.url)).json()).toEqual(expected)
  } finally {
    await worker.dispose()
    rmSync(folder, { recursive: true, force: true })
  }
}, 60_000)
