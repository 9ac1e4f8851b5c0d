import { mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { memoryWrappedKeys } from '../../../test/support/wrapped-keys.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { memoryKeyManager } from './memory.ts'
import { paced } from './remote-signer.ts'
import { serverIdOf, started } from './service.ts'

const newFile = () => join(mkdtempSync(join(tmpdir(), 'turret-name-')), 'id')
const clock = { nowMs: () => 17_000 }

test('the name of a server is the one it is given, or one that a file keeps from its first start on', () => {
  const file = newFile()
  expect(serverIdOf({ value: 'given', file })).toBe('given')
  const made = serverIdOf({ value: '', file })
  expect(made).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  expect(readFileSync(file, 'utf8')).toBe(made)
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(serverIdOf({ value: '', file })).toBe(made)
  writeFileSync(file, `  ${made.toUpperCase()}\n`)
  expect(serverIdOf({ value: '', file })).toBe(made)
})

test.each(['', 'x', '00000000-0000-4000-8000-000000000000 x', 'x00000000-0000-4000-8000-000000000000'])(
  'a file that holds %j names nobody: another name would be another server, without its keys',
  (text) => {
    const file = newFile()
    writeFileSync(file, text)
    expect(() => serverIdOf({ value: '', file })).toThrow('failed to parse server ID from path')
    expect(readFileSync(file, 'utf8')).toBe(text)
  },
)

/** A manager that notes what it is asked. */
function noting(): { readonly manager: KeyManager; readonly asked: unknown[] } {
  const asked: unknown[] = []
  const inner = memoryKeyManager()
  return {
    asked,
    manager: {
      ...inner,
      async getKeys() {
        asked.push('getKeys')
        return inner.getKeys()
      },
      async maintain(now) {
        asked.push(now)
      },
      async generateKey(id, type) {
        asked.push(id)
        return inner.generateKey(id, type)
      },
    },
  }
}

test('a service that does not let us in stops the start, not the first signature', async () => {
  const { manager, asked } = noting()
  await started(manager, undefined, clock)
  expect(asked).toEqual(['getKeys', 17])
  const away: KeyManager = { ...manager, getKeys: () => Promise.reject(new Error('permission denied')) }
  await expect(started(away, undefined, clock)).rejects.toThrow('permission denied')
  await expect(started(away, 'all of us', clock)).rejects.toThrow('permission denied')
  const broken: KeyManager = { ...manager, maintain: () => Promise.reject(new Error('no maintenance')) }
  await expect(started(broken, undefined, clock)).rejects.toThrow('no maintenance')
  const { maintain: _, ...lazy } = manager
  await started(lazy, undefined, clock)
})

test('keys are shared only if they are said to be', async () => {
  const { manager } = noting()
  expect((await started(manager, undefined, clock)).shared).toBeUndefined()
  const { shared } = await started(manager, 'all of us', clock)
  expect(shared).toMatchObject({ scope: 'all of us', needsRewrap: false })
  await shared!.rewrap(memoryWrappedKeys())
})

test('who lost the lease of shared keys makes none', async () => {
  const { manager, asked } = noting()
  const { shared } = await started(manager, 'all of us', clock)
  asked.length = 0
  const keys = memoryWrappedKeys()
  const held = shared!.through(keys)
  await held.generateKey('x', 'ec-p256')
  expect(asked).toEqual(['x'])
  const lost = shared!.through({ ...keys, delete: () => Promise.reject(new Error('the lease is lost')) })
  await expect(lost.generateKey('y', 'ec-p256')).rejects.toThrow('the lease is lost')
  expect(asked).toEqual(['x'])
  expect(await lost.getKey('x')).toBeDefined()
})

test('the sign of the lease is no key that anybody has', async () => {
  const deleted: string[] = []
  const { shared } = await started(memoryKeyManager(), 'all of us', clock)
  const keys = { ...memoryWrappedKeys(), delete: async (id: string) => void deleted.push(id) }
  await shared!.through(keys).generateKey('x', 'ec-p256')
  expect(deleted).toEqual([''])
})

test('no more calls run at once than may, those that wait come in their order, and one that fails makes room', async () => {
  const inTurn = paced(2)
  const began: number[] = []
  const ends: (() => void)[] = []
  const calls = [0, 1, 2, 3].map((index) =>
    inTurn(
      () =>
        new Promise<number>((resolve, reject) => {
          began.push(index)
          ends[index] = () => (index === 0 ? reject(new Error('no')) : resolve(index))
        }),
    ),
  )
  const settled = () => new Promise((resolve) => setImmediate(resolve))
  const failed = expect(calls[0]).rejects.toThrow('no')
  await settled()
  expect(began).toEqual([0, 1])
  ends[0]!()
  await failed
  await settled()
  expect(began).toEqual([0, 1, 2])
  ends[1]!()
  ends[2]!()
  await settled()
  expect(began).toEqual([0, 1, 2, 3])
  // The place of the last one is free again, and only that.
  ends[3]!()
  expect(await Promise.all(calls.slice(1))).toEqual([1, 2, 3])
  const again = [4, 5, 6].map((index) => inTurn(() => new Promise<void>((resolve) => (ends[index] = resolve))))
  await settled()
  expect([ends[4], ends[5], ends[6]].map((end) => end !== undefined)).toEqual([true, true, false])
  ends[4]!()
  ends[5]!()
  await settled()
  ends[6]!()
  await Promise.all(again)
})
