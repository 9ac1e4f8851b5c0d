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

test.each(['', 'text', 'json'] as const)('no line moves the cursor of who reads it, format "%s"', (format) => {
  const folder = mkdtempSync(join(tmpdir(), 'log-'))
  const file = join(folder, 'log')
  const { log, close } = openLog({ level: 'info', format, file, sourceLocation: false })
  log.info('a\u001b[2Jb', { error: 'c\u009b2Jd\r\ne' })
  close()
  const line = readFileSync(file, 'utf8').trimEnd()
  rmSync(folder, { recursive: true })
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there.
  expect(line).not.toMatch(/[\x00-\x1f\x7f-\x9f]/)
  if (format === 'json') expect(JSON.parse(line)).toMatchObject({ msg: 'a\u001b[2Jb', error: 'c\u009b2Jd\r\ne' })
})
