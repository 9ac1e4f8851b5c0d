import { expect, test } from 'vitest'
import { fairTurns } from './fair-turns.ts'

function recorded(perTurn: number) {
  const turns: (() => void)[] = []
  const started: string[] = []
  const fair = fairTurns<string>({ perTurn, later: (turn) => turns.push(turn) })
  return {
    started,
    take: (user: string, name: string) => fair.take(user, () => started.push(name)),
    /** One turn of the event loop. @returns false if none was asked for */
    turn() {
      const turn = turns.shift()
      turn?.()
      expect(turns.length).toBeLessThanOrEqual(1)
      return turn !== undefined
    },
  }
}

test('what comes while nobody waits starts at once', () => {
  const { started, take, turn } = recorded(2)
  take('a', 'a1')
  expect(started).toEqual(['a1'])
  turn()
  take('b', 'b1')
  expect(started).toEqual(['a1', 'b1'])
})

test('a burst starts a few a turn, and another user is behind one of it, not behind all', () => {
  const { started, take, turn } = recorded(2)
  for (let number = 1; number <= 1000; number++) take('a', `a${number}`)
  expect(started).toEqual(['a1', 'a2'])
  take('b', 'b1')
  take('b', 'b2')
  turn()
  expect(started.slice(2)).toEqual(['a3', 'b1'])
  turn()
  expect(started.slice(4)).toEqual(['a4', 'b2'])
  while (turn());
  expect(started).toHaveLength(1002)
  expect(started.at(-1)).toBe('a1000')
})

test('a user who came back waits behind those who wait', () => {
  const { started, take, turn } = recorded(1)
  take('a', 'a1')
  for (const user of ['b', 'c', 'a']) take(user, `${user}2`)
  take('b', 'b3')
  while (turn());
  expect(started).toEqual(['a1', 'b2', 'c2', 'a2', 'b3'])
})

test('what starts may ask for another start', () => {
  const turns: (() => void)[] = []
  const fair = fairTurns<string>({ perTurn: 1, later: (turn) => turns.push(turn) })
  const started: number[] = []
  const again = (number: number) => () => {
    started.push(number)
    if (number < 5) fair.take('a', again(number + 1))
  }
  fair.take('a', again(1))
  while (turns.length > 0) turns.shift()!()
  expect(started).toEqual([1, 2, 3, 4, 5])
})

test('nothing is planned once all has started', () => {
  const { take, turn } = recorded(2)
  for (const name of ['a1', 'a2', 'a3']) take('a', name)
  let turns = 0
  while (turn()) turns++
  expect(turns).toBe(2)
})
