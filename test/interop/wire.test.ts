import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { buildGo, goVerdicts } from '../vectors/wire/go.ts'
import { malformed } from '../vectors/wire/malformed.ts'
import { difference, fromHex, toHex } from '../vectors/wire/messages.ts'

const hasGo = spawnSync('go', ['version']).status === 0

describe.skipIf(!hasGo)(`protobuf for Go${hasGo ? '' : ' (skipped: there is no go)'}`, () => {
  let program = ''
  beforeAll(() => {
    program = buildGo()
  }, 120_000)

  test('says today what was recorded of it', () => {
    const lines = readFileSync(join(import.meta.dirname, '../vectors/wire/cases.txt'), 'utf8')
      .trimEnd()
      .split('\n')
    const cases = lines.map((line) => ({ type: line.split(' ')[0]!, bytes: fromHex(line.split(' ')[1]!) }))
    const verdicts = goVerdicts(program, cases)
    expect(cases.map(({ type, bytes }, index) => `${type} ${toHex(bytes)} ${verdicts[index]}`)).toEqual(lines)
  })

  test('makes of any message what we make of it', () => {
    const cases = fc.sample(malformed, 3000)
    const verdicts = goVerdicts(program, cases)
    const different = cases.flatMap((one, index) => {
      const found = difference(one, verdicts[index]!)
      return found === undefined ? [] : [`${one.type} ${toHex(one.bytes)}\n${found}`]
    })
    expect(different).toEqual([])
  }, 30_000)
})
