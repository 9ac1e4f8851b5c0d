import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'

test('the demo runs to its table, and all its checks pass', () => {
  const { status, stdout, stderr } = spawnSync(resolve(import.meta.dirname, '../../examples/nested/demo'), {
    encoding: 'utf8',
    timeout: 60_000,
  })
  expect(stdout + stderr).toContain('All 8 checks passed')
  expect(status).toBe(0)
}, 60_000)
