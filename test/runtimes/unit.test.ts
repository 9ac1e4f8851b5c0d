import { spawnSync } from 'node:child_process'
import { join, relative, resolve } from 'node:path'
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

/**
 * Now and then Deno's nghttp2 fails an assertion of its own when a session that went away closes its streams, and ends the process (docs/runtimes.md).
 * @returns the test file that it ended, if that is all that went wrong
 */
function abortedFile(said: string): string | undefined {
  if (/Tests .*failed/.test(said) || !said.includes('find_stream_on_goaway_func')) return undefined
  return /unexpectedly with signal SIGABRT during started state while running test file (\S+)/.exec(said)?.[1]
}

for (const [runtime, pool] of RUNTIMES) {
  test.skipIf(programOf(runtime) === undefined)(
    `the unit tests of core, rpc, transport and PostgreSQL, and outside vectors, pass on ${runtime}${skipNote(runtime)}`,
    () => {
      const [program, ...args] = commandOf(runtime)
      const start = runtime === 'bun' ? [...args, '--bun'] : args
      const run = (...rooms: readonly string[]) =>
        spawnSync(program, [...start, VITEST, 'run', ...PATIENCE, ...pool, ...rooms], {
          cwd: ROOT,
          encoding: 'utf8',
          timeout: 300_000,
          env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1' },
        })
      let { status, stdout, stderr } = run(...ROOMS)
      const passed = Number(/Tests +(\d+) passed/.exec(stdout)?.[1])
      for (let tries = 0; status !== 0 && tries < 3; tries++) {
        const file = abortedFile(`${stdout}\n${stderr}`)
        if (file === undefined) break
        console.warn(`nghttp2 ended ${runtime} in ${file}: it is run again`)
        ;({ status, stdout, stderr } = run(relative(ROOT, file)))
      }
      expect(status, `${stdout}\n${stderr}`.slice(-4000)).toBe(0)
      expect(passed).toBeGreaterThan(400)
    },
    600_000,
  )
}
