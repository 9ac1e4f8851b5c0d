import { expect, test } from 'vitest'
import { memoryUses } from '../../test/support/memory-uses.ts'
import { rejection } from '../../test/support/server.ts'
import { StateSeal } from './sealed-state.ts'

const clock = { nowMs: () => 1_700_000_000_000 }
const secret = new Uint8Array(32).fill(1)
const [state, boundTo] = [Uint8Array.of(1, 2, 3), Uint8Array.of(4)]
const sealOf = (trustDomain: string) => new StateSeal(secret, trustDomain, clock, memoryUses())

test('a replica opens what another one sealed', async () => {
  const sealed = await sealOf('example.org').seal(state, boundTo)
  expect(await sealOf('example.org').open(sealed, boundTo)).toEqual(state)
})

test('a trust domain does not open what another one with the same secret sealed', async () => {
  const sealed = await sealOf('staging.example.org').seal(state, boundTo)
  expect(await rejection(sealOf('example.org').open(sealed, boundTo))).toMatch(/^INVALID_ARGUMENT: .*not valid/)
})

test('a state is opened once, by whoever answers for the other', async () => {
  const uses = memoryUses()
  const replicas = [1, 2].map(() => new StateSeal(secret, 'example.org', clock, uses))
  const sealed = await replicas[0]!.seal(state, boundTo)
  expect(await replicas[1]!.open(sealed, boundTo)).toEqual(state)
  for (const replica of replicas)
    expect(await rejection(replica.open(sealed, boundTo))).toBe(
      'INVALID_ARGUMENT: the attestation state is too old or was used before',
    )
  // Another one is not the same.
  expect(await replicas[0]!.open(await replicas[0]!.seal(state, boundTo), boundTo)).toEqual(state)
})

test.each([
  [-60_001, false],
  [-60_000, true],
  [0, true],
  [60_000, true],
  [60_001, false],
])('a state is opened within a minute of its making: after %i ms: %s', async (ms, opened) => {
  const time = { ms: 1_700_000_000_000 }
  const own = new StateSeal(secret, 'example.org', { nowMs: () => time.ms }, memoryUses())
  const sealed = await own.seal(state, boundTo)
  time.ms += ms
  expect(await rejection(own.open(sealed, boundTo))).toMatch(opened ? /^OK$/ : /too old or was used before$/)
})

test('the mark of a state outlives it, on whichever clock', async () => {
  const marks: number[][] = []
  const uses = {
    take: async (_: string, until: number, now: number) => {
      marks.push([until, now])
      return true
    },
  }
  const time = { ms: 1_700_000_030_000 }
  const own = new StateSeal(secret, 'example.org', { nowMs: () => time.ms }, uses)
  const ahead = await own.seal(state, boundTo)
  time.ms -= 30_000
  await own.open(ahead, boundTo)
  const behind = await own.seal(state, boundTo)
  time.ms += 30_000
  await own.open(behind, boundTo)
  expect(marks).toEqual([
    [1_700_000_150, 1_700_000_000],
    [1_700_000_150, 1_700_000_030],
  ])
})

test('nothing else is opened: another key, another binding, a changed byte, a part, rubbish', async () => {
  const sealed = await sealOf('example.org').seal(state, boundTo)
  const foreign = new StateSeal(
    secret.map(() => 2),
    'example.org',
    clock,
    memoryUses(),
  )
  const invalid = 'INVALID_ARGUMENT: the attestation state is not valid'
  expect(await rejection(foreign.open(sealed, boundTo))).toBe(invalid)
  for (const other of [Uint8Array.of(), Uint8Array.of(5), Uint8Array.of(4, 4)])
    expect(await rejection(sealOf('example.org').open(sealed, other))).toBe(invalid)
  for (let at = 0; at < sealed.length - 1; at += 1) {
    const changed = `${sealed.slice(0, at)}${sealed[at] === 'A' ? 'B' : 'A'}${sealed.slice(at + 1)}`
    expect(await rejection(sealOf('example.org').open(changed, boundTo))).toBe(invalid)
  }
  for (const text of ['', 'x', '!', sealed.slice(0, -4), sealed.slice(0, 16), `${sealed}AAAA`])
    expect(await rejection(sealOf('example.org').open(text, boundTo))).toBe(invalid)
})

test('what is handed out hides the state, and is another each time', async () => {
  const seal = sealOf('example.org')
  const many = await Promise.all(Array.from({ length: 20 }, () => seal.seal(new Uint8Array(64), boundTo)))
  expect(new Set(many.map((text) => text.slice(0, 16))).size).toBe(20)
  for (const text of many) expect(text).not.toContain('AAAAAAAA')
})
