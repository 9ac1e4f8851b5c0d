import { expect, test } from 'vitest'
import { DAY, type OpenStore, START, world } from '../support/replicas.ts'

/** Lets others go on; what they wait for may be another process. */
const pause = () => new Promise<void>((resolve) => setTimeout(resolve, 5))

/**
 * What replicas that share their keys do on a database, all at once.
 * @param newDatabase how replicas open one new database, each for itself; undefined: they share a store in memory
 */
export function sharedAuthoritiesSuite(newDatabase: () => Promise<OpenStore | undefined>): void {
  test('replicas that start at once make one authority of each kind, and all sign with it', async () => {
    const { replica, living, sign, store } = await world(await newDatabase())
    const replicas = await Promise.all([replica(), replica(), replica()])
    await Promise.all(replicas.map(({ manager }) => manager.start(pause)))
    const { x509, jwt, wit } = await living()
    expect([x509.length, jwt.length, wit.length]).toEqual([1, 1, 1])
    expect(new Set(await Promise.all(replicas.map(({ ca }) => sign(ca)))).size).toBe(1)
    expect(await store.journals.list()).toHaveLength(1)
  }, 20_000)

  test('replicas that rotate at once prepare one successor and change over together', async () => {
    const { replica, living, sign, time } = await world(await newDatabase())
    const replicas = await Promise.all([replica(), replica()])
    const rotateAll = () => Promise.all(replicas.map(({ manager }) => manager.rotate()))
    await Promise.all(replicas.map(({ manager }) => manager.start(pause)))
    const first = await sign(replicas[0]!.ca)
    time.now += DAY / 2 + 1
    await rotateAll()
    await rotateAll()
    expect((await living()).x509).toHaveLength(2)
    expect((await living()).jwt).toHaveLength(2)
    expect(new Set(replicas.map(({ manager }) => manager.x509Slots.next.authorityId)).size).toBe(1)
    time.now = START + (DAY * 5) / 6 + 1
    await rotateAll()
    time.now += 5
    const signers = await Promise.all(replicas.map(({ ca }) => sign(ca)))
    expect(new Set(signers).size).toBe(1)
    expect(signers[0]).not.toBe(first)
    expect((await living()).x509).toHaveLength(2)
  }, 20_000)

  test('at most three authorities of a kind live through days of rotations at once', async () => {
    const { replica, living, sign, time } = await world(await newDatabase())
    const replicas = await Promise.all([replica(), replica(), replica()])
    await Promise.all(replicas.map(({ manager }) => manager.start(pause)))
    for (let round = 0; round < 24; round++) {
      time.now += DAY / 8 + 7
      if (round % 5 === 4) replicas[round % 3] = await replica()
      // Signing does what is overdue, beside those that are asked to.
      await Promise.all(replicas.flatMap(({ manager, ca }) => [manager.rotate(), sign(ca)]))
      const { x509, jwt, wit } = await living()
      for (const kind of [x509, jwt, wit]) expect(kind.length).toBeLessThanOrEqual(3)
    }
    time.now += 5
    expect(new Set(await Promise.all(replicas.map(({ ca }) => sign(ca)))).size).toBe(1)
  }, 30_000)
}
