import { expect, test } from 'vitest'
import { betweenArrivals } from './between-arrivals.ts'

function recorded() {
  const turns: (() => void)[] = []
  const clock = { ms: 0 }
  const { arrived, later } = betweenArrivals(
    () => clock.ms,
    (turn) => turns.push(turn),
    (turn) => turns.push(turn),
  )
  let done = 0
  later(() => done++)
  return { arrived, clock, turn: () => turns.shift()?.(), done: () => done }
}

test('work is done in the next turn if nobody came', () => {
  const { turn, done } = recorded()
  expect(done()).toBe(0)
  turn()
  expect(done()).toBe(1)
})

test('work waits until nobody has come for two milliseconds', () => {
  const { arrived, clock, turn, done } = recorded()
  for (clock.ms = 0; clock.ms < 20; clock.ms++) {
    arrived()
    turn()
  }
  expect(done()).toBe(0)
  turn()
  expect(done()).toBe(0)
  clock.ms += 1
  turn()
  expect(done()).toBe(1)
})

test('work waits no longer than 25 milliseconds for arrivals to stop', () => {
  const { arrived, clock, turn, done } = recorded()
  for (clock.ms = 0; clock.ms < 25; clock.ms++) {
    arrived()
    turn()
  }
  expect(done()).toBe(0)
  arrived()
  turn()
  expect(done()).toBe(1)
})
