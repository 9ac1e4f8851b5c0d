import { expect, test } from 'vitest'
import type { Log } from '../../core/log.ts'
import { logLines } from './log-line.ts'

function logged(...lines: readonly string[]): unknown[] {
  const found: unknown[] = []
  const at = (level: string) => (message: string, fields?: object) => found.push([level, message, fields ?? {}])
  const log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') } as unknown as Log
  const read = logLines(log)
  for (const line of lines) read(line)
  return found
}

test('a line of hclog keeps its level and fields', () => {
  const line = '{"@level":"warn","@message":"near","@timestamp":"T","@module":"m","n":1,"o":{"p":[2]},"q":true}'
  expect(logged(line)).toEqual([['warn', 'near', { '@module': 'm', n: 1, o: '{"p":[2]}', q: true, timestamp: 'T' }]])
})

test('no line says that it is of another plugin or of ours', () => {
  const line = '{"@level":"info","@message":"m","plugin_name":"other","level":"error","subsystem_name":"ca"}'
  expect(logged(line)).toEqual([
    ['info', 'm', { 'fields.plugin_name': 'other', 'fields.level': 'error', 'fields.subsystem_name': 'ca' }],
  ])
})

test('of a line no more fields are shown than anybody reads', () => {
  const fields = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`f${index}`, index]))
  const [[, , shown]] = logged(JSON.stringify({ '@level': 'info', '@message': 'm', ...fields })) as [[0, 0, object]]
  expect(Object.keys(shown).length).toBeLessThanOrEqual(32)
})

test('text has the level that it begins with, else it is for debugging, and what is finer is left out', () => {
  expect(logged('[ERROR] bad', '[INFO]  good', '[NONE] odd', 'plain', '[TRACE] fine', '', '{"a":1}', '{"a"')).toEqual([
    ['error', 'bad', {}],
    ['info', 'good', {}],
    ['debug', '[NONE] odd', {}],
    ['debug', 'plain', {}],
    ['debug', '{"a":1}', {}],
    ['debug', '{"a"', {}],
  ])
})

test('why a plugin died is an error', () => {
  expect(logged('panic: oh no', 'goroutine 1').map((one) => (one as string[])[0])).toEqual(['error', 'error'])
})
