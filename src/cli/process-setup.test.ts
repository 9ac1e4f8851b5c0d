import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
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
