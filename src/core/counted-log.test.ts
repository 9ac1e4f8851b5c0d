import { expect, test } from 'vitest'
import { countedLog } from './counted-log.ts'
import type { Log, LogFields } from './log.ts'

function recorded(options: { lines?: number; kinds?: number } = {}) {
  const lines: [string, string, LogFields | undefined][] = []
  const logWith = (base: LogFields): Log => ({
    debug: (message, fields) => lines.push(['debug', message, { ...base, ...fields }]),
    info: (message, fields) => lines.push(['info', message, { ...base, ...fields }]),
    warn: (message, fields) => lines.push(['warn', message, { ...base, ...fields }]),
    error: (message, fields) => lines.push(['error', message, { ...base, ...fields }]),
    child: (fields) => logWith({ ...base, ...fields }),
    debugEnabled: true,
  })
  const clock = { ms: 0, nowMs: () => clock.ms }
  return { lines, clock, counted: countedLog(logWith({}), { clock, ...options }) }
}

test('the first lines of a caller are written, the rest is summed up after the minute, once', () => {
  const { lines, clock, counted } = recorded({ lines: 2 })
  for (let pid = 0; pid < 150_000; pid++) counted.of({ caller_uid: 7 }).error('No identity issued', { pid })
  expect(lines).toEqual([
    ['error', 'No identity issued', { pid: 0 }],
    ['error', 'No identity issued', { pid: 1 }],
  ])
  clock.ms = 60_000
  counted.of({ caller_uid: 8 }).warn('Other')
  expect(lines.slice(2)).toEqual([
    ['error', 'No identity issued (and 149998 more like it)', { caller_uid: 7, count: 149_998 }],
    ['warn', 'Other', {}],
  ])
  counted.sumUp()
  expect(lines).toHaveLength(4)
})

test('callers, texts and levels are counted apart', () => {
  const { lines, counted } = recorded({ lines: 1 })
  for (let round = 0; round < 3; round++) {
    for (const caller_uid of [1, 2]) {
      counted.of({ caller_uid }).error('a')
      counted.of({ caller_uid }).error('b')
      counted.of({ caller_uid }).warn('a')
      counted.of({ caller_uid }).child({ method: 'M' }).info('a')
    }
  }
  expect(lines).toHaveLength(8)
  expect(lines).toContainEqual(['info', 'a', { method: 'M' }])
})

test('a new minute begins anew', () => {
  const { lines, clock, counted } = recorded({ lines: 1 })
  const log = counted.of({ caller_uid: 1 })
  log.error('a')
  log.error('a')
  counted.sumUp()
  clock.ms = 61_000
  log.error('a')
  expect(lines.map(([, message]) => message)).toEqual(['a', 'a (and 1 more like it)', 'a'])
})

test('debug lines all pass', () => {
  const { lines, counted } = recorded({ lines: 1 })
  for (let round = 0; round < 3; round++) counted.of({}).debug('a')
  expect(lines).toHaveLength(3)
})

test('callers beyond those that are told apart are counted together', () => {
  const { lines, counted } = recorded({ lines: 1, kinds: 2 })
  for (let caller_uid = 0; caller_uid < 100; caller_uid++) counted.of({ caller_uid }).error('a')
  expect(lines).toHaveLength(3)
  counted.sumUp()
  expect(lines.at(-1)).toEqual(['error', 'a (and 97 more like it)', { caller: 'others', count: 97 }])
})
