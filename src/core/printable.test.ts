import { expect, test } from 'vitest'
import { printable } from './printable.ts'

test.each([
  ['plain text, tabs\tand\nlines stay', 'plain text, tabs\tand\nlines stay'],
  ['\x1b[2Jgone', '\\x1b[2Jgone'],
  ['\u009b2J and \x7f and \r', '\\x9b2J and \\x7f and \\x0d'],
  ['grün 🙂', 'grün 🙂'],
])('%j is shown as %j', (text, shown) => expect(printable(text)).toBe(shown))
