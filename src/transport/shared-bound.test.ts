import { expect, test } from 'vitest'
import { type SharedBound, sharedBound } from './shared-bound.ts'

function takeAll(bound: SharedBound<string>, holder: string): number {
  let taken = 0
  while (bound.take(holder)) taken++
  return taken
}

test('one holder gets as many as one may, and others theirs', () => {
  const bound = sharedBound<string>({ perHolder: 10, inAll: 15, few: 2, atMost: 20 })
  expect(takeAll(bound, 'a')).toBe(10)
  expect(takeAll(bound, 'b')).toBe(5)
  expect(bound).toMatchObject({ held: 15, holders: 2 })
})

test('where many took all, newcomers get a few until nothing is left', () => {
  const bound = sharedBound<string>({ perHolder: 10, inAll: 20, few: 2, atMost: 25 })
  takeAll(bound, 'a')
  takeAll(bound, 'b')
  expect(takeAll(bound, 'a')).toBe(0)
  expect(takeAll(bound, 'c')).toBe(2)
  expect(takeAll(bound, 'd')).toBe(2)
  expect(takeAll(bound, 'e')).toBe(1)
  expect(takeAll(bound, 'f')).toBe(0)
})

test('what was given back can be taken again, and nothing is kept of those who hold nothing', () => {
  const bound = sharedBound<string>({ perHolder: 2, inAll: 100 })
  for (let number = 0; number < 1000; number++) {
    expect(bound.take(`a${number}`)).toBe(true)
    bound.give(`a${number}`)
  }
  expect(bound).toMatchObject({ held: 0, holders: 0 })
  expect(takeAll(bound, 'a')).toBe(2)
  bound.give('a')
  expect(takeAll(bound, 'a')).toBe(1)
})

test('a refusal takes nothing', () => {
  const bound = sharedBound<string>({ perHolder: 1, inAll: 100 })
  bound.take('a')
  for (let number = 0; number < 5; number++) expect(bound.take('a')).toBe(false)
  bound.give('a')
  expect(bound).toMatchObject({ held: 0, holders: 0 })
})
