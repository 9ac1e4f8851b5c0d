import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { difference, fromHex } from './wire/messages.ts'

/** What protobuf for Go made of messages, and we make of them; see wire/README.md. */
const lines = readFileSync(join(import.meta.dirname, 'wire/cases.txt'), 'utf8')
  .trimEnd()
  .split('\n')

test('there are cases that Go takes and cases that it refuses', () => {
  const taken = lines.filter((line) => line.split(' ')[2] === 'ok')
  expect(taken.length).toBeGreaterThan(300)
  expect(lines.length - taken.length).toBeGreaterThan(100)
})

test('what Go takes is taken and reads the same, what it refuses is refused with its text', () => {
  const different = lines.flatMap((line) => {
    const [type, hex, ...verdict] = line.split(' ')
    const found = difference({ type: type!, bytes: fromHex(hex!) }, verdict.join(' '))
    return found === undefined ? [] : [`${line}\n${found}`]
  })
  expect(different).toEqual([])
})
