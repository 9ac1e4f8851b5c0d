import { expect, test } from 'vitest'
import { rfc3339 } from '../core/rfc3339.ts'
import { localTimeText, utcTimeText } from './time.ts'

// As Go 1.26 prints time.Unix(seconds, 0).UTC().
test.each([
  [0, '1970-01-01T00:00:00Z'],
  [-1, '1969-12-31T23:59:59Z'],
  [1_800_000_000, '2027-01-15T08:00:00Z'],
  [951_782_400, '2000-02-29T00:00:00Z'],
  [253_402_300_799, '9999-12-31T23:59:59Z'],
  [253_402_300_800, '10000-01-01T00:00:00Z'],
  [9_007_199_254_740_991, '285428751-11-12T07:36:31Z'],
  [-62_135_596_800, '0001-01-01T00:00:00Z'],
  [-62_167_219_201, '-0001-12-31T23:59:59Z'],
])('%i is %s', (seconds, text) => {
  expect(rfc3339(seconds)).toBe(text)
  expect(utcTimeText(seconds)).toBe(`${text.replace('T', ' ').slice(0, -1)} +0000 UTC`)
})

test('times are the same by our calendar and by that of the runtime, wherever it has one', () => {
  for (let seconds = -62_000_000_000; seconds < 250_000_000_000; seconds += 1_234_567_891) {
    expect(rfc3339(seconds)).toBe(`${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`)
  }
})

test('the local text of a moment that the runtime cannot say ends nothing', () => {
  expect(localTimeText(9_007_199_254_740_991, { TZ: 'UTC' })).toMatch(/^2854287\d\d-\d\d-\d\d /)
})
