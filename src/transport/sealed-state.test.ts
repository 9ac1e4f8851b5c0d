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
