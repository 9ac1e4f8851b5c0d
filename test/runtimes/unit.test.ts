import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { commandOf, programOf, skipNote } from '../support/runtimes.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const VITEST = join(ROOT, 'node_modules/vitest/vitest.mjs')
/** What runs unchanged everywhere, and the listeners and clients that full hosts add. */
const ROOMS = ['src/core', 'src/rpc', 'src/transport']
/** Deno makes an RSA key of 4096 bits in one to ten seconds. */
const PATIENCE = ['--testTimeout=40000']

test.each([
  ['deno', []],
  // Its processes lack what vitest's pool of processes needs.
  ['bun', ['--pool=threads']],
] as const)(
  'the unit tests of core, rpc and transport pass on %s',
  (runtime, pool) => {
    if (programOf(runtime) === undefined) {
      console.warn(`NOT run on ${runtime}${skipNote(runtime)}`)
      return
    }
    const [program, ...args] = commandOf(runtime)
    // Else Bun would start the Node that vitest's own first line asks for.
    const bun = runtime === 'bun' ? ['--bun'] : []
    const { status, stdout, stderr } = spawnSync(
      program,
      [...args, ...bun, VITEST, 'run', ...PATIENCE, ...pool, ...ROOMS],
      {
        cwd: ROOT,
        encoding: 'utf8',
        timeout: 120_000,
        env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1' },
      },
    )
    expect(status, `${stdout}\n${stderr}`.slice(-4000)).toBe(0)
    expect(Number(/Tests +(\d+) passed/.exec(stdout)?.[1])).toBeGreaterThan(400)
  },
  120_000,
)
