import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { programOf, skipNote } from '../support/runtimes.ts'

const ROOT = resolve(import.meta.dirname, '../..')

function runDemo(program: string, ...args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: ROOT, encoding: 'utf8', timeout: 60_000 })
  expect(stdout + stderr).toContain('All 8 checks passed')
  expect(status).toBe(0)
}

const deno = programOf('deno')
test.skipIf(deno === undefined)(
  `deno task demo passes its checks, all on Deno${skipNote('deno')}`,
  () => {
    runDemo(deno!, 'task', 'demo')
  },
  60_000,
)

test.skipIf(programOf('bun') === undefined)(
  `the demo passes its checks on Bun${skipNote('bun')}`,
  () => {
    runDemo('examples/nested/demo', '--runtime', 'bun')
  },
  60_000,
)
