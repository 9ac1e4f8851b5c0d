import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { commandOf, programOf, type Runtime, skipNote } from '../../test/support/runtimes.ts'
import { silentLog } from '../core/log.ts'
import { warnIfShared } from './process-setup.ts'

test.each([
  [0o777, true],
  [0o1777, true],
  [0o757, true],
  [0o755, false],
  [0o770, false],
])('a directory of mode %o is warned about: %s', (mode, expected) => {
  const folder = mkdtempSync(join(tmpdir(), 'shared-'))
  chmodSync(folder, mode)
  const warnings: string[] = []
  warnIfShared(folder, 'socket', { ...silentLog, warn: (message) => void warnings.push(message) })
  rmSync(folder, { recursive: true })
  expect(warnings).toHaveLength(expected ? 1 : 0)
})

for (const runtime of ['node', 'deno', 'bun'] satisfies Runtime[]) {
  test.skipIf(programOf(runtime) === undefined)(
    `work that fails with nobody waiting is logged and ends nothing, an exception ends ${runtime} with a line${skipNote(runtime)}`,
    () => {
      const folder = mkdtempSync(join(tmpdir(), 'stray-'))
      const script = join(folder, 'script.ts')
      writeFileSync(
        script,
        `import { outliveStrayFailures } from ${JSON.stringify(join(import.meta.dirname, 'process-setup.ts'))}
outliveStrayFailures({ error: (message, { error, stack }) => console.log(message, error, /script\\.ts:\\d+/.test(stack)) })
Promise.reject(new Error('nobody waits'))
Promise.reject(Object.create(null))
Promise.reject()
setTimeout(() => { console.log('alive'); setTimeout(() => { throw new Error('in between') }, 0) }, 50)
setTimeout(() => console.log('not reached'), 5000)
`,
      )
      const [program, ...args] = commandOf(runtime)
      const { status, stdout } = spawnSync(program, [...args, script], { encoding: 'utf8', timeout: 30_000 })
      rmSync(folder, { recursive: true })
      expect(stdout.trim().split('\n')).toEqual([
        'Unexpected error nobody waits true',
        'Unexpected error object false',
        'Unexpected error undefined false',
        'alive',
        'Unexpected error ended the process in between true',
      ])
      expect(status).toBe(1)
    },
    60_000,
  )
}
