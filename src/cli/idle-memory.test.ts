import { expect, test } from 'vitest'
import { idleMemoryTask, type Usage } from './idle-memory.ts'

const MIB = 1024 * 1024

/** A process at rest with 100 MiB, of which collecting leaves as much as `leaves` says. */
function processOf(leaves: number) {
  const now = { cpuMs: 0, residentBytes: 100 * MIB, heapBytes: 20 * MIB }
  let collected = 0
  const task = idleMemoryTask(
    () => ({ ...now }),
    async () => {
      collected++
      now.residentBytes = leaves
      now.cpuMs += 200
    },
  )
  /** What the process uses at the next look. @returns how often it had collected by then */
  const look = async (usage: Partial<Usage>) => {
    Object.assign(now, usage)
    await task.run()
    return collected
  }
  return { look }
}

test('what a burst took is given back once it is over, and only once', async () => {
  const { look } = processOf(120 * MIB)
  expect(await look({ cpuMs: 9_000, residentBytes: 220 * MIB })).toBe(0)
  expect(await look({ cpuMs: 9_100 })).toBe(1)
  // What could not be given back is no reason to try again.
  expect(await look({ cpuMs: 9_400 })).toBe(1)
  expect(await look({ residentBytes: 130 * MIB })).toBe(1)
  expect(await look({ residentBytes: 137 * MIB })).toBe(2)
})

test('nothing is collected while there is work', async () => {
  const { look } = processOf(100 * MIB)
  for (let looks = 1; looks <= 10; looks++) expect(await look({ cpuMs: looks * 201, residentBytes: 300 * MIB })).toBe(0)
  expect(await look({ cpuMs: 2010 + 199 })).toBe(1)
})

test('a heap that takes long to collect is left alone', async () => {
  const { look } = processOf(100 * MIB)
  expect(await look({ heapBytes: 65 * MIB, residentBytes: 300 * MIB })).toBe(0)
  expect(await look({ heapBytes: 63 * MIB })).toBe(1)
})
