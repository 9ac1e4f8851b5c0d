import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openLog } from './logger.ts'

test.each(['text', 'json'] as const)('no line is as long as what somebody sent, format %s', (format) => {
  const folder = mkdtempSync(join(tmpdir(), 'log-'))
  const file = join(folder, 'log')
  const { log, close } = openLog({ level: 'info', format, file, sourceLocation: false })
  const long = 'x'.repeat(3_000_000)
  log.info(long, { error: long, ids: Array.from({ length: 1000 }, () => long) })
  log.child({ caller: long }).error('short')
  close()
  const [first, second] = readFileSync(file, 'utf8').split('\n')
  rmSync(folder, { recursive: true })
  expect(first!.length).toBeLessThan(300_000)
  expect(second!.length).toBeLessThan(5_000)
  expect(second).toContain('(2995904 more)')
})
