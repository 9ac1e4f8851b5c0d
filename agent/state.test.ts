import { mkdirSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { replaceFile } from '../src/plugins/replace-file.ts'
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

const base64 = (text: string) => Buffer.from(text).toString('base64')
const PEM = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'

test.each([
  ['nothing', '', 'Unexpected end of JSON input'],
  ['no JSON', 'x', 'Unexpected token'],
  ['a list', '[]', 'a JSON object is expected'],
  ['null', 'null', 'a JSON object is expected'],
  ['a text for the chain', '{"svid":"x"}', '"svid" is not a list'],
  ['bytes for a certificate', '{"svid":["AAAA"]}', 'holds something that is not a PEM certificate'],
  ['a number for the roots', '{"bundle":7}', '"bundle" is not a list'],
  [
    'something before a certificate',
    JSON.stringify({ bundle: [base64(`x\n${PEM}`)] }),
    'holds something that is not a PEM certificate',
  ],
  [
    'something behind a certificate',
    JSON.stringify({ bundle: [base64(`${PEM}${PEM}`)] }),
    'holds something that is not a PEM certificate',
  ],
  [
    'a certificate without its end',
    JSON.stringify({ svid: [base64(PEM.slice(0, -2))] }),
    'holds something that is not a PEM certificate',
  ],
  [
    'a key',
    JSON.stringify({ svid: [base64(PEM.replaceAll('CERTIFICATE', 'PRIVATE KEY'))] }),
    'holds something that is not a PEM certificate',
  ],
])('a file that holds %s is refused and left alone', async (_, text, reason) => {
  const place = folder()
  writeFileSync(join(place, 'agent-data.json'), text)
  const opening = StateFile.open(place, replaceFile)
  await expect(opening).rejects.toThrow('failed to open storage')
  await expect(opening).rejects.toThrow(reason)
  expect(readFileSync(join(place, 'agent-data.json'), 'utf8')).toBe(text)
})

test('a file that says nothing is an agent that knows nothing', async () => {
  const place = folder()
  const fresh = await StateFile.open(place, replaceFile)
  for (const text of ['{}', '{"svid":null,"bundle":null}']) {
    writeFileSync(join(place, 'agent-data.json'), text)
    expect((await StateFile.open(place, replaceFile)).state).toEqual(fresh.state)
  }
  expect(fresh.state).toMatchObject({ svid: [], bundle: [], reattestable: false, bootstrapUse: 0 })
})

test('what cannot be read is not taken for nothing: the agent would trust its bootstrap bundle again', async () => {
  const place = folder()
  mkdirSync(join(place, 'agent-data.json'))
  await expect(StateFile.open(place, replaceFile)).rejects.toThrow('failed to open storage')
})

test('only what has its type is taken up', async () => {
  const place = folder()
  const read = async (text: string) => {
    writeFileSync(join(place, 'agent-data.json'), text)
    return (await StateFile.open(place, replaceFile)).state
  }
  const { reattestable, bootstrapUse, bootstrapStartTime, connectionAttempts } = await read('{}')
  const odd =
    '{"reattestable":"true","bootstrap_use":3,"bootstrap_start_time":7,"connection_attempts":"9","svid":[],"bundle":[]}'
  expect(await read(odd)).toMatchObject({ reattestable, bootstrapUse, bootstrapStartTime, connectionAttempts })
  for (const use of [1, 2] as const) {
    const own = `{"reattestable":true,"bootstrap_use":${use},"bootstrap_start_time":"2026-01-01T00:00:00Z","connection_attempts":9}`
    expect(await read(own)).toMatchObject({
      reattestable: true,
      bootstrapUse: use,
      bootstrapStartTime: '2026-01-01T00:00:00Z',
      connectionAttempts: 9,
    })
  }
})

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
