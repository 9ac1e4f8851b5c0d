import { describe, expect, test } from 'vitest'
import {
  boolean,
  commaTexts,
  duration,
  durationText,
  durationValue,
  type FlagTable,
  given,
  integer,
  parseDuration,
  parseFlags,
  text,
  texts,
  triState,
  usageText,
} from './flags.ts'
import { outputFlag } from './output.ts'

const table = {
  name: text('a name', 'x'),
  count: integer('a number', 600),
  on: boolean('a switch'),
  set: given('set once given'),
  ttl: duration('a span', 3600),
  wait: durationValue('a span of its own type', 5),
  item: texts('many'),
  list: commaTexts('commas'),
  banned: triState('three'),
  output: outputFlag(),
} as const satisfies FlagTable

describe('parseFlags', () => {
  test.each([
    ['nothing gives the initial values', [], { name: 'x', count: 600, on: false, ttl: 3600, item: [] }],
    ['a value as the next word', ['-name', 'a b'], { name: 'a b' }],
    ['a value after an equals sign', ['-name=a=b'], { name: 'a=b' }],
    ['two dashes', ['--name', 'a'], { name: 'a' }],
    ['an empty value', ['-name='], { name: '' }],
    ['a value that looks like a flag', ['-name', '-on'], { name: '-on', on: false }],
    ['a boolean leaves the next word alone and stops', ['-on', 'false', '-name', 'a'], { on: true, name: 'x' }],
    ['a boolean with a value', ['-on=F'], { on: false }],
    ['a switch without meaning of its value', ['-set=false'], { set: true }],
    ['parsing stops at --', ['-on', '--', '-name', 'a'], { on: true, name: 'x' }],
    ['parsing stops at a lone dash', ['-', '-on'], { on: false }],
    ['the last occurrence counts', ['-name', 'a', '-name', 'b'], { name: 'b' }],
    ['lists add up', ['-item', 'a', '-item', 'b,c'], { item: ['a', 'b,c'] }],
    ['comma lists replace', ['-list', 'a,b', '-list', 'c'], { list: ['c'] }],
    ['a state is true, false or no matter', ['-banned', 'maybe'], { banned: undefined }],
    ['a state takes the next word', ['-banned', 'true'], { banned: true }],
    ['hexadecimal and underscores', ['-count', '0x1_0'], { count: 16 }],
    ['octal', ['-count=-010'], { count: -8 }],
    ['durations', ['-ttl', '1h30m', '-wait', '-1.5s'], { ttl: 5400, wait: -1.5 }],
    ['formats in any case', ['-output', 'JSON'], { output: { format: 'json', given: true } }],
  ])('%s', (_title, args, values) => {
    expect(parseFlags(table, args)).toMatchObject({ kind: 'values', values })
  })

  test.each([
    [['-bogus'], 'flag provided but not defined: -bogus'],
    [['-bogus=1'], 'flag provided but not defined: -bogus'],
    [['-constructor'], 'flag provided but not defined: -constructor'],
    [['---name'], 'bad flag syntax: ---name'],
    [['-=x'], 'bad flag syntax: -=x'],
    [['-name'], 'flag needs an argument: -name'],
    [['-count', 'x'], 'invalid value "x" for flag -count: parse error'],
    [['-count', '99999999999999999999'], 'invalid value "99999999999999999999" for flag -count: value out of range'],
    [['-on=x'], 'invalid boolean value "x" for -on: parse error'],
    [['-ttl', 'x'], 'invalid value "x" for flag -ttl: parse error'],
    [['-wait', '5'], 'invalid value "5" for flag -wait: time: invalid duration "5"'],
    [['-output', 'foo'], 'invalid value "foo" for flag -output: bad formatter flag: unknown format option: "foo"'],
    [
      ['-output', 'json', '-output', 'pretty'],
      'invalid value "pretty" for flag -output: the output format has already been set to "json"',
    ],
  ])('complains of %j as Go does', (args, message) => {
    expect(parseFlags(table, args)).toEqual({ kind: 'error', message })
  })

  test.each([[['-h']], [['--help']], [['-on', '-help=x']]])('%j asks for help', (args) => {
    expect(parseFlags(table, args)).toEqual({ kind: 'help' })
  })
})

test('usageText is laid out as by Go: sorted, the type after the name, defaults that are not zero', () => {
  const some = { ...table, v: boolean('one letter') }
  expect(usageText('entry show', some)).toBe(
    [
      'Usage of entry show:',
      '  -banned value',
      '    \tthree',
      '  -count int',
      '    \ta number (default 600)',
      '  -item value',
      '    \tmany',
      '  -list value',
      '    \tcommas',
      '  -name string',
      '    \ta name (default "x")',
      '  -on',
      '    \ta switch',
      '  -output value',
      '    \tDesired output format (pretty, json); default: pretty.',
      '  -set',
      '    \tset once given',
      '  -ttl duration',
      '    \ta span (default 1h0m0s)',
      '  -v\tone letter',
      '  -wait value',
      '    \ta span of its own type (default 5s)',
      '',
    ].join('\n'),
  )
})

test.each([
  ['0', 0],
  ['1h', 3600],
  ['1.5m', 90],
  ['.5s', 0.5],
  ['1h1m1s1ms', 3661.001],
  ['+2us', 2e-6],
  ['2µs', 2e-6],
  ['5', undefined],
  ['', undefined],
  ['-', undefined],
  ['1', undefined],
  ['1d', undefined],
  ['s', undefined],
  ['.s', undefined],
  ['1s ', undefined],
  ['9999999h', undefined],
])('parseDuration reads %j', (value, seconds) => {
  if (seconds === undefined) expect(parseDuration(value)).toBeUndefined()
  else expect(parseDuration(value)).toBeCloseTo(seconds, 9)
})

test.each([
  [0, '0s'],
  [59, '59s'],
  [60, '1m0s'],
  [2592000, '720h0m0s'],
])('durationText of %d seconds', (seconds, expected) => {
  expect(durationText(seconds)).toBe(expected)
})
