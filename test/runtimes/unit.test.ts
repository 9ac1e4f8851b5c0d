import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { commandOf, programOf, skipNote } from '../support/runtimes.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const VITEST = join(ROOT, 'node_modules/vitest/vitest.mjs')
/** What runs unchanged everywhere, and the listeners and clients that full hosts add. The other databases are part of the suite of hosts. */
const ROOMS = ['src/core', 'src/rpc', 'src/transport', 'src/store/postgres', 'test/vectors']
/** Deno makes an RSA key of 4096 bits in one to ten seconds. */
const PATIENCE = ['--testTimeout=40000']

const RUNTIMES = [
  ['deno', []],
  // Bun's processes lack what vitest's pool of processes needs; without --bun it starts the Node of vitest's first line.
  ['bun', ['--pool=threads']],
] as const

for (const [runtime, pool] of RUNTIMES) {
  test.skipIf(programOf(runtime) === undefined)(
    `the unit tests of core, rpc, transport and PostgreSQL, and outside vectors, pass on ${runtime}${skipNote(runtime)}`,
    () => {
      const [program, ...args] = commandOf(runtime)
      const start = runtime === 'bun' ? [...args, '--bun'] : args
      const { status, stdout, stderr } = spawnSync(program, [...start, VITEST, 'run', ...PATIENCE, ...pool, ...ROOMS], {
        cwd: ROOT,
        encoding: 'utf8',
        timeout: 300_000,
        env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1' },
      })
      expect(status, `${stdout}\n${stderr}`.slice(-4000)).toBe(0)
      expect(Number(/Tests +(\d+) passed/.exec(stdout)?.[1])).toBeGreaterThan(400)
    },
    300_000,
  )
}
