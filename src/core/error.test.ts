import { expect, test } from 'vitest'
import { errorMessage, StatusError } from './error.ts'

test.each<[unknown, string]>([
  [new Error('why'), 'why'],
  [new StatusError('NOT_FOUND', 'none'), 'none'],
  ['a text', 'a text'],
  [undefined, 'undefined'],
  [Symbol('s'), 'Symbol(s)'],
  [
    Object.assign(new Error('EACCES: x'), { code: 'EACCES', syscall: 'open', path: '/x' }),
    'open /x: permission denied',
  ],
  [Object.assign(new Error('as it is'), { code: 'EACCES' }), 'as it is'],
  [Object.assign(new Error('as it is'), { code: 'constructor', path: '/x' }), 'as it is'],
])('the text of %o is %j', (thrown, text) => {
  expect(errorMessage(thrown)).toBe(text)
})

test('what has no text, or one that throws, is told by its kind', () => {
  const hostile = {
    toString() {
      throw new Error('not you')
    },
  }
  for (const thrown of [Object.create(null), hostile]) expect(errorMessage(thrown)).toBe('object')
})
