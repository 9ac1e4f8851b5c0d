import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'

test.each([
  ['with its root beside it', []],
  ['with its root on workerd', ['--edge']],
])(
  'the demo %s runs to its table, and all its checks pass',
  (_, args) => {
    const { status, stdout, stderr } = spawnSync(resolve(import.meta.dirname, '../../examples/nested/demo'), args, {
      encoding: 'utf8',
      timeout: 90_000,
    })
    expect(stdout + stderr).toContain('All 8 checks passed')
    expect(status).toBe(0)
  },
  90_000,
)
