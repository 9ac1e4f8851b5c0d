import { mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { replaceFile } from '../src/plugins/replace-file.ts'
import { dropDuplicateHints } from './entry.ts'
import { isRotationDue } from './rotation-rule.ts'
import { StateFile } from './state.ts'

const folder = () => mkdtempSync(join(tmpdir(), 'turret-state-'))
const der = (fill: number) => new Uint8Array(100).fill(fill)

test('what was saved is there after a restart, in the format of SPIRE', async () => {
  const place = folder()
  const file = await StateFile.open(place, replaceFile)
  expect(file.state).toMatchObject({ svid: [], bundle: [], bootstrapUse: 0 })
  await file.save({ svid: [der(1), der(2)], bundle: [der(3)], reattestable: true, bootstrapUse: 2 })
  const text = readFileSync(join(place, 'agent-data.json'), 'utf8')
  expect(text).not.toContain('\n')
  const json = JSON.parse(text)
  expect(Object.keys(json)).toEqual([
    'svid',
    'bundle',
    'reattestable',
    'bootstrap_use',
    'bootstrap_start_time',
    'connection_attempts',
  ])
  expect(Buffer.from(json.bundle[0], 'base64').toString()).toMatch(
    /^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=]{64}\n[\s\S]*-----END CERTIFICATE-----\n$/,
  )
  expect(statSync(join(place, 'agent-data.json')).mode & 0o777).toBe(0o600)
  const again = await StateFile.open(place, replaceFile)
  expect(again.state).toEqual(file.state)
  await again.forgetSvid()
  expect(JSON.parse(readFileSync(join(place, 'agent-data.json'), 'utf8'))).toMatchObject({
    svid: null,
    reattestable: false,
    bundle: json.bundle,
  })
})

test.each(['', 'x', '[]', '{"svid":"x"}', '{"svid":["AAAA"]}', 'null'])(
  'a file that holds %j is refused and left alone',
  async (text) => {
    const place = folder()
    writeFileSync(join(place, 'agent-data.json'), text)
    await expect(StateFile.open(place, replaceFile)).rejects.toThrow('failed to open storage')
    expect(readFileSync(join(place, 'agent-data.json'), 'utf8')).toBe(text)
  },
)

test('writes follow one another', async () => {
  const place = folder()
  const file = await StateFile.open(place, replaceFile)
  await Promise.all(Array.from({ length: 20 }, (_, index) => file.save({ connectionAttempts: index })))
  expect(JSON.parse(readFileSync(join(place, 'agent-data.json'), 'utf8')).connection_attempts).toBe(19)
})

const DAY = 86400
test.each<[string, number, number, number, boolean]>([
  ['early', 3600, 0.5, 1799, false],
  ['at half its life', 3600, 0.5, 1800, true],
  ['with the latest luck', 3600, 0, 1979, false],
  ['with the earliest luck', 3600, 0.999, 1621, true],
])('half-life: %s', (_, total, random, age, due) => {
  expect(isRotationDue({ notBefore: 0, notAfter: total }, age, { random: () => random })).toBe(due)
})

test.each<[string, number, number, boolean]>([
  ['an outage of a day is survived', 3 * DAY, 2 * DAY, true],
  ['there is still more than a day', 3 * DAY, 1.4 * DAY, false],
  ['a life too short for the target falls back to half of it', 1.2 * DAY, 0.3 * DAY, false],
])('availability: %s', (_, total, age, due) => {
  expect(
    isRotationDue({ notBefore: 0, notAfter: total }, age, { random: () => 0.5, availabilityTargetSeconds: DAY }),
  ).toBe(due)
})

test('of entries with one hint the oldest stays, then the smaller id', () => {
  const one = (id: string, hint: string, createdAt: number) =>
    ({ id, hint, createdAt }) as Parameters<typeof dropDuplicateHints<{ id: string }>>[0][number] & {
      hint: string
      createdAt: number
    }
  const items = [one('c', 'x', 5), one('a', 'x', 9), one('b', 'x', 5), one('d', '', 1), one('e', '', 1)]
  const ignored: string[] = []
  const left = dropDuplicateHints(
    items,
    (item) => item as never,
    (entry) => ignored.push(entry.id),
  )
  expect(left.map(({ id }) => id)).toEqual(['b', 'd', 'e'])
  expect(ignored).toEqual(['c', 'a'])
})
