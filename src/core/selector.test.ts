import fc from 'fast-check'
import { expect, test } from 'vitest'
import { normaliseSelectors, requireSelector, type Selector, selectorText } from './selector.ts'

const text = fc.string({
  unit: fc.oneof(
    fc.constantFrom('a', '\u{1f600}', '\uff5e', '\ue000'),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
  ),
})
const selectors = fc.array(fc.record({ type: text, value: text }))
const inUtf8 = (a: Selector, b: Selector) => {
  const order = Buffer.compare(Buffer.from(a.type), Buffer.from(b.type))
  return order === 0 ? Buffer.compare(Buffer.from(a.value), Buffer.from(b.value)) : order
}

test('selectors are in the order of their bytes in UTF-8, each once, whatever order they came in', () => {
  fc.assert(
    fc.property(selectors, fc.infiniteStream(fc.nat()), (given, picks) => {
      const unique = [...new Map(given.map((one) => [JSON.stringify([one.type, one.value]), one])).values()]
      const shuffled = [...given]
      for (let index = shuffled.length - 1; index > 0; index -= 1) {
        const other = picks.next().value! % (index + 1)
        ;[shuffled[index], shuffled[other]] = [shuffled[other]!, shuffled[index]!]
      }
      // `type:value` tells selectors apart because a type has no colon.
      fc.pre(given.every(({ type }) => !type.includes(':')))
      expect(normaliseSelectors(shuffled)).toEqual(unique.sort(inUtf8))
    }),
  )
})

test.each([
  [{ type: '', value: 'v' }, 'missing selector type'],
  [{ type: 'a:b', value: 'v' }, "selector type contains ':'"],
  [{ type: 'a', value: '' }, 'missing selector value'],
])('a selector like %o is refused', (selector, message) => {
  expect(() => requireSelector(selector)).toThrow(message)
})

test('a selector that has a type without colon and a value is taken, and written with one between', () => {
  const selector = { type: 'unix', value: 'uid:1' }
  expect(requireSelector(selector)).toBe(selector)
  expect(selectorText(selector)).toBe('unix:uid:1')
})
