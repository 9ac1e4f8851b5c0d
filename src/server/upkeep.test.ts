import { expect, test } from 'vitest'
import { TD, testServer } from '../../test/support/server.ts'
import { silentLog } from '../core/log.ts'
import { upkeepOf, upkeepTasks } from './upkeep.ts'

function tasks() {
  const runs: string[] = []
  return {
    runs,
    tasks: [
      { everyMs: 10_000, run: async () => void runs.push('often') },
      {
        everyMs: 60_000,
        failure: 'Could not',
        run: async () => {
          runs.push('fails')
          throw new Error('no')
        },
      },
      { everyMs: 3600_000, run: async () => void runs.push('seldom') },
    ],
  }
}

test('the first maintain does everything, later ones what is due, and a failure keeps nothing else from running', async () => {
  const { runs, tasks: all } = tasks()
  const upkeep = upkeepOf(all, silentLog)
  expect(upkeep.due(1000)).toBe(true)
  await upkeep.maintain(1000)
  expect(runs.splice(0)).toEqual(['often', 'fails', 'seldom'])
  expect(upkeep.due(1009)).toBe(false)
  await upkeep.maintain(1009)
  expect(runs.splice(0)).toEqual([])
  expect(upkeep.due(1010)).toBe(true)
  await upkeep.maintain(1010)
  expect(runs.splice(0)).toEqual(['often'])
  await upkeep.maintain(1100)
  expect(runs.splice(0)).toEqual(['often', 'fails'])
})

test('what nobody came for goes: join tokens a day after their end', async () => {
  const { store, clock } = await testServer()
  const now = clock.ms / 1000
  for (const age of [86_399, 86_401]) {
    await store.joinTokens.create({ value: `ended ${age} seconds ago`, expiresAt: now - age })
  }
  const none = {} as never
  const all = upkeepTasks({
    trustDomain: TD,
    caTtlSeconds: 3600,
    nodePruning: undefined,
    store,
    keyManager: none,
    manager: none,
    svid: none,
    clock,
    log: silentLog,
  })
  await all.find(({ failure }) => failure === 'Could not prune join tokens')!.run()
  expect(await store.joinTokens.consume('ended 86399 seconds ago')).toBeDefined()
  expect(await store.joinTokens.consume('ended 86401 seconds ago')).toBeUndefined()
})

test('calls at the same time share one run', async () => {
  const { runs, tasks: all } = tasks()
  const upkeep = upkeepOf(all, silentLog)
  await Promise.all([upkeep.maintain(1000), upkeep.maintain(1000)])
  expect(runs).toEqual(['often', 'fails', 'seldom'])
})
